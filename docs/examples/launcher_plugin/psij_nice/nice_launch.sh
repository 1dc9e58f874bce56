#!/bin/bash
# Runs the executable with nice. The additional argument is the level.

source "$(dirname "$0")/launcher_lib.sh"
level=$1
shift

pre_launch

log "Level $level"
code=0
nice -n "$level" "$@" < "$_PSI_J_STDIN" > "$_PSI_J_STDOUT" 2> "$_PSI_J_STDERR" || code=$?

post_launch
launcher_exit "$code"

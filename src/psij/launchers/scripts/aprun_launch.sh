#!/bin/bash
# Runs the executable with aprun. The additional arguments are PROCESSES NODES PROCESSES_PER_NODE CORES GPUS, the last
# two per process; what the job leaves open is empty. aprun has no options for nodes and GPUs.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
# -q: aprun would add a line about resources to the job's stdout
_psij_options=(-q -n "$1" ${3:+-N "$3"} ${4:+-d "$4" -cc depth})
shift 5
_psij_command=("$@")
set --  # scripts that are sourced would take the arguments for theirs

if _psij_begin pre_launch; then
    source "$_psij_script"
    _psij_end
fi

_psij_executable=${_psij_command[0]}
_psij_hide_colons
_psij_open
_psij_run aprun "${_psij_options[@]}" "${_psij_command[@]}"
_psij_explain "$_psij_executable" '[1-9]*'

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

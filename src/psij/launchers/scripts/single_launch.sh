#!/bin/bash
# Runs the executable once.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
_psij_command=("$@")
set --  # scripts that are sourced would take the arguments for theirs

if _psij_begin pre_launch; then
    source "$_psij_script"
    _psij_end
fi

_psij_open
# This shell is still needed if something comes afterwards, an EXIT trap or children of pre_launch included. A subshell
# could not go on after an exec that fails.
if [[ -z $_PSI_J_PRE_LAUNCH$_PSI_J_POST_LAUNCH && $_PSI_J_LOG_FILE == /dev/null && $BASH_SUBSHELL == 0 ]] &&
    ! declare -F _psij_launcher_done >/dev/null; then
    _psij_exec "${_psij_command[@]}" || _PSI_J_EC=$?
    _psij_explain "${_psij_command[0]}"
else
    _psij_run "${_psij_command[@]}"
fi

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

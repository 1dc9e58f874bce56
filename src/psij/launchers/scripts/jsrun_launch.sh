#!/bin/bash
# Runs the executable with jsrun. The additional arguments are PROCESSES NODES PROCESSES_PER_NODE CORES GPUS, the last
# two per process; what the job leaves open is empty. jsrun has no option for nodes.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
# A resource set per process. By default it is bound to one core, however many the set has, hence -b.
_psij_options=(-n "$1" -a 1 ${4:+-c "$4" -b rs} ${5:+-g "$5"} ${3:+-r "$3"})
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
_psij_run jsrun "${_psij_options[@]}" "${_psij_command[@]}"
_psij_explain "$_psij_executable" '[1-9]*'

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

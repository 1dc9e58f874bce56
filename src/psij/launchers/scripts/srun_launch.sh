#!/bin/bash
# Runs the executable with srun. The additional arguments are PROCESSES NODES PROCESSES_PER_NODE CORES GPUS, the last
# two per process; what the job leaves open is empty, and then it is as the allocation says.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
# --export=ALL: after `sbatch --export=NONE` the processes would have no environment at all.
_psij_options=(--export=ALL --ntasks="$1" ${2:+--nodes="$2"} ${3:+--ntasks-per-node="$3"})
# srun does not take over the number of cores from sbatch (since Slurm 22.05).
_psij_options+=(${4:+--cpus-per-task="$4"} ${5:+--gpus-per-task="$5"})
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
_psij_run srun "${_psij_options[@]}" "${_psij_command[@]}"
case $_PSI_J_EC in  # srun returns the number of the error
    2 | 13) ! _psij_is_missing "$_psij_executable" || _PSI_J_EC=$((_PSI_J_EC == 2 ? 127 : 126)) ;;
esac
_psij_explain "$_psij_executable"

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

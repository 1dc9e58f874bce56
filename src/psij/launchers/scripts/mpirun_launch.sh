#!/bin/bash
# Runs the executable with mpirun: Open MPI, MPICH, Intel MPI or another that is like MPICH. The additional argument
# is the number of processes.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
_psij_count=$1
_psij_command=("${@:2}")
set --  # scripts that are sourced would take the arguments for theirs
export PATH  # mpirun looks for its helpers there; without an inherited environment bash has one, but keeps it for itself

# The command of each process: `bash -c TEXT psij RANK_VARIABLE STDIN _EXECUTABLE _ARGUMENT...`. It is there because
# - what comes in on the stdin of mpirun is not to be relied on: other processes than the first never see its end
#   (MPICH), or even the first does not (Open MPI 5, Intel MPI); too much of it, or a process that does not read all of
#   it, ends the job (Open MPI 4, MPICH 5). So rank 0 opens the file itself and the others have nothing to read.
# - MPICH dies of SIGPIPE (exit code 141) if rank 0 is gone before it has been sent the end of stdin, so rank 0 waits
#   for that, which takes no time.
# - an argument that is just ":" would end the command as mpirun sees it, hence the underscores.
# - bash has the right exit codes and messages for what cannot be run.
# -p keeps bash from reading $BASH_ENV.
_psij_rank_script='
    input=/dev/null
    if [[ ${!1:-0} == 0 ]]; then
        input=$2
        [[ $1 != PMI_RANK ]] || read -r -t 1
    fi
    shift 2
    exec -- "${@#_}" <"$input"
'

# Reads PSIJ_NODEFILE, in which each host stands as often as it has processes. Sets $nodes to the number of hosts, 0 if
# there is no such file, and $hosts to "HOST:PROCESSES,HOST:PROCESSES...".
_psij_read_nodes() {
    local host
    local -A processes=()
    local -a names=()
    if [[ -r ${PSIJ_NODEFILE-} ]]; then
        while IFS= read -r host || [[ $host ]]; do
            [[ $host ]] || continue
            [[ ${processes[$host]-} ]] || names+=("$host")
            processes[$host]=$((${processes[$host]-0} + 1))
        done <"$PSIJ_NODEFILE"
    fi
    nodes=${#processes[@]}
    for host in ${names[@]+"${names[@]}"}; do
        hosts+=${hosts:+,}$host:${processes[$host]}
    done
}

_psij_mpirun() {
    local version nodes hosts='' own='' rank_variable=PMI_RANK
    local -a options=(-n "$_psij_count")
    local -x OPAL_OUTPUT_STDERR_FD
    _psij_read_nodes
    version=$(mpirun -version 2>&1 </dev/null) || :
    if [[ $version == *'Open MPI'* || $version == *OpenRTE* ]]; then
        rank_variable=OMPI_COMM_WORLD_RANK
        _psij_open_mpi_options
    elif [[ $nodes -gt 1 && -z ${SLURM_JOB_ID-}${PBS_JOBID-}${LSB_JOBID-}${COBALT_JOBID-} ]]; then
        options+=(-hostfile "$PSIJ_NODEFILE")  # it knows the nodes of these schedulers
    fi
    # With `sbatch --export=NONE` the daemons that mpirun starts with srun would have no environment.
    unset -v SLURM_EXPORT_ENV
    exec {_psij_in}<&-
    exec {_psij_in}</dev/null
    # Exported functions get lost on the way to other nodes, or altogether (Intel MPI).
    _psij_run mpirun "${options[@]}" \
        /bin/bash -p -c "$(declare -fx)$_psij_rank_script" psij "$rank_variable" "$_psij_stdin" "${_psij_command[@]/#/_}"
    [[ -z $own ]] || exec {own}>&-
}

# Adds to $options what Open MPI needs.
_psij_open_mpi_options() {
    local name
    if [[ $version == *OpenRTE* || $version == *'Open MPI) '[1-4].* ]]; then
        options+=(--oversubscribe)
    else
        options+=(--map-by slot:OVERSUBSCRIBE)  # mapped as by default, all processes would be on the first node
    fi
    if ((nodes <= 1)); then
        # What Open MPI 4 itself has to say goes to the launcher's stderr and not into the job's.
        exec {own}>&2
        OPAL_OUTPUT_STDERR_FD=$own
        options+=(-x OPAL_OUTPUT_STDERR_FD=2)
        # Open MPI 4 binds one or two processes to the first cores: those of all jobs on this node to the same ones.
        export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
    elif [[ -z ${SLURM_JOB_ID-} ]]; then
        # Of the schedulers, only Slurm is known to every Open MPI; where the nodes are known the list does no harm. It
        # is not a host file: there, a host that stands once would take as many processes as it has cores.
        options+=(-host "$hosts")
        # Processes on other nodes may be started with ssh: name the variables that are to go with them.
        while IFS= read -r name; do
            case $name in
                _ | SHLVL | PWD | OLDPWD | HOSTNAME | OMPI_* | PMIX_* | PRTE_*) ;;
                *) options+=(-x "$name") ;;
            esac
        done <<<"$(compgen -e)"
    fi
}

if _psij_begin pre_launch; then
    source "$_psij_script"
    _psij_end
fi

_psij_open
_psij_mpirun
_psij_explain "${_psij_command[0]}"

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

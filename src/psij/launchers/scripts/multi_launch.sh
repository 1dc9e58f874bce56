#!/bin/bash
# Runs a number of copies of the executable. The additional argument is that number.

source "${BASH_SOURCE[0]%/*}/launcher_lib.sh"
export _PSI_J_PROCESS_COUNT=$1
_psij_command=("${@:2}")
set --  # scripts that are sourced would take the arguments for theirs

# Makes the copies write to the ends of the files and not to a position that they share: not every way of writing (for
# example copy_file_range, which cat uses) sees to it that others do not write there at the same time.
_psij_append() {
    if [[ -f $_psij_stdout ]]; then
        exec {_psij_out}>&-
        exec {_psij_out}>>"$_psij_stdout"
    fi
    if [[ -f $_psij_stderr ]]; then
        exec {_psij_err}>&-
        exec {_psij_err}>>"$_psij_stderr"
    fi
}

# Starts copy number $1 in place of this shell.
_psij_start_copy() {
    export _PSI_J_PROCESS_INDEX_=$1
    if [[ -f $_psij_stdin ]]; then  # every copy reads all of it
        exec {_psij_in}<&-
        exec {_psij_in}<"$_psij_stdin"
    fi
    _psij_exec "${_psij_command[@]}"
}

# Waits for the copies, whose process ids are the indices of $_psij_pids; $_PSI_J_EC is the exit code of the first that
# failed. Bash before 5.1 cannot tell which child has ended: there the copies are waited for in the order of their start.
_psij_wait_for_all() {
    local pid ended code
    _PSI_J_EC=0
    while ((${#_psij_pids[@]})); do
        ended='' code=0
        if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)); then
            wait -n -p ended "${!_psij_pids[@]}" || code=$?
            if [[ -z ${ended-} ]] && ((code > 128)); then  # a signal for which pre_launch has set a trap
                continue
            fi
        fi
        if [[ -z ${ended-} ]]; then
            for pid in "${!_psij_pids[@]}"; do break; done
            _psij_wait_for "$pid"
        else
            if ((code != 0 && code <= 128 && _PSI_J_EC == 0)); then
                # `wait -n` may have forgotten children that were killed: see whether some went before this one
                for pid in "${!_psij_pids[@]}"; do
                    [[ $pid == "$ended" ]] || kill -0 "$pid" || _psij_wait_for "$pid"
                done
            fi
            _psij_copy_ended "$ended" "$code"
        fi
    done
}

# Waits for a copy, again if a signal with a trap comes first.
_psij_wait_for() {
    local code
    while
        code=0
        wait "$1" || code=$?
        ((code > 128)) && kill -0 "$1"
    do :; done
    _psij_copy_ended "$1" "$code"
}

# _psij_copy_ended PID CODE
_psij_copy_ended() {
    unset -v "_psij_pids[$1]"
    if [[ $2 != 0 ]]; then
        log "Pid $1 failed with $2"
        [[ $_PSI_J_EC != 0 ]] || _PSI_J_EC=$2
    fi
}

if _psij_begin pre_launch; then
    source "$_psij_script"
    _psij_end
fi

_psij_open
_psij_append
_psij_pids=()
{
    for ((_psij_index = 1; _psij_index <= _PSI_J_PROCESS_COUNT; _psij_index++)); do
        (_psij_start_copy "$_psij_index") &
        _psij_pids[$!]=$_psij_index
    done
    _psij_wait_for_all
} 2>/dev/null  # bash would remark on its own stderr that a child was killed
_psij_close
log 'All completed'
_psij_explain "${_psij_command[0]}"

if _psij_begin post_launch; then
    source "$_psij_script"
    _psij_end
fi
launcher_exit "$_PSI_J_EC"

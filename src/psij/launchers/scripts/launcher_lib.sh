# What launcher scripts have in common; each begins by sourcing this file. Needs bash 4.2.
#
# The arguments of a launcher script are
#
#     JOB_ID LOG_FILE PRE_LAUNCH POST_LAUNCH STDIN STDOUT STDERR [ADDITIONAL...] EXECUTABLE [ARGUMENT...]
#
# This file takes away the first seven and turns them into variables. Scripts of other packages may rely on these
# variables, on `log`, `ts`, `pre_launch`, `post_launch` and `launcher_exit`, on file descriptor 3 being the log, and
# on `set -e`. What begins with `_psij_` is for the scripts next to this one.

set -e

_PSI_J_JOB_ID=$1
_PSI_J_LOG_FILE=${2:-/dev/null}
_PSI_J_PRE_LAUNCH=$3
_PSI_J_POST_LAUNCH=$4
_PSI_J_STDIN=${5:-/dev/null}
_PSI_J_STDOUT=${6:-/dev/null}
_PSI_J_STDERR=${7:-/dev/null}
shift 7

_psij_phase=             # the script that is being sourced: pre_launch, post_launch or none
_psij_directory=$PWD     # the job directory: relative paths start here even if pre_launch goes elsewhere

# Copies lines from stdin to stdout with the time (UTC) and the job id in front.
ts() {
    local line
    while IFS= read -r line || [[ $line ]]; do
        TZ=UTC printf '%(%Y-%m-%d %H:%M:%S)T %s %s\n' -1 "$_PSI_J_JOB_ID" "$line"
    done
}

# Writes its arguments to the log.
log() {
    [[ $_PSI_J_LOG_FILE == /dev/null ]] ||
        TZ=UTC printf '%(%Y-%m-%d %H:%M:%S)T %s %s\n' -1 "$_PSI_J_JOB_ID" "$*" >&3
}

# launcher_exit CODE: the way out of every launcher script. A script that has sourced the launcher script, instead of
# running it, learns of the end of the job if it has defined a function _psij_launcher_done.
launcher_exit() {
    _psij_phase=
    if declare -F _psij_launcher_done >/dev/null; then
        _psij_launcher_done "$1"
    fi
    exit "$1"
}

# Source the script that the job gave for before or after, if any. The scripts next to this one do not use these
# functions but begin and end the phase themselves: sourced in a function, `declare` would only make local variables.
pre_launch() {
    if _psij_begin pre_launch; then
        source "$_psij_script"
        _psij_end
    fi
}

post_launch() {
    if _psij_begin post_launch; then
        source "$_psij_script"
        _psij_end
    fi
}

# _psij_begin pre_launch|post_launch: tells whether there is such a script; its path is then in $_psij_script.
# `set -e` and `exit` end this shell in the middle of it, hence the trap.
_psij_begin() {
    local given=_PSI_J_${1^^}
    [[ ${!given} ]] || return 1
    log "Running ${1/_/-}"
    _psij_resolve _psij_script "${!given}"
    _psij_phase=$1
    trap '_psij_on_exit "$?"' EXIT
}

_psij_end() {
    _psij_phase=
}

_psij_on_exit() {
    local code=$1 given=_PSI_J_${_psij_phase^^}
    [[ $_psij_phase ]] || return 0
    if [[ $code != 0 ]]; then
        echo "psij: the $_psij_phase script \"${!given}\" ended the job with exit code $code" >&2
    elif [[ $_psij_phase == pre_launch ]]; then
        echo "psij: the pre_launch script \"${!given}\" ended the job before the executable was started" >&2
        code=1
    fi
    launcher_exit "$code"
}

# _psij_resolve VARIABLE PATH: sets the variable to the path as seen from the job directory.
_psij_resolve() {
    if [[ $2 == /* ]]; then
        printf -v "$1" %s "$2"
    else
        printf -v "$1" %s "$_psij_directory/$2"
    fi
}

# Opens the job's stdin, stdout and stderr on the descriptors $_psij_in, $_psij_out and $_psij_err. `>|` truncates even
# if pre_launch has said `set -o noclobber`. 9 is only borrowed: in posix mode an `exec` that cannot open a file ends
# the shell, a group does not. The paths of the files are in $_psij_stdin, $_psij_stdout and $_psij_stderr.
_psij_open() {
    _psij_resolve _psij_stdin "$_PSI_J_STDIN"
    _psij_resolve _psij_stdout "$_PSI_J_STDOUT"
    _psij_resolve _psij_stderr "$_PSI_J_STDERR"
    { exec {_psij_in}<&9; } 2>/dev/null 9<"$_psij_stdin" ||
        _psij_cannot_open stdin_path "$_PSI_J_STDIN" "$({ : <"$_psij_stdin"; } 2>&1)"
    { exec {_psij_out}>&9; } 2>/dev/null 9>|"$_psij_stdout" ||
        _psij_cannot_open stdout_path "$_PSI_J_STDOUT" "$({ : >|"$_psij_stdout"; } 2>&1)"
    if [[ $_psij_stderr -ef $_psij_stdout ]]; then
        exec {_psij_err}>&"$_psij_out"  # with a position of its own it would overwrite
    else
        { exec {_psij_err}>&9; } 2>/dev/null 9>|"$_psij_stderr" ||
            _psij_cannot_open stderr_path "$_PSI_J_STDERR" "$({ : >|"$_psij_stderr"; } 2>&1)"
    fi
}

# _psij_cannot_open FIELD PATH MESSAGE: ends the job; the reason is what follows the last colon of bash's message.
_psij_cannot_open() {
    echo "psij: cannot open the job's $1 \"$2\": ${3##*: }" >&2
    launcher_exit 1
}

_psij_close() {
    exec {_psij_in}<&- {_psij_out}>&- {_psij_err}>&-
}

# Replaces this shell by a command with the job's streams and no other descriptors of ours. If that fails, the
# streams of the shell are restored; a subshell ends, whatever execfail says, and so does any shell with `set -e`.
_psij_exec() {
    set +e
    shopt -s execfail
    { exec -- "$@"; } <&"$_psij_in" >&"$_psij_out" 2>&"$_psij_err" \
        3>&- {_psij_in}<&- {_psij_out}>&- {_psij_err}>&-
}

# Runs a command with the job's streams; $_PSI_J_EC is its exit code.
_psij_run() {
    _PSI_J_EC=0
    # bash would remark on its own stderr that a child was killed
    { (_psij_exec "$@") || _PSI_J_EC=$?; } 2>/dev/null
    _psij_close
    log "Command done: $_PSI_J_EC"
    _psij_explain "$1"
}

# _psij_explain COMMAND [PATTERN]: if the exit code matches, and the command indeed cannot be run, tells the reason on
# the launcher's own stderr: what bash said about it went into the job's.
_psij_explain() {
    local reason
    if [[ $_PSI_J_EC == ${2:-12[67]} ]] && _psij_is_missing "$1"; then
        echo "psij: $1: $reason" >&2
    fi
}

# _psij_is_missing COMMAND: tells whether a command cannot be run, and sets $reason.
_psij_is_missing() {
    local file=$1 line=
    [[ $1 == */* ]] || file=$(type -P -- "$1") || file=
    if [[ -z $file ]]; then
        reason='command not found'
    elif [[ ! -e $file ]]; then
        reason='No such file or directory'
    elif [[ -d $file ]]; then
        reason='Is a directory'
    elif [[ ! -x $file ]]; then
        reason='Permission denied'
    else
        IFS= read -r -n 256 line 2>/dev/null <"$file" || :
        if [[ $line =~ ^'#!'[[:blank:]]*([^[:blank:]]+) && ! -x ${BASH_REMATCH[1]} ]]; then
            printf -v reason 'bad interpreter %q' "${BASH_REMATCH[1]}"  # %q shows the \r of DOS files
        elif ! /bin/bash -p -c : "${_psij_command[@]}" &>/dev/null; then
            reason='Argument list too long'  # or the environment: nothing can be run with them
        else
            return 1
        fi
    fi
}

# If $_psij_command has an argument that is just ":", which launchers take for the end of a command, hides it.
_psij_hide_colons() {
    local word
    for word in "${_psij_command[@]}"; do
        if [[ $word == : ]]; then
            _psij_command=(/bin/bash -p -c 'exec -- "${@#_}"' psij "${_psij_command[@]/#/_}")
            return
        fi
    done
}

{ exec 3>&9; } 2>/dev/null 9>>"$_PSI_J_LOG_FILE" || {
    echo "psij: cannot open the launcher log \"$_PSI_J_LOG_FILE\", so nothing is logged" >&2
    _PSI_J_LOG_FILE=/dev/null
    exec 3>/dev/null
}
log "Launcher: ${BASH_SOURCE[1]-}"
log "Pre-launch: \"$_PSI_J_PRE_LAUNCH\""
log "Post-launch: \"$_PSI_J_POST_LAUNCH\""

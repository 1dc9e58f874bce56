# shellcheck shell=bash
# What `up`, `down` and `fault` share: where things are, and how each daemon is started, found and stopped.
# Sourced, never run.
#
# Every daemon runs in the foreground of its own session, with a clean environment and no descriptor of the caller, and
# writes run/NAME.pid (its process), log/NAME.out (what it prints). NAME is munged, mariadbd, slurmdbd, slurmctld or
# the name of a node. Whether a process is the daemon NAME of this instance is read from its environment, so a
# left-over pid file and a recycled process id do no harm.

set -u
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C

DIR=${SLURM_TEST_DIR:-/var/lib/slurm-test}
CONF=$DIR/etc/slurm.conf
MUNGE_SOCKET=$DIR/munge/munge.socket
MYSQL_SOCKET=$DIR/mysql/socket

# The caller's SLURM_*, SBATCH_*, SQUEUE_* ... would change what the commands below do.
for variable in $(compgen -e | grep -E '^(SLURM|SBATCH|SRUN|SALLOC|SQUEUE|SCANCEL|SINFO|SACCT|SCONTROL)' |
    grep -v '^SLURM_TEST_'); do
    unset "$variable"
done
export SLURM_CONF=$CONF

say() { echo "slurm ${0##*/}: $*"; }

die() {
    echo "slurm ${0##*/}: ERROR: $*" >&2
    exit 1
}

# --- the instance -----------------------------------------------------------------------------------------------------

require_root() {
    [ "$(id -u)" = 0 ] || die "must run as root"
    case $DIR in
        /*[![:alnum:]/._-]*) die "SLURM_TEST_DIR has odd characters (seen: $DIR)" ;;
        /*) ;;
        *) die "SLURM_TEST_DIR must be an absolute path (seen: $DIR)" ;;
    esac
}

lock_instance() { # one up, down or fault at a time; held until this shell ends
    exec 9>"$DIR/.lock"
    flock --wait 300 9 || die "another up, down or fault is still busy in $DIR after 300 s"
}

unlock_instance() { exec 9>&-; }

lock_machine() { # instances share the packages and /etc/hosts
    exec 8>/run/lock/slurm-tests
    flock --wait 900 8 || die "another instance is still installing after 900 s"
}

unlock_machine() { exec 8>&-; }

own_host() { uname -n | sed 's/[.].*//'; }

configured() { # configured KEY: its value in slurm.conf; empty when there is none
    sed -n "s/^$1=//p" "$CONF" 2>/dev/null | tail -n 1
}

configured_nodes() { sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$CONF" 2>/dev/null; }

node_port() { sed -n "s/^NodeName=$1 .* Port=\([0-9]*\) .*/\1/p" "$CONF"; }

node_host() { sed -n "s/^NodeName=$1 NodeHostname=\([^ ]*\) .*/\1/p" "$CONF"; }

controller_host() { configured SlurmctldHost | sed 's/(.*//'; }

# --- waiting ----------------------------------------------------------------------------------------------------------

wait_until() { # wait_until SECONDS COMMAND...: true as soon as COMMAND is true
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # listening PORT

# --- processes --------------------------------------------------------------------------------------------------------

pid_of() { # pid_of NAME: the process of that daemon, if it runs
    local pid
    pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    grep -qzxF "SLURM_TEST_DAEMON=$DIR/$1" "/proc/$pid/environ" 2>/dev/null && echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

require_free() { # require_free PORT
    ! listening "$1" || die "port $1 is taken by something else: choose another SLURM_TEST_PORT"
}

start() { # start NAME HOST COMMAND...: start a daemon under that hostname; it is not ready yet when this returns
    local name=$1 host=$2 descriptor
    shift 2
    # A hostname of its own needs a UTS namespace; `up` has found out whether there may be one.
    [ "$host" = "$(own_host)" ] || set -- unshare --uts sh -c "hostname '$host' && exec \"\$@\"" sh "$@"
    (
        # Whatever the daemon inherited would stay open as long as it runs: a pipe of the caller, our lock.
        exec </dev/null >"$DIR/log/$name.out" 2>&1
        for descriptor in /proc/self/fd/*; do
            descriptor=${descriptor##*/}
            [ "$descriptor" -le 2 ] || exec {descriptor}>&-
        done
        cd /
        echo "$BASHPID" >"$DIR/run/$name.pid"
        exec setsid env -i PATH="$PATH" SLURM_CONF="$CONF" MYSQL_UNIX_PORT="$MYSQL_SOCKET" \
            SLURM_TEST_DAEMON="$DIR/$name" "$@"
    ) &
    STARTED=$!
}

ready_within() { # ready_within SECONDS NAME COMMAND...: wait for the daemon just started; give up at once when it ends
    local end=$((SECONDS + $1)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ] || ! kill -0 "$STARTED" 2>/dev/null; then
            tail -n 20 "$DIR/log/$name.out" >&2
            die "$name did not become ready, see $DIR/log"
        fi
        sleep 0.1
    done
}

stop() { # stop NAME...: end these daemons together, by force after 10 s
    local name pid pids=()
    for name; do
        pid=$(pid_of "$name") && pids+=("$pid") && kill -CONT "$pid" && kill "$pid"
    done
    for pid in "${pids[@]}"; do
        wait_until 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
        wait_until 5 gone "$pid"
    done
    for name; do rm -f "$DIR/run/$name.pid"; done
}

gone() { # gone PID: no such process, or one that nobody has waited for
    [ ! -d "/proc/$1" ] || grep -q '^State:[[:space:]]Z' "/proc/$1/status" 2>/dev/null
}

files_to_pids() { tr -dc '0-9\n'; } # /proc/PID/NAME, one per line

family() { # family PID: that process and all its descendants
    local child
    echo "$1"
    grep -l "^PPid:[[:space:]]$1\$" /proc/[0-9]*/status 2>/dev/null | files_to_pids | while read -r child; do
        family "$child"
    done
}

processes_of() { # processes_of NODE: its job steps and every process of a job there
    local pid
    grep -lx slurmstepd /proc/[0-9]*/comm 2>/dev/null | files_to_pids | while read -r pid; do
        # A step holds the log of its node open.
        [ -z "$(find "/proc/$pid/fd" -lname "$DIR/log/$1.log" 2>/dev/null)" ] || family "$pid"
    done
    # Those that have left the family (daemons, orphans) still have the environment of their job.
    grep -lzxF "SLURMD_NODENAME=$1" /proc/[0-9]*/environ 2>/dev/null | files_to_pids | while read -r pid; do
        grep -qzxF "SLURM_CONF=$CONF" "/proc/$pid/environ" 2>/dev/null && echo "$pid"
    done
}

kill_processes_of() { # kill_processes_of NODE...
    local node
    for node; do processes_of "$node"; done | xargs -r kill -KILL 2>/dev/null
}

# --- munge ------------------------------------------------------------------------------------------------------------

start_munged() {
    rm -f "$MUNGE_SOCKET" "$MUNGE_SOCKET.lock"
    start munged "$(own_host)" setpriv --reuid munge --regid munge --init-groups \
        munged --foreground --force --num-threads=10 --socket="$MUNGE_SOCKET" --key-file="$DIR/munge/munge.key" \
        --pid-file="$DIR/munge/munged.pid" --seed-file="$DIR/munge/munged.seed"
    ready_within 20 munged munge_works
}

munge_works() { munge --socket="$MUNGE_SOCKET" --no-input 2>/dev/null | unmunge --socket="$MUNGE_SOCKET" >/dev/null 2>&1; }

# --- accounting -------------------------------------------------------------------------------------------------------

sql() { mariadb --no-defaults --user=root --socket="$MYSQL_SOCKET" --execute="$1"; }

start_mariadbd() {
    # Nothing in this database has to survive a crash of the machine; every setting buys time, memory or disk space.
    start mariadbd "$(own_host)" mariadbd --no-defaults --user=mysql --datadir="$DIR/mysql/data" \
        --socket="$MYSQL_SOCKET" --pid-file="$DIR/mysql/pid" --skip-networking --performance-schema=0 \
        --innodb-buffer-pool-size=128M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync --skip-innodb-doublewrite --sync-binlog=0
    ready_within 60 mariadbd sql 'select 1'
}

start_slurmdbd() {
    require_free "$(configured AccountingStoragePort)"
    start slurmdbd "$(controller_host)" setpriv --reuid slurm --regid slurm --init-groups slurmdbd -D
    ready_within 60 slurmdbd listening "$(configured AccountingStoragePort)"
}

# --- Slurm ------------------------------------------------------------------------------------------------------------

start_slurmctld() {
    require_free "$(configured SlurmctldPort)"
    start slurmctld "$(controller_host)" slurmctld -D
    ready_within 60 slurmctld controller_answers
}

controller_answers() {
    # A closed port is noticed at once, whereas the command would try again for a long time.
    listening "$(configured SlurmctldPort)" && timeout 10 scontrol ping
}

start_node() { # start_node NODE
    mkdir -p "$DIR/spool/$1"
    require_free "$(node_port "$1")"
    start "$1" "$(node_host "$1")" slurmd -D -N "$1"
}

node_state() { timeout 10 sinfo --noheader --Node --nodes="$1" --partition=debug --format=%T; } # node_state NODE

node_usable() { node_state "$1" | grep -qxE 'idle|mixed|allocated|completing'; }

nodes_usable() { # nodes_usable COUNT
    [ "$(timeout 10 sinfo --noheader --Node --partition=debug --format=%T |
        grep -cxE 'idle|mixed|allocated|completing')" = "$1" ]
}

no_job_left() { [ -z "$(timeout 10 squeue --noheader --format=%i)" ]; }

cancel_jobs() { # jobs of today must not be the requeued jobs of tomorrow
    controller_answers >/dev/null || return 0
    no_job_left && return 0
    say "cancelling all jobs"
    timeout 30 squeue --noheader --format=%A | xargs -r timeout 60 scancel --signal=KILL --quiet 2>/dev/null
    wait_until 10 no_job_left
}

remove_cgroups() { # remove_cgroups NODE...
    local node
    [ "$(configured ProctrackType)" = proctrack/cgroup ] || return 0
    for node; do
        find /sys/fs/cgroup -depth -type d -path "*/slurm_$node*" -exec rmdir {} + 2>/dev/null
    done
}

stop_all() { # end everything of this instance, jobs included
    local nodes
    mapfile -t nodes < <(configured_nodes)
    alive slurmctld && kill -CONT "$(pid_of slurmctld)"
    alive slurmctld && alive munged && cancel_jobs
    stop "${nodes[@]}"
    kill_processes_of "${nodes[@]}"
    remove_cgroups "${nodes[@]}"
    stop slurmctld
    stop slurmdbd
    stop mariadbd
    stop munged
}

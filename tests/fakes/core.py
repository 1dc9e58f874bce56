"""The pretended cluster: a job table on disk, and the rules by which jobs wait, start and end.

One directory (``PSIJ_FAKE_DIR``) is one cluster. The commands of a stand-in are short-lived programs that read and
change it; there is no daemon. A job runs below a detached process of its own (:mod:`fakes.runner`), which then starts
the jobs that wait for the place it leaves. What a scheduler's own commands look like is no matter of this module: it
has states and reasons of its own, and the stand-ins translate.

Tests call these commands thousands of times: modules that are slow to import (``typing``, ``json``, ``signal``,
``subprocess``, ``dataclasses``) are not used here.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

SIGKILL, SIGTERM, SIGCONT, SIGSTOP = 9, 15, 18, 19  # those of Linux; importing `signal` would cost 5 ms

FOREVER = 10**9  # seconds


class Job:
    """One line of the job table. Only what differs from these defaults is stored.

    ``state`` is one of

    ========= =====================================================================================
    queued    waits; see ``hold``, ``blocked`` and ``never``
    starting  has its nodes, the script does not run yet (knob ``hold_start``)
    running
    suspended stopped with all its processes
    ending    is being killed (``kill`` is set), or its script has ended and the epilogue goes on
    done      see ``kill``, ``wait_status`` and ``launch_error``
    ========= =====================================================================================

    ``kill`` says why a job is or was killed: ``cancelled``, ``timeout``, ``out_of_memory``, ``node_failure``,
    ``preempted``, ``deadline``, ``requeued``, ``dependency`` or ``rejected`` (a submission that left a trace).
    """

    id = 0
    name = ''
    user = ''
    uid = 0
    gid = 0
    queue = ''
    account = ''
    state = 'queued'
    hold = ''  # user, admin, or what a scheduler calls another kind of hold
    blocked = ''  # why it waits: begin, dependency, dependency_failed, array_limit, or a scheduler's own word
    never = False  # it waits for ever, for the reason in `blocked`
    after: tuple[tuple[str, int], ...] = ()  # (ok | notok | any, job id)
    kill_if_invalid = False  # a dependency that can no longer be satisfied ends the job
    submitted = 0.0
    eligible = 0.0
    started = 0.0
    ended = 0.0
    walltime = 0.0  # seconds; 0 is no limit
    wait_status: int | None = None  # as from waitpid(); None if the script did not run
    launch_error = ''
    out_of_memory = False  # a process of it was killed for that; the script may have gone on
    kill = ''
    killed_by = -1  # user id; -1 is the system
    may_requeue = True
    restarts = 0
    past: tuple[dict[str, Any], ...] = ()  # the fields of earlier runs of a requeued job
    cwd = ''
    stdin = ''
    stdout = ''
    stderr = ''
    umask = 0o22
    script = 'script'  # name of the copy in the spool directory
    argv: tuple[str, ...] = ()  # arguments of the script
    node_count = 1
    node_request: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    runner = 0  # process that looks after the running job
    pid = 0  # the script: leader of its session and process group
    max_rss = 0  # KiB
    steps: tuple[dict[str, Any], ...] = ()
    array: tuple[int, ...] = ()  # the indices of an array's tasks that are still to be split off
    array_limit = 0
    array_id = 0
    task = -1
    shown: tuple[str, ...] = ()  # a state to print in place of the true one, as a scheduler's command prints it
    extra: dict[str, Any] = {}  # what only one scheduler knows

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    @property
    def final(self) -> bool:
        return self.state == 'done'

    @property
    def active(self) -> bool:
        return self.state in ('starting', 'running', 'suspended', 'ending')

    def copy(self, **changes: Any) -> Job:
        return Job(**{**self.__dict__, **changes})


class Cluster:
    """The state of one pretended cluster, as the command `command` of the stand-in `scheduler` sees it.

    In the directory, ``knobs/NAME`` are settings and faults (see README.md), ``jobs/ID`` the records, ``spool/ID/`` the
    script and environment of a job, ``state`` the next id and the lists of waiting and running jobs. Files are
    replaced as a whole, so that reading needs no lock; changing does.
    """

    def __init__(self, directory: str, scheduler: str, command: str = '', bin_dir: str = '') -> None:
        self.dir, self.scheduler, self.command, self.bin = directory, scheduler, command, bin_dir
        self.lock = _Lock(f'{directory}/lock')
        try:
            self._knobs = set(os.listdir(f'{directory}/knobs'))
        except FileNotFoundError:
            for name in ('knobs', 'jobs', 'spool'):
                os.makedirs(f'{directory}/{name}', 0o700, exist_ok=True)
            self._knobs = set()
        self.user, self.uid, self.gid = caller()
        self.loses_reply = False  # of this command, as the fault `lost_reply` does

    def may_change(self, job: Job) -> bool:
        return self.uid in (0, job.uid)

    # --- settings and faults ---------------------------------------------------------------------------------------

    def knob(self, name: str, default: str = '') -> str:
        """Return the text of a setting as it was when the command began."""
        return (self._read_knob(name) if name in self._knobs else '') or default

    def live_knob(self, name: str, default: str = '') -> str:
        """Return the text of a setting as it is now; runners live long."""
        return self._read_knob(name) or default

    def has_knob(self, name: str) -> bool:
        return os.path.exists(f'{self.dir}/knobs/{name}')

    def fault(self, name: str) -> str | None:
        """Return the text of a fault that is set for this command or all of them, else None.

        ``NAME.COMMAND`` goes before ``NAME``; a fault with ``.once`` at the end of its name is used up by this.
        """
        for candidate in (f'{name}.{self.command}', name):
            if f'{candidate}.once' in self._knobs:
                text = self._read_knob(f'{candidate}.once')
                try:
                    os.unlink(f'{self.dir}/knobs/{candidate}.once')
                except FileNotFoundError:
                    continue  # another command was faster
                return text
            if candidate in self._knobs:
                return self._read_knob(candidate)
        return None

    def _read_knob(self, name: str) -> str:
        try:
            with open(f'{self.dir}/knobs/{name}', 'rb') as file:
                return os.fsdecode(file.read())
        except FileNotFoundError:
            return ''

    def hosts(self) -> list[str]:
        from fakes.hosts import expand

        return expand(self.live_knob('nodes', 'node[01-04]').strip())

    # --- the table -------------------------------------------------------------------------------------------------

    def load(self, number: int) -> Job | None:
        try:
            with open(f'{self.dir}/jobs/{number}', 'rb') as file:
                return Job(**marshal.load(file))
        except FileNotFoundError:
            return next(self.synthetic({number}), None)

    def save(self, job: Job) -> None:
        """Replace the record of a job; call it with the lock held."""
        self._replace(f'jobs/{job.id}', job.__dict__)

    def everything(self) -> Iterator[Job]:
        """All jobs ever, by id: what accounting knows."""
        numbers = {int(name) for name in os.listdir(f'{self.dir}/jobs') if name.isdigit()}
        for number in sorted(numbers):
            job = self.load(number)
            if job is not None:
                yield job
        for job in self.synthetic():
            if job.id not in numbers:
                yield job

    def jobs(self, keep: float = 300.0) -> Iterator[Job]:
        """What the status command knows: not those that ended longer ago than the knob ``keep`` says."""
        oldest = time.time() - float(self.knob('keep', str(keep)))
        return (job for job in self.everything() if not job.final or job.ended > oldest)

    def find(self, number: int, keep: float = 300.0) -> Job | None:
        """Return a job that the status command knows."""
        job = self.load(number)
        if job is None or (job.final and job.ended <= time.time() - float(self.knob('keep', str(keep)))):
            return None
        return job

    def synthetic(self, only: set[int] | None = None) -> Iterator[Job]:
        """Jobs of the caller that exist on paper only: knob ``synthetic``, ``COUNT [FIRST_ID [NAME [STATE]]]``."""
        words = self.knob('synthetic').split()
        if not words:
            return
        count, first, name, state = (*words, *('0', '1000000', 'synthetic', 'running')[len(words) :])
        numbers = range(int(first), int(first) + int(count))
        then = time.time() - 60
        common: dict[str, Any] = {
            'name': name, 'state': state, 'user': self.user, 'uid': self.uid, 'gid': self.gid, 'submitted': then,
            'eligible': then, 'started': then, 'ended': then, 'nodes': tuple(self.hosts()[:1]),
        }  # fmt: skip
        for number in numbers if only is None else only & set(numbers):
            yield Job(**common, id=number)

    def _state(self) -> dict[str, Any]:
        try:
            with open(f'{self.dir}/state', 'rb') as file:
                state: dict[str, Any] = marshal.load(file)
                return state
        except FileNotFoundError:
            return {'next': int(self.knob('first_id', '1')), 'waiting': [], 'conditional': [], 'running': []}

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        path, _, last = name.rpartition('/')
        temporary = f'{self.dir}/{path}/.{last}'
        with open(temporary, 'wb') as file:
            marshal.dump(content, file)
        os.rename(temporary, f'{self.dir}/{name}')

    def spool(self, job: Job) -> str:
        return f'{self.dir}/spool/{job.array_id or job.id}'

    # --- submitting --------------------------------------------------------------------------------------------------

    def burn_id(self) -> int:
        """Use up a job id, as a submission does that the server rejects."""
        with self.lock:
            state = self._state()
            number = int(state['next'])
            state['next'] = number + 1
            self._replace('state', state)
        return number

    def submit(self, job: Job, script: bytes, environment: dict[str, str]) -> Job:
        """Enter a job, which gets its id here, and start what can be started."""
        now = time.time()
        job.__dict__.update(user=self.user, uid=self.uid, gid=self.gid, submitted=now, eligible=max(job.eligible, now))
        with self.lock:
            state = self._state()
            job.id = state['next']
            if job.array:
                job.array_id = job.id
            spool = self.spool(job)
            os.mkdir(spool, 0o700)
            fd = os.open(f'{spool}/{job.script}', os.O_WRONLY | os.O_CREAT, 0o700)
            os.write(fd, script)
            os.close(fd)
            with open(f'{spool}/environment', 'wb') as file:
                marshal.dump(environment, file)
            self.save(job)
            state['next'] += 1
            state['conditional' if job.hold or job.never or job.after or job.eligible > now else 'waiting'].append(
                job.id
            )
            self._replace('state', state)
        self.kick()
        return job

    def insert(self, job: Job) -> Job:
        """Enter a job that exists on paper only; it gets an id if it has none."""
        job.id = job.id or self.burn_id()
        with self.lock:
            self.save(job)
        return job

    # --- starting ----------------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Start what can be started, in a process of its own: the caller may be killed at any moment."""
        if self.has_knob('hold_queue') or os.fork():
            return
        from fakes import runner

        runner.detach_and_run(self)

    def kick_if_due(self) -> None:
        """Start what has become startable while nobody looked; every status command calls this."""
        state = self._state()
        if state['conditional'] or (state['waiting'] and len(state['running']) < self._slots()):
            self.kick()

    def _slots(self) -> int:
        return int(self.live_knob('slots') or FOREVER)

    def take_startable(self) -> list[Job]:
        """Mark all jobs that may run now as running, and return them."""
        taken: list[Job] = []
        with self.lock:
            state = self._state()
            free = 0 if self.has_knob('hold_queue') else self._slots() - len(state['running'])
            self._sort_out(state)
            put_back = []
            while state['waiting'] and len(taken) < free:
                number = state['waiting'].pop(0)
                job = self.load(number)
                if job is None or job.state != 'queued':
                    continue
                if not self._ready(job):
                    state['conditional'].append(number)
                    continue
                while job.array and len(taken) < free and self._array_has_room(job, state, taken):
                    taken.append(self._split_off(job, state))
                if job.array:
                    put_back.append(number)
                    self.save(job)
                elif job not in taken:
                    taken.append(job)
            state_now = 'starting' if self.has_knob('hold_start') else 'running'
            now = time.time()
            for job in taken:
                job.__dict__.update(state=state_now, blocked='', started=now, nodes=self._choose_nodes(job))
                state['running'].append(job.id)
                self.save(job)
            state['waiting'] = put_back + state['waiting']
            self._replace('state', state)
        return taken

    def _sort_out(self, state: dict[str, Any]) -> None:
        """Move jobs whose conditions are met to those that wait for nothing but a place."""
        conditional, state['conditional'] = state['conditional'], []
        for number in conditional:
            job = self.load(number)
            if job is None:
                continue
            before = dict(job.__dict__)
            ready = self._ready(job)
            if job.__dict__ != before:
                self.save(job)
            if job.state == 'queued':
                state['waiting' if ready else 'conditional'].append(number)
        state['waiting'].sort()

    def _ready(self, job: Job) -> bool:
        """Decide whether a queued job waits for nothing but a place, and note in it what else it waits for."""
        if job.hold or job.never:
            return False
        if job.eligible > time.time():
            job.blocked = 'begin'
            return False
        outcomes = [self._dependency(kind, number) for kind, number in job.after]
        if False in outcomes:
            job.blocked = 'dependency_failed'
            if job.kill_if_invalid:
                job.__dict__.update(state='done', kill='dependency', ended=time.time())
            return False
        job.blocked = 'dependency' if None in outcomes else ''
        return not job.blocked

    def _dependency(self, kind: str, number: int) -> bool | None:
        """Is it satisfied? None: not known yet. One on a job that nobody knows is taken as satisfied."""
        other = self.load(number)
        if other is None:
            return True
        if not other.final:
            return None
        return kind == 'any' or (kind == 'ok') == (other.wait_status == 0 and not other.kill)

    def _choose_nodes(self, job: Job) -> tuple[str, ...]:
        """Nodes are never full here: it is the number of running jobs that is limited."""
        wanted = [*job.node_request, *(host for host in self.hosts() if host not in job.node_request)]
        return tuple(sorted(wanted[: job.node_count]))

    def _array_has_room(self, job: Job, state: dict[str, Any], taken: list[Job]) -> bool:
        if not job.array_limit:
            return True
        others = [other for other in map(self.load, state['running']) if other] + taken
        room = sum(other.array_id == job.array_id for other in others) < job.array_limit
        job.blocked = '' if room else 'array_limit'
        return room

    def _split_off(self, job: Job, state: dict[str, Any]) -> Job:
        """Return the next task of an array as a job; the last one keeps the id of the array."""
        index, job.array = job.array[0], job.array[1:]
        if not job.array:
            job.task = index
            return job
        task = job.copy(id=state['next'], array=(), task=index)
        state['next'] += 1
        return task

    def finish(self, number: int, **outcome: Any) -> Job | None:
        """Record the end of a run; a requeued job waits again."""
        with self.lock:
            state = self._state()
            if number in state['running']:
                state['running'].remove(number)
            job = self.load(number)
            if job is not None:
                job.__dict__.update(outcome)
                job.ended = job.ended or time.time()
                job.kill = job.kill or ('out_of_memory' if job.out_of_memory else '')
                if job.kill == 'requeued' or (job.kill in ('node_failure', 'preempted') and job.may_requeue):
                    self._requeue(job)
                    state['conditional'].append(number)
                else:
                    job.__dict__.update(state='done', runner=0, pid=0)
                self.save(job)
            self._replace('state', state)
        return job

    def _requeue(self, job: Job) -> None:
        run = {}
        for key in ('started', 'ended', 'wait_status', 'kill', 'killed_by', 'nodes', 'steps', 'runner', 'pid'):
            run[key] = getattr(job, key)
            job.__dict__.pop(key, None)
        delay = float(self.live_knob('requeue_delay', '0'))
        job.__dict__.update(
            state='queued', restarts=job.restarts + 1, past=(*job.past, run), eligible=time.time() + delay,
            blocked='begin' if delay else '',
        )  # fmt: skip

    # --- changing ----------------------------------------------------------------------------------------------------

    def end(self, number: int, reason: str, by: int = -1) -> bool:
        """Kill a job, or take it out of the queue; False if there is nothing left to end."""
        with self.lock:
            job = self.load(number)
            if job is None or job.final or job.kill:
                return False
            if reason == 'out_of_memory':
                job.out_of_memory = True
            else:
                state = 'ending' if job.active else 'done'
                job.__dict__.update(kill=reason, killed_by=by, state=state, ended=time.time())
            self.save(job)
        self.wake(job)
        return True

    def requeue(self, number: int, by: int = -1) -> None:
        """Make a job that runs, or has ended, start once more."""
        if self.end(number, 'requeued', by):
            return
        with self.lock:
            state, job = self._state(), self.load(number)
            if job is not None and job.final:
                self._requeue(job)
                self.save(job)
                state['conditional'].append(number)
                self._replace('state', state)
        self.kick()

    def change(self, number: int, **fields: Any) -> Job | None:
        """Change fields of a job, and start what can be started now."""
        with self.lock:
            job = self.load(number)
            if job is None:
                return None
            job.__dict__.update(fields)
            self.save(job)
        self.wake(job)
        self.kick_if_due()
        return job

    def wake(self, job: Job) -> None:
        """Make the runner of a job look at the table."""
        try:
            fd = os.open(f'{self.dir}/spool/{job.id}.wake', os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # nothing runs
        try:
            os.write(fd, b'!')
        except BrokenPipeError:
            pass  # it has ended just now
        finally:
            os.close(fd)

    def process_ids(self, job: Job) -> list[int]:
        """Return the processes of a running job, its script first and then by age."""
        found = []
        for name in filter(str.isdigit, os.listdir('/proc') if job.pid else ()):
            try:
                with open(f'/proc/{name}/stat', 'rb') as file:
                    fields = file.read().rpartition(b')')[2].split()
            except OSError:
                continue
            if int(fields[2]) == job.pid and fields[0] != b'Z':  # its process group; not what nobody reaps
                found.append(int(name))
        return sorted(found, key=lambda pid: (pid != job.pid, pid))


class _Lock:
    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, ex: BaseException | None, tb: TracebackType | None) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)  # closing is not enough if a forked process has the descriptor too
        os.close(self.fd)


def caller() -> tuple[str, int, int]:
    """Return name, user id and group id of the caller; ``PSIJ_FAKE_USER=NAME:UID`` pretends to be another."""
    pretended = os.environ.get('PSIJ_FAKE_USER', '')
    if pretended:
        name, _, uid = pretended.partition(':')
        return name, int(uid), int(uid)
    return user_name(os.geteuid()), os.geteuid(), os.getegid()


def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def signal_group(leader: int, number: int) -> None:
    """Send a signal to all processes of a job."""
    try:
        if leader:
            os.killpg(leader, number)
    except ProcessLookupError:
        pass

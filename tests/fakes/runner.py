"""The process that looks after one running job after another, detached from whoever submitted them.

What a scheduler does on the node is told by its module ``fakes.SCHEDULER.node``:

``launch(cluster, job, environment) -> Launch``
    What to run, from the record and the environment of the submission. `LaunchError` if it cannot be run.
``ended(cluster, job, launch) -> dict``, optional
    Called when the script has ended, before the job does: copies output files, writes logs; returns fields of the job.
``kill_signals(job) -> tuple[int, ...]``, optional
    What is sent to the job to end it, one by one with the knob ``kill_grace`` between them.
``WAITS_FOR_ALL``, optional
    True if the other processes of a job that is being killed have as much time to end as the script itself.
"""

from __future__ import annotations

import os
import select
import sys
import time

from fakes.core import SIGCONT, SIGKILL, SIGTERM, Cluster, Job, signal_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NEVER = float('inf')


class LaunchError(Exception):
    """The node cannot run the script; its text becomes ``Job.launch_error``."""


class Launch:
    """What the node runs, and with what; `failed` turns a failing ``exec`` into an exit code and a text for stderr."""

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        cwd: str,
        files: tuple[int, int, int],
        failed: Callable[[OSError], tuple[int, str]],
    ) -> None:
        self.argv, self.environment, self.cwd, self.files, self.failed = argv, environment, cwd, files, failed


def detach_and_run(cluster: Cluster) -> None:
    """Become a process that belongs to nobody and start what can be started; it does not return."""
    try:
        os.setsid()
        null = os.open('/dev/null', os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)  # the caller must not wait for the end of our output
        os.closerange(3, min(os.sysconf('SC_OPEN_MAX'), 4096))
        run(cluster)
    except BaseException:  # noqa: BLE001 - there is nobody who could be told
        import traceback

        with open(f'{cluster.dir}/runner.log', 'a') as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(0)


def run(cluster: Cluster) -> None:
    """Run all jobs that can be started, and those that can be when they have ended."""
    jobs = cluster.take_startable()
    while jobs:
        job = _share(jobs)
        if job.state == 'queued':  # requeued: somebody must be there when its time comes
            time.sleep(max(0.0, job.eligible - time.time()))
            jobs = cluster.take_startable()
        else:
            ended = _Run(cluster, job).to_its_end()
            jobs = cluster.take_startable()
            if ended is not None and ended.state == 'queued' and ended.eligible > time.time():
                jobs.append(ended)


def _share(jobs: list[Job]) -> Job:
    """Give each job but the last a process of its own; return the one that the current process has to run."""
    for job in jobs[:-1]:
        if os.fork() == 0:
            return job
    return jobs[-1]


class _Run:
    """One run of one job."""

    def __init__(self, cluster: Cluster, job: Job) -> None:
        self.cluster, self.id = cluster, job.id
        self.node = __import__(f'fakes.{cluster.scheduler}.node', fromlist=['launch'])
        self.wake_path = f'{cluster.dir}/spool/{job.id}.wake'

    def to_its_end(self) -> Job | None:
        os.mkfifo(self.wake_path, 0o600)
        self.wake = os.open(self.wake_path, os.O_RDWR | os.O_NONBLOCK)
        outcome: dict[str, Any] = {}
        try:
            job = self._update(runner=os.getpid())
            if job.state == 'starting':
                job = self._wait_while('hold_start')
                if not job.kill:
                    job = self._update(state='running', started=time.time())
            if not job.kill:
                outcome = self._run_script(job)
            if self.cluster.has_knob('hold_end'):
                self._update(state='ending', ended=self._job().ended or time.time(), **outcome)
                self._wait_while('hold_end', until_killed=False)
        finally:
            os.unlink(self.wake_path)
            os.close(self.wake)
            ended = self.cluster.finish(self.id, **outcome)
        return ended

    def _job(self) -> Job:
        job = self.cluster.load(self.id)
        assert job is not None
        return job

    def _update(self, **fields: Any) -> Job:
        with self.cluster.lock:
            job = self._job()
            if job.kill:
                fields.pop('state', None)
            job.__dict__.update(fields)
            self.cluster.save(job)
        return job

    def _wait_while(self, knob: str, *, until_killed: bool = True) -> Job:
        while self.cluster.has_knob(knob):
            if until_killed and self._job().kill:
                break
            self._sleep(_NEVER)
        return self._job()

    def _sleep(self, seconds: float, *others: int) -> None:
        """Sleep until somebody wakes the job, or one of the other descriptors can be read."""
        select.select([self.wake, *others], [], [], None if seconds == _NEVER else max(0.0, seconds))
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass

    def _run_script(self, job: Job) -> dict[str, Any]:
        import marshal

        with open(f'{self.cluster.spool(job)}/environment', 'rb') as file:
            environment = marshal.load(file)
        try:
            launch: Launch = self.node.launch(self.cluster, job, environment)
        except LaunchError as ex:
            return {'launch_error': str(ex)}
        begun, not_begun = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(launch, job.umask)
        for fd in {not_begun, *launch.files}:
            os.close(fd)
        os.read(begun, 1)  # the other end is closed by `exec`: from now on the job has its session and can be signalled
        os.close(begun)
        self._update(pid=pid)
        outcome = self._watch(pid, job)
        if hasattr(self.node, 'ended'):
            outcome.update(self.node.ended(self.cluster, self._job().copy(**outcome), launch))
        return outcome

    def _watch(self, pid: int, job: Job) -> dict[str, Any]:
        """Wait for the end of the script, and see to it that it comes when it has to."""
        scale = float(self.cluster.live_knob('time_scale', '1'))
        limit = job.started + job.walltime * scale if job.walltime else _NEVER
        signals: list[int] | None = None  # those still to be sent, once it is being killed
        next_signal = _NEVER
        struck = False
        try:
            ended = [os.pidfd_open(pid)]
        except (AttributeError, OSError):  # not on this system
            ended = []
        while not _has_ended(pid) or self._waits_for_others(pid, signals):
            if time.time() >= limit:
                self.cluster.end(self.id, 'timeout')
                limit = _NEVER
            if signals is None:
                job = self._job()
                if job.out_of_memory and not struck:
                    struck = self._kill_a_process(job)
                if job.kill:
                    signals = self._signals(job)
                    next_signal = time.time()
            if signals and time.time() >= next_signal:
                signal_group(pid, signals.pop(0))
                signal_group(pid, SIGCONT)
                next_signal = time.time() + float(self.cluster.live_knob('kill_grace', '0.5'))
                if not signals:
                    next_signal = _NEVER
            watched = [] if _has_ended(pid) else ended
            self._sleep(min(limit, next_signal, _NEVER if watched else time.time() + 0.01) - time.time(), *watched)
        signal_group(pid, SIGKILL)  # what the script left behind; its zombie keeps the number of the group
        _, status, usage = os.wait4(pid, 0)
        for fd in ended:
            os.close(fd)
        return {'wait_status': status, 'max_rss': usage.ru_maxrss}

    def _waits_for_others(self, pid: int, signals: list[int] | None) -> bool:
        """Tell whether a job that is being killed goes on after its script, as long as there are other processes."""
        if signals and getattr(self.node, 'WAITS_FOR_ALL', False):
            return bool(self.cluster.process_ids(Job(pid=pid)))
        return False

    def _signals(self, job: Job) -> list[int]:
        if job.kill == 'node_failure':
            return [SIGKILL]
        return list(self.node.kill_signals(job)) if hasattr(self.node, 'kill_signals') else [SIGTERM, SIGKILL]

    def _kill_a_process(self, job: Job) -> bool:
        """Do as the kernel does when a job has used up its memory: it takes a process, and rarely the batch shell."""
        *_, youngest = self.cluster.process_ids(job)
        os.kill(youngest, SIGKILL)
        return True


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _become(launch: Launch, umask: int) -> None:
    """Turn the forked process into the script of the job."""
    try:
        os.setsid()
        for fd, source in enumerate([os.dup(source) for source in launch.files]):
            os.dup2(source, fd)
        os.umask(umask)
        os.chdir(launch.cwd)
        os.execve(launch.argv[0], launch.argv, launch.environment)
    except OSError as ex:
        code, text = launch.failed(ex)
        os.write(2, os.fsencode(text))
        os._exit(code)
    except BaseException:  # noqa: BLE001 - nothing may return from here: it would run the runner's code twice
        sys.excepthook(*sys.exc_info())
        os._exit(70)

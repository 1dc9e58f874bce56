"""What the base classes of executors and launchers do for those that are built on them."""

from __future__ import annotations

import threading
from typing import Any, Optional

import pytest
from packaging.version import Version

from psij import (
    InvalidJobException,
    Job,
    JobExecutor,
    JobExecutorConfig,
    JobSpec,
    JobState,
    JobStatus,
    Launcher,
    ResourceSpecV1,
    SubmitException,
)
from psij.job_executor import DefaultResources, resources_given


class FakeExecutor(JobExecutor):
    """Refuses jobs as long as it is told to."""

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(url, JobExecutorConfig() if config is None else config)
        self.error: Optional[Exception] = None

    def submit(self, job: Job) -> None:
        self._check_job(job)
        job._native_id = 7
        if self.error is not None:
            self._release_job(job)
            raise self.error
        self._set_job_status(job, JobStatus(JobState.QUEUED))

    def cancel(self, job: Job) -> None:
        raise NotImplementedError

    def list(self) -> list[str]:
        return []

    def attach(self, job: Job, native_id: str) -> None:
        self._bind(job)


class Named(FakeExecutor):
    _NAME_ = 'Named'
    _VERSION_ = Version('1.2')


def _job(**values: Any) -> Job:
    return Job(JobSpec('/bin/true', **values))


def test_attributes() -> None:
    config = JobExecutorConfig()
    executor = FakeExecutor('x://y', config)
    assert (executor.url, executor.config) == ('x://y', config)
    assert FakeExecutor().url is None


def test_the_base_class_needs_a_config() -> None:
    class Careless(FakeExecutor):
        def __init__(self) -> None:
            JobExecutor.__init__(self)

    with pytest.raises(AssertionError, match='Careless must pass a JobExecutorConfig'):
        Careless()


def test_the_base_classes_are_abstract() -> None:
    with pytest.raises(TypeError):
        JobExecutor(config=JobExecutorConfig())  # type: ignore[abstract]
    with pytest.raises(TypeError):
        Launcher()  # type: ignore[abstract]


def test_a_class_may_name_itself() -> None:
    assert (Named().name, Named().version) == ('named', Version('1.2'))
    assert str(Named()) == 'JobExecutor[named, 1.2]'
    assert str(Named('x://y')) == 'JobExecutor[named, 1.2, url=x://y]'


def test_a_subclass_is_what_its_base_is() -> None:
    class Special(Named):
        pass

    assert (Special().name, Special().version) == ('named', Version('1.2'))


def test_a_class_without_a_name() -> None:
    assert (FakeExecutor().name, FakeExecutor().version) == ('fakeexecutor', Version('0'))


def test_check_job_binds_and_returns_the_specification() -> None:
    executor, job = FakeExecutor(), _job()
    assert executor._check_job(job) is job.spec
    assert job.executor is executor
    assert job.status.state is JobState.NEW


def test_one_process_is_asked_for_if_nothing_is() -> None:
    job = _job()
    assert job.spec is not None
    assert not resources_given(job.spec)
    FakeExecutor()._check_job(job)
    assert job.spec.resources == ResourceSpecV1()
    assert not resources_given(job.spec), 'it can still be told that nobody asked for them'
    assert isinstance(job.spec.resources, DefaultResources)
    job.spec.resources.node_count = 2
    assert resources_given(job.spec)
    assert resources_given(JobSpec(resources=ResourceSpecV1()))


def test_one_specification_for_two_jobs() -> None:
    executor, spec = FakeExecutor(), JobSpec('/bin/true')
    for job in (Job(spec), Job(spec)):
        executor.submit(job)
        assert job.spec is spec


@pytest.mark.parametrize(
    ('job', 'message'),
    [
        (Job(), '^Missing specification$'),
        (Job(5), '^Invalid specification: got 5, expected a JobSpec'),  # type: ignore[arg-type]
        (Job(JobSpec()), '^Invalid executable: got None'),
        (_job(environment={'A B': 'x'}), '^Invalid environment: '),
    ],
    ids=['none', 'type', 'executable', 'environment'],
)
def test_a_job_that_is_refused_stays_as_it_was(job: Job, message: str) -> None:
    with pytest.raises(InvalidJobException, match=message):
        FakeExecutor().submit(job)
    assert (job.executor, job.native_id, job.status.state) == (None, None, JobState.NEW)
    job.spec = JobSpec('/bin/true')
    FakeExecutor().submit(job)
    assert job.status.state is JobState.QUEUED


def test_a_job_that_was_submitted_is_refused() -> None:
    executor, job = FakeExecutor(), _job()
    executor.submit(job)
    with pytest.raises(InvalidJobException, match=r'^Job must be in NEW state$'):
        executor.submit(job)


def test_a_job_of_another_executor_is_refused() -> None:
    other, job = FakeExecutor(), _job()
    other.attach(job, '7')
    with pytest.raises(InvalidJobException, match=r'^Job is already associated with an executor$'):
        FakeExecutor().submit(job)
    assert job.executor is other


def test_a_failed_submission_can_be_repeated() -> None:
    executor, job = FakeExecutor(), _job()
    executor.error = SubmitException('busy', transient=True)
    with pytest.raises(SubmitException, match=r'^busy$'):
        executor.submit(job)
    assert (job.executor, job.native_id, job.status.state) == (None, None, JobState.NEW)
    executor.error = None
    executor.submit(job)
    assert (job.executor, job.native_id) == (executor, '7')


def test_of_two_submissions_at_once_one_is_refused() -> None:
    executor, job, outcomes = FakeExecutor(), _job(), []
    start = threading.Barrier(8)

    def check() -> None:
        start.wait(30)
        try:
            executor._check_job(job)
            outcomes.append('bound')
        except InvalidJobException as ex:
            outcomes.append(ex.message)

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ['Job is already associated with an executor'] * 7 + ['bound']


class Echo(Launcher):
    _NAME_ = 'echo'
    _VERSION_ = Version('2')

    def get_launch_command(self, job: Job) -> list[str]:
        return ['echo']


def test_launcher() -> None:
    config = JobExecutorConfig()
    assert Echo().config is JobExecutorConfig.DEFAULT
    assert Echo(config).config is config
    assert (Echo().name, Echo().version) == ('echo', Version('2'))
    assert Launcher.DEFAULT_LAUNCHER_NAME == 'single'

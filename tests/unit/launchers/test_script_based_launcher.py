"""Launch commands, and how scripts get to the work directory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Optional

import pytest

from psij import (
    InvalidJobException,
    Job,
    JobExecutorConfig,
    JobSpec,
    Launcher,
    ResourceSpec,
    ResourceSpecV1,
    SubmitException,
)
from psij.launchers import (
    AprunLauncher,
    JsrunLauncher,
    MPILauncher,
    MultipleLauncher,
    SingleLauncher,
    SrunLauncher,
)
from psij.launchers.script_based_launcher import SCRIPTS, ScriptBasedLauncher

CLASSES = [AprunLauncher, JsrunLauncher, MPILauncher, MultipleLauncher, SingleLauncher, SrunLauncher]
WITH_COUNTS = [AprunLauncher, JsrunLauncher, SrunLauncher]


@pytest.fixture
def config(tmp_path: Path) -> JobExecutorConfig:
    return JobExecutorConfig(work_directory=tmp_path / 'work directory')


def job(**more: Any) -> Job:
    return Job(JobSpec('/bin/e', ['1', '2'], **more))


def single(config: JobExecutorConfig) -> SingleLauncher:
    return SingleLauncher(config)


# --- the command -----------------------------------------------------------------------------------------------------


def test_single(config: JobExecutorConfig) -> None:
    a_job = job()
    command = single(config).get_launch_command(a_job)
    assert command[0] == '/bin/bash'
    assert Path(command[1]).name == 'single_launch.sh'
    assert command[2:] == [a_job.id, '', '', '', '/dev/null', '/dev/null', '/dev/null', '/bin/e', '1', '2']


def test_everything(config: JobExecutorConfig) -> None:
    config.launcher_log_file = Path('log')
    a_job = job(
        pre_launch='pre',
        post_launch=Path('/p o/st'),
        stdin_path='i',
        stdout_path='o',
        stderr_path='e',
        resources=ResourceSpecV1(node_count=2, processes_per_node=2),
    )
    command = MultipleLauncher(config=config).get_launch_command(a_job)
    assert command[2:] == [a_job.id, 'log', 'pre', '/p o/st', 'i', 'o', 'e', '4', '/bin/e', '1', '2']


def test_log_file(config: JobExecutorConfig) -> None:
    config.launcher_log_file = Path('/the/log')
    launcher = single(config)
    assert launcher.get_launch_command(job())[3] == '/the/log'
    assert launcher.get_launch_command(job(), log_file='another')[3] == 'another'
    assert launcher.get_launch_command(job(), log_file='')[3] == ''


def test_all_elements_are_strings(config: JobExecutorConfig) -> None:
    a_job = job()
    assert a_job.spec is not None
    a_job.spec.arguments = [Path('/a'), 5, '']  # type: ignore[list-item]
    command = single(config).get_launch_command(a_job)
    assert command[-3:] == ['/a', '5', '']
    assert all(type(each) is str for each in command)


@pytest.mark.parametrize('launcher', CLASSES)
@pytest.mark.parametrize('spec', [None, JobSpec(), JobSpec('')])
def test_there_must_be_an_executable(
    launcher: type[ScriptBasedLauncher], spec: Optional[JobSpec], config: JobExecutorConfig
) -> None:
    with pytest.raises(InvalidJobException, match='no specification' if spec is None else 'no executable'):
        launcher(config=config).get_launch_command(Job(spec))  # type: ignore[call-arg]


class ResourceSpecV2(ResourceSpec):
    @property
    def version(self) -> int:
        return 2


@pytest.mark.parametrize('launcher', [each for each in CLASSES if each is not SingleLauncher])
def test_unknown_version_of_resources(launcher: type[ScriptBasedLauncher], config: JobExecutorConfig) -> None:
    with pytest.raises(ValueError, match='ResourceSpecV2, of version 2'):
        launcher(config=config).get_launch_command(job(resources=ResourceSpecV2()))  # type: ignore[call-arg]


@pytest.mark.parametrize('launcher', CLASSES)
def test_additional_arguments(launcher: type[ScriptBasedLauncher], config: JobExecutorConfig) -> None:
    arguments = launcher(config=config).get_additional_args(  # type: ignore[call-arg]
        job(resources=ResourceSpecV1(process_count=3))
    )
    if launcher is SingleLauncher:
        assert arguments == []
    elif launcher in WITH_COUNTS:
        assert arguments == ['3', '', '', '', '']
    else:
        assert arguments == ['3']


@pytest.mark.parametrize('launcher', CLASSES)
def test_names_and_versions(launcher: type[Launcher], config: JobExecutorConfig) -> None:
    names = {
        AprunLauncher: ('aprun', '0.0.1'),
        JsrunLauncher: ('jsrun', '0.0.1'),
        SrunLauncher: ('srun', '0.0.1'),
        MPILauncher: ('mpirun', '0.2.0'),
        MultipleLauncher: ('multiple', '0.2.0'),
        SingleLauncher: ('single', '0.2.0'),
    }
    instance = launcher(config=config)
    assert (instance.name, str(instance.version)) == names[launcher]
    assert type(Launcher.get_instance(instance.name, config=config)) is launcher
    assert instance.config is config
    assert launcher().config is JobExecutorConfig.DEFAULT


# --- deployment ------------------------------------------------------------------------------------------------------


def deployed(command: list[str]) -> Path:
    return Path(command[1])


def test_scripts_are_copied_to_a_private_directory_named_after_the_contents(config: JobExecutorConfig) -> None:
    old = os.umask(0)
    try:
        script = deployed(single(config).get_launch_command(job()))
    finally:
        os.umask(old)
    library = script.parent / 'launcher_lib.sh'
    contents = [(SCRIPTS / path.name).read_bytes() for path in (library, script)]
    assert script.parent == config.work_directory / hashlib.sha256(b''.join(contents)).hexdigest()
    assert [library.read_bytes(), script.read_bytes()] == contents
    assert sorted(script.parent.iterdir()) == [library, script]
    assert script.parent.stat().st_mode & 0o777 == 0o700
    assert library.stat().st_mode & 0o077 == script.stat().st_mode & 0o077 == 0


def test_the_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of the job is another one."""
    monkeypatch.chdir(tmp_path)
    assert deployed(single(JobExecutorConfig(work_directory=Path('w'))).get_launch_command(job())).is_relative_to(
        tmp_path / 'w'
    )


def test_nothing_is_written_before_it_is_needed(config: JobExecutorConfig) -> None:
    single(config)
    assert not config.work_directory.exists()


class ThirdParty(MultipleLauncher):
    """As in other packages: a script of their own, and a file for it."""

    def __init__(self, script: Path, config: Optional[JobExecutorConfig] = None) -> None:
        MultipleLauncher.__init__(self, script, config)

    def _files_to_deploy(self) -> list[Path]:
        return [*super()._files_to_deploy(), self._script_path.parent / 'tool']

    def get_additional_args(self, job: Job) -> list[str]:
        return [*super().get_additional_args(job), 'more']


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/tool').write_text('#!/bin/sh\necho "tool $*"\n')
    (tmp_path / 'mine/tool').chmod(0o755)
    script = tmp_path / 'mine/launch it.sh'
    script.write_text(
        '#!/bin/bash\nsource "$(dirname "$0")/launcher_lib.sh"\n"$(dirname "$0")/tool" "$@"\n'
        + '#' * 100_000
        + '\nexit 3'
    )
    return script


def test_a_launcher_of_another_package(script: Path, config: JobExecutorConfig) -> None:
    """With a script of any size, more files, their modes, and more arguments."""
    command = ThirdParty(script, config).get_launch_command(job())
    assert deployed(command).name == script.name
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, 'tool 1 more /bin/e 1 2\n', '')


def test_a_script_that_is_missing(tmp_path: Path, config: JobExecutorConfig) -> None:
    with pytest.raises(SubmitException, match=r'ThirdParty.*nothing\.sh'):
        ThirdParty(tmp_path / 'nothing.sh', config).get_launch_command(job())


def test_it_is_done_once(config: JobExecutorConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = single(config)
    first = launcher.get_launch_command(job())
    monkeypatch.setattr(launcher, '_files_to_deploy', lambda: pytest.fail('a second time'))
    assert launcher.get_launch_command(job())[1] == first[1]


def test_after_the_first_time_it_is_cheap(config: JobExecutorConfig) -> None:
    """The target is a few microseconds; this only finds out if files are read or written each time."""
    import timeit

    launcher, a_job = SrunLauncher(config), job(resources=ResourceSpecV1(process_count=3))
    launcher.get_launch_command(a_job)
    seconds = min(timeit.repeat(lambda: launcher.get_launch_command(a_job), number=100, repeat=20)) / 100
    assert seconds < 50e-6


def test_it_is_done_again_when_it_has_to_be(config: JobExecutorConfig, tmp_path: Path) -> None:
    launcher = single(config)
    script = deployed(launcher.get_launch_command(job()))
    script.unlink()
    assert deployed(launcher.get_launch_command(job())) == script
    assert script.exists()
    config.work_directory = tmp_path / 'another'
    other = deployed(launcher.get_launch_command(job()))
    assert other.is_relative_to(tmp_path / 'another')
    assert other.exists()


def spoil_content(script: Path) -> None:
    script.write_text('rm -rf /')


def spoil_mode(script: Path) -> None:
    script.chmod(0o666)


def spoil_kind(script: Path) -> None:
    copy = script.parent / 'copy'
    script.rename(copy)
    script.symlink_to(copy)


def spoil_directory(script: Path) -> None:
    script.parent.chmod(0o777)


def spoil_owner(script: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip('needs to be root')
    os.chown(script, 65534, 65534)


@pytest.mark.parametrize('spoil', [spoil_content, spoil_mode, spoil_kind, spoil_directory, spoil_owner])
def test_what_is_there_is_checked_and_repaired(spoil: Any, config: JobExecutorConfig) -> None:
    script = deployed(single(config).get_launch_command(job()))
    spoil(script)
    assert deployed(single(config).get_launch_command(job())) == script
    assert script.read_bytes() == (SCRIPTS / script.name).read_bytes()
    assert not script.is_symlink()
    assert script.stat().st_uid == os.geteuid()
    assert script.stat().st_mode & 0o077 == script.parent.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason='needs to be root')
def test_a_directory_of_somebody_else_is_not_used(config: JobExecutorConfig) -> None:
    script = deployed(single(config).get_launch_command(job()))
    os.chown(script.parent, 65534, 65534)
    with pytest.raises(SubmitException, match=script.parent.name):
        single(config).get_launch_command(job())


def test_a_file_that_is_in_use_is_not_changed(config: JobExecutorConfig) -> None:
    """A shell reads its script bit by bit: it must go on with what it has opened."""
    script = deployed(single(config).get_launch_command(job()))
    script.write_text('wrong')
    with script.open() as stream:
        single(config).get_launch_command(job())
        assert stream.read() == 'wrong'


def test_work_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    launcher = single(JobExecutorConfig(work_directory=tmp_path / 'file' / 'work'))
    with pytest.raises(SubmitException) as caught:
        launcher.get_launch_command(job())
    assert str(tmp_path / 'file' / 'work') in str(caught.value)
    assert 'JobExecutorConfig(work_directory=...)' in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_disk_full(config: JobExecutorConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('os.rename', full)
    with pytest.raises(SubmitException, match=r'No space left on device.*JobExecutorConfig\(work_directory=...\)'):
        single(config).get_launch_command(job())
    assert [path for path in config.work_directory.rglob('*') if path.is_file()] == []


DEPLOY = """
import sys
from pathlib import Path
from psij import Job, JobExecutorConfig, JobSpec
from psij.launchers import SingleLauncher
launcher = SingleLauncher(JobExecutorConfig(work_directory=Path(sys.argv[1])))
sys.stdin.read()
script = Path(launcher.get_launch_command(Job(JobSpec('/bin/true')))[1])
print(script, len(script.read_bytes()))
"""


def test_any_number_of_processes_can_do_it_at_the_same_time(config: JobExecutorConfig) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', DEPLOY, str(config.work_directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()  # go
        process.stdin = None
    outputs = {process.communicate(timeout=60)[0].decode() for process in processes}
    assert [process.returncode for process in processes] == [0] * len(processes)
    (output,) = outputs
    script, size = output.rsplit(maxsplit=1)
    assert int(size) == (SCRIPTS / 'single_launch.sh').stat().st_size
    assert sorted(os.listdir(Path(script).parent)) == ['launcher_lib.sh', 'single_launch.sh']


def test_any_number_of_threads_can_do_it_at_the_same_time(config: JobExecutorConfig) -> None:
    launcher = single(config)
    commands: list[list[str]] = []
    threads = [threading.Thread(target=lambda: commands.append(launcher.get_launch_command(job()))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(commands) == 10
    assert len({command[1] for command in commands}) == 1

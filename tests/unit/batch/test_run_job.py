"""What the script of a batch job does when signals come at bad moments; a real bash runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from psij import JobSpec
from psij._runtime import status_channel

from .toy import ToyExecutor, submitted


def run(executor: ToyExecutor, spec: JobSpec, line: str, instead: str) -> str:
    """Run the script of a job, in which one line has been replaced, and return the exit code file."""
    text = executor.script(submitted(executor, spec))
    assert text.count(line) == 1
    subprocess.run(['/bin/bash', '-c', text.replace(line, instead)], check=False)
    return (executor.work_directory / '1.ec').read_text()


@pytest.fixture
def executor(tmp_path: Path) -> ToyExecutor:
    return ToyExecutor(tmp_path / 'work')


def test_nothing_is_started_after_the_signal_to_end(executor: ToyExecutor, tmp_path: Path) -> None:
    """It would never get the signal, and run until the scheduler loses patience."""
    report = '_psij_update_status ACTIVE\n'
    spec = JobSpec('/bin/touch', [str(tmp_path / 'ran')])
    assert run(executor, spec, report, '{ ' + report + 'kill -TERM $$; }\n') == '143\nTERM\n'
    assert not (tmp_path / 'ran').exists()


def test_signal_that_comes_after_what_it_has_ended(executor: ToyExecutor) -> None:
    """Schedulers send it to all processes of a job, but not at the same moment."""
    result = '    _PSIJ_JOB_EC=$?\n'
    spec = JobSpec('/bin/sh', ['-c', 'exit 1'])
    assert run(executor, spec, result, result + '( sleep 0.05; kill -TERM $$ ) &\n') == '1\nTERM\n'


@pytest.mark.parametrize(('code', 'word'), [(3, 'SIGNAL 143'), (255, 'SIGNAL 143'), (137, 'SIGNAL 137')])
def test_job_that_is_told_to_end_reports_no_exit_code(executor: ToyExecutor, code: int, word: str) -> None:
    """Whatever it makes of the signal: it may be run again, and who sees the report must not learn how to end it."""
    report = '    _psij_send() { printf "%s" "$1" > report; }\n_psij_on_exit() {\n'
    spec = JobSpec('/bin/sh', ['-c', f'kill -TERM $PPID; exit {code}'], directory=executor.config.work_directory)
    assert run(executor, spec, '_psij_on_exit() {\n', report) == f'{code}\nTERM\n'
    assert (executor.config.work_directory / 'report').read_text().startswith(word + ' ')


@pytest.mark.parametrize('keep', [False, True])
def test_script_does_not_outlive_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """The submitting program may be gone, and whoever attaches to the job does not know its name."""
    monkeypatch.setattr(status_channel.shared_channel(), 'register', lambda *_: None)
    executor = ToyExecutor(tmp_path / 'work', keep_files=keep)
    job = submitted(executor)
    script = executor.work_directory / f'{job.id}.job'
    subprocess.run(['/bin/bash', script], check=True)
    assert (executor.work_directory / '1.ec').read_text() == '0\n'
    assert script.exists() is keep

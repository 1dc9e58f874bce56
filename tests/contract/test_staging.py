"""What is staged and removed: the tables of docs/staging.rst, for each way in which a job can end.

The launcher takes no part in this, so one launcher is enough.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest
from leases import leased

from psij import Job, JobSpec, JobState, StageIn, StageOut, StageOutFlags, StagingMode

from .conftest import Site

SUCCESS, ERROR, CANCEL = StageOutFlags.ON_SUCCESS, StageOutFlags.ON_ERROR, StageOutFlags.ON_CANCEL
NONE, ALWAYS, IF_PRESENT = StageOutFlags.NONE, StageOutFlags.ALWAYS, StageOutFlags.IF_PRESENT

OUTCOMES = {
    SUCCESS: ('exit 0', JobState.COMPLETED),
    ERROR: ('exit 3', JobState.FAILED),
    CANCEL: ('exec sleep 300', JobState.CANCELED),
}

ARRIVES = {
    ('file', StagingMode.COPY): 'file',
    ('file', StagingMode.LINK): 'link to file',
    ('file', StagingMode.MOVE): 'file',
    ('directory', StagingMode.COPY): 'directory',
    ('directory', StagingMode.LINK): 'link to directory',
    ('directory', StagingMode.MOVE): 'directory',
    ('link to file', StagingMode.COPY): 'file',
    ('link to file', StagingMode.LINK): 'link to file',
    ('link to file', StagingMode.MOVE): 'link to file',
    ('link to directory', StagingMode.COPY): 'directory',
    ('link to directory', StagingMode.LINK): 'link to directory',
    ('link to directory', StagingMode.MOVE): 'link to directory',
}


@pytest.fixture(autouse=True)
def _one_launcher(site: Site) -> None:
    if site.launcher != 'single':
        pytest.skip('the launcher takes no part in staging')


def make(path: Path, kind: str) -> None:
    """Make something to stage, with its name as contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    real = path.with_name(f'{path.name} itself') if kind.startswith('link') else path
    if kind.endswith('directory'):
        real.mkdir()
        (real / 'inside').write_text(path.name)
    else:
        real.write_text(path.name)
    if real != path:
        path.symlink_to(real)


def kind_of(path: Path) -> str:
    """Return what `make` has made, or what became of it; nothing else has the right contents."""
    if not os.path.lexists(path):
        return 'nothing'
    kind = 'directory' if path.is_dir() else 'file'
    text = (path / 'inside' if path.is_dir() else path).read_text()
    assert text in path.name, f'{path} has the contents of another one'
    return f'link to {kind}' if path.is_symlink() else kind


def end(site: Site, jobs: list[Job], outcome: StageOutFlags) -> None:
    """Let jobs come to their end."""
    for job in jobs if outcome is CANCEL else ():
        site.reach(job, JobState.ACTIVE)
        job.cancel()
    for job in jobs:
        status = site.final(job)
        assert status.state is OUTCOMES[outcome][1], status


def job_in(site: Site, name: str, outcome: StageOutFlags) -> JobSpec:
    """Return a job with a directory of its own."""
    directory = site.directory / name
    directory.mkdir()
    return site.shell(OUTCOMES[outcome][0], directory=directory)


@pytest.mark.parametrize('mode', StagingMode, ids=lambda mode: str(mode.name))
@pytest.mark.parametrize('outcome', OUTCOMES, ids=['success', 'error', 'cancel'])
def test_every_kind_and_condition(site: Site, outcome: StageOutFlags, mode: StagingMode) -> None:
    """One mode at a time: after a cancellation there are only seconds for it."""
    spec = job_in(site, 'job', outcome)
    here, there, results = site.directory / 'sources', site.directory / 'job', site.directory / 'results'
    arrives = {kind: became for (kind, how), became in ARRIVES.items() if how is mode}
    conditions = {flags.value: flags for flags in (NONE, SUCCESS, ERROR, CANCEL)}
    outgoing = {f'out {kind} {flags}': (kind, flags) for kind, flags in product(arrives, conditions)}
    for kind in arrives:
        make(here / f'in {kind}', kind)
    for name, (kind, _) in outgoing.items():
        make(there / name, kind)
    spec.stage_in = {StageIn(here / f'in {kind}', f'in {kind}', mode) for kind in arrives}
    spec.stage_out = {StageOut(name, results / name, conditions[flags], mode) for name, (_, flags) in outgoing.items()}
    spec.stage_out |= {
        StageOut('absent', results / f'absent {f.value}', f | IF_PRESENT) for f in (SUCCESS, ERROR, CANCEL)
    }
    end(site, [site.submit(spec)], outcome)
    moved = mode is StagingMode.MOVE
    for kind, became in arrives.items():
        assert kind_of(there / f'in {kind}') == became
        assert kind_of(here / f'in {kind}') == ('nothing' if moved else kind)
    for name, (kind, flags) in outgoing.items():
        meant = conditions[flags] is NONE or outcome in conditions[flags]
        assert kind_of(results / name) == (arrives[kind] if meant else 'nothing'), name
        assert kind_of(there / name) == ('nothing' if meant and moved else kind), name
    assert not any('absent' in path.name for path in results.iterdir())


@pytest.mark.parametrize('outcome', OUTCOMES, ids=['success', 'error', 'cancel'])
def test_every_condition_of_cleanup(site: Site, outcome: StageOutFlags) -> None:
    jobs: dict[StageOutFlags, Job] = {}
    kinds = dict.fromkeys(kind for kind, _ in ARRIVES)
    for flags in (NONE, SUCCESS, ERROR, CANCEL, ALWAYS):
        spec = job_in(site, f'job {flags.value}', outcome)
        for kind in kinds:
            make(Path(str(spec.directory)) / kind, kind)
        spec.cleanup = {*kinds, 'absent'}
        spec.cleanup_flags = flags
        jobs[flags] = site.submit(spec)
    end(site, list(jobs.values()), outcome)
    for flags in jobs:
        directory = site.directory / f'job {flags.value}'
        for kind in kinds:
            assert kind_of(directory / kind) == ('nothing' if outcome in flags else kind), (flags, kind)
            if kind.startswith('link'):
                assert kind_of(directory / f'{kind} itself') != 'nothing', 'links are not followed'


@pytest.fixture
def delivery(site: Site) -> JobSpec:
    """Return a job with a file to deliver, and one to remove, for each way to end."""
    spec = job_in(site, 'job', SUCCESS)
    directory = Path(str(spec.directory))
    conditions = {'first': SUCCESS, 'second': SUCCESS, 'canceled': CANCEL}
    for name in (*conditions, 'rubbish'):
        (directory / name).write_text(name)
    spec.stage_out = {StageOut(name, site.directory / 'results' / name, flags) for name, flags in conditions.items()}
    spec.cleanup = {Path('rubbish')}
    return spec


def test_cancel_while_files_are_staged_out(site: Site, delivery: JobSpec) -> None:
    """The job has ended well already: what that means for its files is done to the end."""
    delivery.cleanup_flags = SUCCESS
    directory = site.directory / 'job'
    with leased(directory / 'first') as lease:
        job = site.submit(delivery)
        site.eventually(lease.is_wanted, 'the file is staged out')
        job.cancel()
    assert site.final(job).state in (JobState.CANCELED, JobState.COMPLETED)
    assert sorted(os.listdir(site.directory / 'results')) == ['first', 'second']
    assert not (directory / 'rubbish').exists()


def test_cancel_while_files_are_staged_in(site: Site, delivery: JobSpec) -> None:
    """The executable is not run; what is to be done after a cancellation is done."""
    if site.backend.executor == 'rp':
        pytest.skip('RADICAL-Pilot tells scripts to end with a file, at which they look before the executable is run')
    delivery.cleanup_flags = CANCEL
    delivery.arguments = ['-c', 'touch ran']
    directory = site.directory / 'job'
    inputs = [site.script(name, name) for name in ('input 1', 'input 2')]
    delivery.stage_in = {StageIn(path, path.name) for path in inputs}
    with leased(inputs[0]) as lease:
        job = site.submit(delivery)
        site.eventually(lease.is_wanted, 'the file is staged in')
        job.cancel()
        assert site.final(job).state is JobState.CANCELED
    assert os.listdir(site.directory / 'results') == ['canceled']
    assert sorted(os.listdir(directory)) == ['canceled', 'first', 'second']

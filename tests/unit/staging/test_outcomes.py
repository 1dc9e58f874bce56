"""When things are staged out and removed, and what is said if that fails."""

from __future__ import annotations

from itertools import product

import pytest

from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode

from .harness import Site, tree

OUTCOMES = {
    StageOutFlags.ON_SUCCESS: 'true',
    StageOutFlags.ON_ERROR: '(exit 3)',
    StageOutFlags.ON_CANCEL: '_PSIJ_JOB_CANCELED=1; (exit 143)',  # as the trap of a script does it
}
EXIT_CODES = {StageOutFlags.ON_SUCCESS: 0, StageOutFlags.ON_ERROR: 3, StageOutFlags.ON_CANCEL: 143}
ALL_FLAGS = [StageOutFlags(bits) for bits in range(16)]


def meant(flags: StageOutFlags, outcome: StageOutFlags) -> bool:
    return bool(outcome & (flags & StageOutFlags.ALWAYS or StageOutFlags.ALWAYS))


@pytest.mark.parametrize('outcome', OUTCOMES, ids=str)
def test_conditions_of_stage_out(site: Site, outcome: StageOutFlags) -> None:
    """Every combination of flags, with a source that exists and with one that does not."""
    for flags in ALL_FLAGS:
        (site.job / f'present{flags.value}').write_text('data')
    done = site.stage(
        OUTCOMES[outcome],
        stage_out=[
            StageOut(name + str(flags.value), name + str(flags.value), flags)
            for name, flags in product(['present', 'missing'], ALL_FLAGS)
        ],
    )
    for flags in ALL_FLAGS:
        assert (site.submit / f'present{flags.value}').exists() == meant(flags, outcome), flags
        complains = f'Missing source file: missing{flags.value}\n' in done.output
        assert complains == (meant(flags, outcome) and not flags & StageOutFlags.IF_PRESENT), flags
    assert done.code == (EXIT_CODES[outcome] or 121)


@pytest.mark.parametrize('outcome', OUTCOMES, ids=str)
@pytest.mark.parametrize('flags', ALL_FLAGS, ids=lambda flags: str(flags.value))
def test_conditions_of_cleanup(site: Site, outcome: StageOutFlags, flags: StageOutFlags) -> None:
    (site.job / 'present').write_text('data')
    done = site.stage(OUTCOMES[outcome], cleanup=['present', 'missing'], cleanup_flags=flags)
    assert done == (EXIT_CODES[outcome], '', '')
    assert (site.job / 'present').exists() == (not outcome & flags)


def test_cancellation_is_not_taken_from_the_environment(site: Site) -> None:
    """A job that is itself submitted by a job that is being canceled."""
    (site.job / 'out').write_text('data')
    staging = {'directory': str(site.job), 'stage_out': [{'source': 'out', 'target': 'new', 'mode': 1, 'flags': 8}]}
    assert site.run(staging, environment={'_PSIJ_JOB_CANCELED': '1'}).code == 0
    assert not (site.job / 'new').exists()


@pytest.mark.parametrize('mode', StagingMode, ids=str)
def test_job_does_not_run_if_staging_in_fails(site: Site, mode: StagingMode) -> None:
    (site.submit / 'in').write_text('data')
    done = site.stage(
        'touch ran',
        stage_in=[StageIn('in', 'in'), StageIn('absent', 'x', mode), StageIn('in', 'later')],
        stage_out=[StageOut('in', 'out')],
        cleanup=['in'],
    )
    assert done == (121, f'Missing source file: {site.submit}/absent\n', '')
    assert set(tree(site.job)) == {bytes(site.job), bytes(site.job / 'in')}
    assert not (site.submit / 'out').exists()


@pytest.mark.parametrize('outcome', OUTCOMES, ids=str)
def test_stage_out_fails(site: Site, outcome: StageOutFlags) -> None:
    """The message says how the job ended too, the other items are staged, and nothing is lost in a cleanup."""
    for name in ('a', 'c'):
        (site.job / name).write_text(name)
    (site.submit / 'c').mkdir()
    done = site.stage(
        OUTCOMES[outcome],
        stage_out=[StageOut(name, name) for name in ('b', 'c', 'a')],
        cleanup=['a', 'c'],
    )
    code = EXIT_CODES[outcome]
    conjunction = 'and' if code else 'but'
    assert done.code == (code or 121)
    assert done.output.splitlines() == [
        'Missing source file: b',
        f'Failed to copy "c" to "{site.submit}/c": Target is a directory: {site.submit}/c',
        f'The job ended with exit code {code}, {conjunction} not all of its files could be staged out.',
    ]
    assert (site.submit / 'a').read_text() == 'a'
    assert (site.job / 'a').exists()
    assert (site.job / 'c').exists()


@pytest.mark.parametrize('outcome', OUTCOMES, ids=str)
def test_cleanup_is_refused(site: Site, outcome: StageOutFlags) -> None:
    (site.job / 'a').write_text('a')
    (site.job / 'away').symlink_to(site.submit)
    (site.submit / 'x').write_text('x')
    done = site.stage(OUTCOMES[outcome], cleanup=['a', 'away/x'])
    code = EXIT_CODES[outcome]
    assert done.code == (code or 121)
    first, last = done.output.splitlines()
    assert first == f'Cannot clean away/x outside of job directory {site.job}'
    assert last.startswith(f'The job ended with exit code {code}, ')
    assert (site.job / 'a').exists()
    assert (site.submit / 'x').exists()


@pytest.mark.parametrize('mode', StagingMode, ids=str)
def test_missing_job_directory(site: Site, mode: StagingMode) -> None:
    """Nothing is staged relative to another directory, in which a template may have left the script."""
    (site.submit / 'in').write_text('data')
    staging = {
        'directory': str(site.root / 'gone'),
        'stage_in': [{'source': str(site.submit / 'in'), 'target': 'x', 'mode': mode.value}],
    }
    done = site.run(staging)
    assert done.code == 121
    assert 'Cannot enter the job directory' in done.output
    assert 'No such file or directory' in done.output
    assert (site.submit / 'in').exists()
    assert not (site.job / 'x').exists()


def test_paths_are_relative_to_the_job_directory_wherever_the_script_is(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    (site.submit / 'tmp').write_text('of the user')
    (site.job / 'tmp').write_text('of the job')
    done = site.stage(
        f'cd {site.submit}', stage_in=[StageIn('in', 'x')], stage_out=[StageOut('x', 'y')], cleanup=['tmp']
    )
    assert done == (0, '', '')
    assert (site.job / 'x').read_text() == 'data'
    assert (site.submit / 'y').read_text() == 'data'
    assert (site.submit / 'tmp').exists()
    assert not (site.job / 'tmp').exists()


def test_without_a_directory_paths_are_relative_to_where_the_script_runs(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    (site.job / 'tmp').write_text('of the job')
    done = site.stage(directory=None, stage_in=[StageIn('in', 'x')], stage_out=[StageOut('x', 'y')], cleanup=['tmp'])
    assert done == (0, '', '')
    assert (site.job / 'x').read_text() == 'data'
    assert (site.submit / 'y').read_text() == 'data'
    assert not (site.job / 'tmp').exists()


def test_order_is_the_order_given(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    done = site.stage(
        stage_in=[StageIn('in', 'one'), StageIn(site.job / 'one', 'two', StagingMode.MOVE)],
        stage_out=[StageOut('two', 'out'), StageOut(site.submit / 'out', 'again', mode=StagingMode.MOVE)],
    )
    assert done == (0, '', '')
    assert sorted(path.name for path in site.submit.iterdir()) == ['again', 'in']

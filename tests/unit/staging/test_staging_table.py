"""Every cell of the tables in docs/staging.rst, which are read from there so that they cannot be wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from psij.staging import StageIn, StageOut, StagingMode

from .harness import Site, contents, make, make_directory, tree

DOCS = Path(__file__).parents[3] / 'docs' / 'staging.rst'
MODES = list(StagingMode)


def read_table(first_column: str) -> Dict[str, Dict[str, str]]:
    """Return the reST table whose first column has this title, as row -> column -> cell."""
    rules = 0
    lines: List[str] = []
    text = DOCS.read_text().splitlines()
    start = next(i for i, line in enumerate(text) if line.startswith(first_column + ' ')) - 1
    for line in text[start:]:
        if line.startswith('==='):
            rules += 1
            if rules == 3:
                break
        else:
            lines.append(line)
    edges = [i for i, c in enumerate(text[start]) if c == '=' and (i == 0 or text[start][i - 1] == ' ')]
    cells = [[line[a:b].strip() for a, b in zip(edges, [*edges[1:], None])] for line in lines]
    return {row[0]: dict(zip(cells[0][1:], row[1:])) for row in cells[1:]}


ARRIVES = read_table('Source')
TARGETS = read_table('At the target there is')


CELLS = [
    (source, StagingMode[mode], target)
    for source, modes in ARRIVES.items()
    for mode in modes
    for target in TARGETS
    if target != 'the source itself'  # has tests of its own
]


def expected(source: str, mode: StagingMode, target: str) -> Tuple[str, str]:
    """Return what arrives (a file, a directory, a link), and what happens to the target."""
    arrives = ARRIVES[source][mode.name]
    if arrives in ('missing', 'refused'):
        return '', arrives
    return arrives, TARGETS[target][arrives]


def test_tables_are_complete() -> None:
    assert len(CELLS) == 7 * 3 * 9
    assert {cell for row in ARRIVES.values() for cell in row.values()} == {
        'file',
        'directory',
        'link',
        'missing',
        'refused',
    }
    assert {cell for row in TARGETS.values() for cell in row.values()} == {'made', 'replaced', 'refused', 'kept'}


@pytest.mark.parametrize(('source', 'mode', 'target'), CELLS)
def test_cell(site: Site, source: str, mode: StagingMode, target: str) -> None:
    check_cell(site, site.submit / 'source', source, mode, target)


@pytest.mark.parametrize(('source', 'target'), [(s, t) for s, mode, t in CELLS if mode is StagingMode.MOVE])
def test_move_to_another_file_system(site: Site, other_file_system: Path, source: str, target: str) -> None:
    check_cell(site, other_file_system / 'source', source, StagingMode.MOVE, target)


def check_cell(site: Site, source: Path, source_kind: str, mode: StagingMode, target_kind: str) -> None:
    target = site.job / 'target'
    make(source, source_kind)
    make(target, target_kind)
    arrives, outcome = expected(source_kind, mode, target_kind)
    everything = (site.job, source.parent)
    before = tree(*everything)
    real_source = source.resolve()
    original = contents(real_source)

    done = site.stage(stage_in=[StageIn(source, 'target', mode)])

    if outcome in ('missing', 'refused'):
        assert done.code == 121
        assert str(source) in done.output
        assert ('Missing source file' in done.output) == (outcome == 'missing')
        assert tree(*everything) == before
        return
    assert done == (0, '', '')
    if arrives == 'link':
        assert os.readlink(target) == str(real_source)
    else:
        assert contents(target) == original
        assert not target.is_symlink()
    assert os.path.lexists(source) == (mode is not StagingMode.MOVE)
    # nothing else has changed: what links lead to, files nearby, and there is no temporary file
    assert without(tree(*everything), source, target, mode) == without(before, source, target, mode)


def without(found: Dict[bytes, object], source: Path, target: Path, mode: StagingMode) -> Dict[bytes, object]:
    """Return a tree without the target and, if it is moved, the source."""
    left_out = [target, source] if mode is StagingMode.MOVE else [target]
    return {
        path: entry
        for path, entry in found.items()
        if not any(path == os.fsencode(out) or path.startswith(os.fsencode(out) + b'/') for out in left_out)
    }


def same_path(site: Site) -> str:
    return str(site.job / 'target')


def other_way_to_it(site: Site) -> str:
    (site.submit / 'alias').symlink_to(site.job)
    return 'alias/target'


def other_name(site: Site) -> str:
    if (site.job / 'target').is_dir():
        return same_path(site)
    os.link(site.job / 'target', site.submit / 'source')
    return 'source'


def link_to_it(site: Site) -> str:
    (site.submit / 'source').symlink_to(site.job / 'target')
    return 'source'


def both_links(site: Site) -> str:
    (site.job / 'target').rename(site.submit / 'data')
    (site.submit / 'source').symlink_to('data')
    (site.job / 'target').symlink_to(site.submit / 'data')
    return 'source'


def link_to_itself(site: Site) -> str:
    return str(both_links(site) and site.job / 'target')


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', ['a file', 'a directory with contents'])
@pytest.mark.parametrize('relation', [same_path, other_way_to_it, other_name, link_to_it, link_to_itself])
def test_target_is_the_source(site: Site, mode: StagingMode, kind: str, relation: object) -> None:
    make(site.job / 'target', kind)
    source = relation(site)  # type: ignore[operator]
    before = tree(site.job, site.submit)
    assert site.stage(stage_in=[StageIn(source, 'target', mode)]) == (0, '', '')
    assert tree(site.job, site.submit) == before
    assert set(TARGETS['the source itself'].values()) == {'kept'}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', ['a file', 'a directory with contents'])
def test_source_and_target_are_two_links_to_the_same(site: Site, mode: StagingMode, kind: str) -> None:
    """The one is not the other: what is at the target is a link like any other."""
    make(site.job / 'target', kind)
    source, target, data = site.submit / both_links(site), site.job / 'target', site.submit / 'data'
    before = contents(data)
    done = site.stage(stage_in=[StageIn(source, 'target', mode)])
    assert contents(data) == before
    if kind != 'a file' and mode is StagingMode.COPY:
        assert (done.code, target.is_symlink()) == (121, True)
        return
    assert done == (0, '', '')
    assert target.samefile(data) == (mode is not StagingMode.COPY)
    assert os.path.lexists(source) == (mode is not StagingMode.MOVE)


@pytest.mark.parametrize('slash', ['', '/', '/.', '//./'])
def test_a_link_to_a_directory_with_a_slash_at_its_end_is_moved(site: Site, slash: str) -> None:
    """And not the directory, although that is what such a path means otherwise."""
    make(site.submit / 'source', 'a link to a directory')
    directory = site.submit / 'source.aside'
    before = contents(directory)
    assert site.stage(stage_in=[StageIn(f'source{slash}', 'target', StagingMode.MOVE)]) == (0, '', '')
    assert os.readlink(site.job / 'target') == str(directory)
    assert contents(directory) == before
    assert not os.path.lexists(site.submit / 'source')


@pytest.mark.parametrize('mode', MODES)
def test_target_is_a_link_to_the_source_file(site: Site, mode: StagingMode) -> None:
    source, target = site.submit / 'source', site.job / 'target'
    source.write_text('data')
    target.symlink_to(source)
    assert site.stage(stage_in=[StageIn('source', 'target', mode)]) == (0, '', '')
    assert target.read_text() == 'data'
    assert target.is_symlink() == (mode is StagingMode.LINK)
    assert source.exists() == (mode is not StagingMode.MOVE)


@pytest.mark.parametrize('mode', MODES)
def test_target_is_a_link_to_the_source_directory(site: Site, mode: StagingMode) -> None:
    make_directory(site.submit / 'source')
    (site.job / 'target').symlink_to(site.submit / 'source')
    before = tree(site.job, site.submit)
    done = site.stage(stage_in=[StageIn('source', 'target', mode)])
    assert done.code == (0 if mode is StagingMode.LINK else 121)
    assert tree(site.job, site.submit) == before


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('target', ['source/new', 'source/sub/new', 'source/a/b/c', 'alias/new'])
def test_target_inside_of_the_source(site: Site, mode: StagingMode, target: str) -> None:
    make_directory(site.job / 'source')
    (site.job / 'alias').symlink_to('source/sub')
    before = tree(site.job)
    done = site.stage(stage_in=[StageIn(site.job / 'source', target, mode)])
    if mode is StagingMode.LINK:  # links in a circle destroy nothing
        assert done == (0, '', '')
        assert os.readlink(site.job / target) == str(site.job / 'source')
    else:
        assert (done.code, tree(site.job)) == (121, before)
        assert 'the target is inside of the source' in done.output


@pytest.mark.parametrize('mode', MODES)
def test_target_beside_a_source_whose_name_it_begins_with(site: Site, mode: StagingMode) -> None:
    make_directory(site.job / 'source')
    assert site.stage(stage_in=[StageIn(site.job / 'source', 'source2/new', mode)]) == (0, '', '')
    assert (site.job / 'source2/new/sub/file').read_text() == 'in source'


@pytest.mark.parametrize('mode', MODES)
def test_source_inside_of_the_target(site: Site, mode: StagingMode) -> None:
    make_directory(site.job / 'target')
    before = tree(site.job)
    assert site.stage(stage_in=[StageIn(site.job / 'target/sub', 'target', mode)]).code == 121
    assert tree(site.job) == before


def test_the_whole_job_directory_can_be_copied_but_not_moved(site: Site) -> None:
    (site.job / 'result').write_text('data')
    assert site.stage(stage_out=[StageOut('.', 'all')]) == (0, '', '')
    assert (site.submit / 'all/result').read_text() == 'data'
    for source in ('.', '..', site.job):
        done = site.stage(stage_out=[StageOut(source, site.root / 'away' / 'moved', mode=StagingMode.MOVE)])
        assert done.code == 121
    assert site.job.is_dir()


def test_the_job_directory_is_no_target_even_if_it_is_empty(site: Site) -> None:
    make_directory(site.submit / 'source')
    inode = site.job.stat().st_ino
    done = site.stage(stage_in=[StageIn('source', site.job)])
    assert (done.code, site.job.stat().st_ino) == (121, inode)


def test_directories_are_made_for_targets(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    done = site.stage(
        stage_in=[StageIn('in', 'a/b/c'), StageIn('in', site.root / 'd/e')], stage_out=[StageOut('a/b/c', 'f/g')]
    )
    assert done == (0, '', '')
    for path in (site.job / 'a/b/c', site.root / 'd/e', site.submit / 'f/g'):
        assert path.read_text() == 'data'


@pytest.mark.parametrize('parent', ['a file', 'a link to a file', 'a FIFO, socket or device'])
def test_parent_of_the_target_is_no_directory(site: Site, parent: str) -> None:
    (site.submit / 'in').write_text('data')
    make(site.job / 'parent', parent)
    before = tree(site.job)
    done = site.stage(stage_in=[StageIn('in', 'parent/sub/target')])
    assert done.code == 121
    assert 'Not a directory' in done.output or 'File exists' in done.output
    assert tree(site.job) == before


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('target', ['out/x', 'out/a/b', 'sub/up/x', 'sub/../../x'])
def test_relative_target_stays_in_the_job_directory(site: Site, mode: StagingMode, target: str) -> None:
    """Otherwise an item could change files through a link that an earlier one made."""
    (site.submit / 'in').write_text('data')
    (site.job / 'sub').mkdir()
    (site.job / 'out').symlink_to(site.submit)
    (site.job / 'sub/up').symlink_to('../..')
    before = tree(site.root)
    item = {'source': str(site.submit / 'in'), 'target': target, 'mode': mode.value}
    done = site.run({'directory': str(site.job), 'stage_in': [item]})
    assert done.code == 121
    assert 'outside of the job directory' in done.output
    after = tree(site.root)
    after.pop(os.fsencode(site.root / 'script'))
    assert after == before


def test_relative_target_through_a_link_inside_the_job_directory(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    (site.job / 'sub').mkdir()
    (site.job / 'link').symlink_to('sub')
    assert site.stage(stage_in=[StageIn('in', 'link/x')]) == (0, '', '')
    assert (site.job / 'sub/x').read_text() == 'data'


@pytest.mark.parametrize('mode', [StagingMode.COPY, StagingMode.MOVE], ids=str)
def test_names_of_one_file_stay_names_of_one_file(site: Site, other_file_system: Path, mode: StagingMode) -> None:
    """Otherwise a copy could need much more room than the original."""
    (other_file_system / 'in').mkdir()
    (other_file_system / 'in/one').write_text('data')
    os.link(other_file_system / 'in/one', other_file_system / 'in/other')
    assert site.stage(stage_in=[StageIn(other_file_system / 'in', 'x', mode)]) == (0, '', '')
    assert (site.job / 'x/one').samefile(site.job / 'x/other')

"""Whatever there is and whatever is asked for: only declared targets and the job directory change, and data survives.

The scripts are given their items directly, as if they had passed every check before submission.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Set, Tuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psij.staging import StagingMode

from .harness import Result, Site, Tree, tree

# Names that exist nowhere else: what the test asks for can lead anywhere, and must not hit anything if all checks fail.
NAMES = ['psij-a', 'psij-b', 'psij c', '-psij*']
TOPS = ['{root}/job', '{root}/job2', '{root}/submit']

names = st.sampled_from(NAMES)
tops = st.sampled_from(TOPS)
steps = st.lists(st.sampled_from([*NAMES, '..', '.', '../job', '../job2', '../submit']), max_size=3)
paths = st.builds(
    lambda start, between, name: os.path.join(start, *between, name), st.one_of(st.just(''), tops), steps, names
)
links = st.one_of(paths, tops, st.sampled_from(['.', '..', '../job', '../submit', '../..']))


class Entry(NamedTuple):
    """Something to be there at the beginning; a link if it leads somewhere."""

    path: str
    kind: str
    leads_to: str


class Staging(NamedTuple):
    """A request to stage in."""

    source: str
    target: str
    mode: StagingMode


class Removal(NamedTuple):
    """A request to clean up."""

    path: str


entries = st.builds(
    Entry,
    st.builds(os.path.join, tops, names) | st.builds(os.path.join, tops, names, names),
    st.sampled_from(['file', 'directory', 'link']),
    links,
)
requests = st.builds(Staging, paths, paths, st.sampled_from(StagingMode)) | st.builds(Removal, paths)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(entries, min_size=3, max_size=10), asked=st.lists(requests, min_size=1, max_size=3))
def test_changes(user_site: Site, before: List[Entry], asked: List[object]) -> None:
    # an ordinary user runs the scripts, which bounds what a wrong one could do
    site = Site(Path(tempfile.mkdtemp(dir=user_site.root)), user_site.as_user)
    owner = user_site.root.stat()
    os.chown(site.root, owner.st_uid, owner.st_gid)
    (site.root / 'job2').mkdir()
    for number, entry in enumerate(before):
        create(site, entry, number)
    for request in asked:
        if isinstance(request, Staging):
            stage(site, request)
        elif isinstance(request, Removal):
            clean(site, request)


def create(site: Site, entry: Entry, number: int) -> None:
    path = Path(place(site, entry.path))
    if os.path.lexists(path) or not path.parent.is_dir() or not is_inside(str(path), str(site.root)):
        return
    if entry.kind == 'file':
        path.write_text(f'data {number}')
    elif entry.kind == 'directory':
        path.mkdir()
    else:
        path.symlink_to(absolute(site, entry.leads_to))


def absolute(site: Site, path: str) -> str:
    return path.replace('{root}', str(site.root))


def place(site: Site, path: str) -> str:
    """Return where the entry with this path really is, or would be."""
    parent, name = os.path.split(os.path.join(site.job, absolute(site, path)))
    return os.path.join(os.path.realpath(parent), name)


def is_inside(path: str, directory: str) -> bool:
    return path.startswith(directory + '/')


def run(site: Site, **staging: object) -> Tuple[Result, Set[str], Tree, Tree]:
    """Run a script; return also what has changed, and how things were before and after."""
    before = tree(site.root)
    done = site.run({'directory': str(site.job), **staging})
    script = os.fsencode(site.root / 'script')
    after = tree(site.root)
    changed = {os.fsdecode(p) for p in {*before, *after} - {script} if before.get(p) != after.get(p)}
    return done, changed, before, after


def stage(site: Site, request: Staging) -> None:
    source, target = place(site, request.source), place(site, request.target)
    item = {
        'source': absolute(site, request.source),
        'target': absolute(site, request.target),
        'mode': request.mode.value,
    }
    done, changed, before, after = run(site, stage_in=[item])

    made_for_it = {p for p in changed if is_inside(target, p) and os.fsencode(p) not in before}
    others = changed - made_for_it
    if done.code:
        assert done.code == 121
        assert str(item['target']) in done.output or str(item['source']) in done.output
        assert others == set()
    else:
        declared = [target, source] if request.mode is StagingMode.MOVE else [target]
        assert {p for p in others if not any(p == d or is_inside(p, d) for d in declared)} == set()
    if not os.path.isabs(str(item['target'])) and not is_inside(target, str(site.job)):
        assert (done.code, changed) == (121, set())
    # the only data that may be lost is that of a file that is replaced
    assert data(before, without=target) <= data(after)


def data(found: Dict[bytes, object], without: str = '') -> Set[object]:
    """Return the contents of all files but one; at the beginning, no two files have the same."""
    return {
        entry[2]
        for path, entry in found.items()
        if isinstance(entry, tuple) and entry[0] == 'file' and path != os.fsencode(without) and b'data' in entry[2][:4]
    }


def clean(site: Site, request: Removal) -> None:
    path = place(site, request.path)
    exists = os.path.isdir(os.path.join(site.job, os.path.dirname(absolute(site, request.path))))
    done, changed, before, _ = run(site, cleanup=[absolute(site, request.path)], cleanup_flags=14)
    if not exists:
        assert changed == set()
    elif is_inside(path, str(site.job)):
        assert changed == {os.fsdecode(p) for p in before if os.fsdecode(p) == path or is_inside(os.fsdecode(p), path)}
    else:
        assert (done.code, changed) == (121, set())

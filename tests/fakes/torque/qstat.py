"""``qstat`` of Torque: the short table, and ``-x``, which prints a document of XML for each ID."""

from __future__ import annotations

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster, Job
from fakes.pbs.jobs import clock, number
from fakes.pbs.script import OptionError, getopt
from fakes.torque.jobs import SERVER, attributes, listed, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakes.torque.jobs import Value

USAGE = 'usage: \n                          qstat [-f [-1]] [-W site_specific] [-x]\n'


def main(cluster: Cluster, argv: list[str]) -> int:
    if argv == ['--version']:
        out('Version: 6.1-dev\nCommit: 9335ebb6a95a89dad4fcf0afd9b1f03af4be1276\n')
        return 0
    try:
        options, words = getopt(argv, 'f1W:xaireu:nstGMRQqBE')
    except OptionError as ex:
        raise Exit(2, f'qstat: {ex}\n{USAGE}') from None
    given = {letter for letter, _ in options}
    if given - set('fx') or given == {'f'} or any('[' in word for word in words):
        raise unsupported(cluster, f'qstat {" ".join(argv)}')
    cluster.kick_if_due()
    found, code = _find(cluster, words)
    if 'x' not in given:
        out(table(found))
    elif words:
        for job in found:
            out(document([job]))
    elif found:
        out(document(found))
    return code


def _find(cluster: Cluster, words: list[str]) -> tuple[list[Job], int]:
    """Return the jobs that are meant, and the exit code, which is that of the last error."""
    if not words:
        return [job for job in cluster.jobs() if listed(cluster, job)], 0
    found, code = [], 0
    for word in words:
        if not word[:1].isdigit():
            err(f'qstat: Unknown queue destination {word}\n')
            code = 172
            continue
        wanted = number(word, SERVER)
        job = None if wanted is None else cluster.find(wanted)
        if job is None or not listed(cluster, job):
            err(f'qstat: Unknown Job Id Error {word if "." in word else f"{word}.{SERVER}"}\n')
            code = 153
        else:
            found.append(job)
    return found, code


def table(jobs: list[Job]) -> str:
    lines = [
        'Job ID                    Name             User            Time Use S Queue',
        '------------------------- ---------------- --------------- -------- - -----',
    ]
    for job in jobs:
        used = '0' if job.wait_status is None else clock(0)
        lines.append(f'{f"{job.id}.{SERVER}":26} {job.name:16} {job.user:15} {used:>8} {state(job)} {job.queue:15}')
    return ''.join(f'{line}\n' for line in lines) if jobs else ''


def document(jobs: list[Job]) -> str:
    inner = ''.join(f'<Job>{_elements(attributes(job))}</Job>' for job in jobs)
    return f'<?xml version="1.0"?>\n<Data>{inner}</Data>\n'


def _elements(members: dict[str, Value]) -> str:
    return ''.join(f'<{name}>{_content(value)}</{name}>' for name, value in members.items())


def _content(value: Value) -> str:
    if isinstance(value, dict):
        return _elements(dict(value))
    entities = (('&', '&amp;'), ('<', '&lt;'), ('>', '&gt;'), ('"', '&quot;'), ("'", '&apos;'))
    for character, entity in entities:
        value = value.replace(character, entity)
    return value

"""``squeue`` of Slurm 22.05."""

from __future__ import annotations

import os

from fakes.commandline import Exit, err, getopt, options, out, unsupported
from fakes.core import Cluster, Job
from fakes.slurm import jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Value = Callable[[Job], object]
    Cell = Callable[[object], str]
    Column = tuple[str, Value, Cell]

OPTIONS = options(
    'account=A all,a array,r clusters=M federation, format=o Format=O help, hide, iterate=i jobs?j json, '
    'licenses=L local, long,l me, name=n noheader,h nodelist=w partition=p priority,P qos=q reservation=R '
    'sibling, sort=S start, states=t steps?s usage, user=u users= verbose,v version,V yaml,'
)
COVERED = {
    'account', 'all', 'array', 'clusters', 'format', 'Format', 'jobs', 'me', 'name', 'noheader', 'partition',
    'sort', 'states', 'start', 'user', 'users', 'version', 'local',
}  # fmt: skip
VARIABLES = {
    'SQUEUE_ACCOUNT': 'account', 'SQUEUE_ARRAY': 'array', 'SQUEUE_FORMAT': 'format', 'SQUEUE_FORMAT2': 'Format',
    'SQUEUE_NAMES': 'name', 'SQUEUE_PARTITION': 'partition', 'SQUEUE_SORT': 'sort', 'SQUEUE_STATES': 'states',
    'SQUEUE_USERS': 'user', 'SLURM_CLUSTERS': 'clusters',
}  # fmt: skip

USAGE = """\
Usage: squeue [-A account] [--clusters names] [-i seconds] [--job jobid]
              [-n name] [-o format] [-p partitions] [--qos qos]
              [--reservation reservation] [--sort fields] [--start]
              [--step step_id] [-t states] [-u user_name] [--usage]
              [-L licenses] [-w nodes] [--federation] [--local] [--sibling]
\t      [-ahjlrsv]
"""
DEFAULT_FORMAT = '%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R'


def option(job: Job, name: str, default: str = '') -> str:
    """Return the value that an option of sbatch had."""
    return str(job.extra.get('options', {}).get(name, default))


def cpus(job: Job) -> int:
    return int(job.extra.get('tasks', 1)) * int(job.extra.get('cpus_per_task', 1))


def path(job: Job, pattern: str) -> str:
    return os.path.join(job.cwd, pattern)


def time_limit(job: Job) -> str:
    return jobs.elapsed(int(job.walltime)) if job.walltime else 'UNLIMITED'


def time_left(job: Job) -> str:
    return jobs.elapsed(max(0, int(job.walltime) - jobs.run_time(job))) if job.walltime else 'UNLIMITED'


# Each column with its header, its letter for -o (or '') and its names for -O.
_TABLE: list[tuple[str, str, str, Value]] = [
    ('ACCOUNT', 'a', 'account', lambda job: job.account),
    ('ARRAY_JOB_ID', 'F', 'arrayjobid', lambda job: job.array_id or job.id),
    ('ARRAY_TASK_ID', 'K', 'arraytaskid', jobs.task_indices),
    ('COMMAND', 'o', 'command', lambda job: job.extra.get('command') or '(null)'),
    ('COMMENT', 'k', 'comment', lambda job: option(job, 'comment', '(null)')),
    ('CPUS', 'C', 'numcpus', cpus),
    ('DEPENDENCY', 'E', 'dependency', lambda job: option(job, 'dependency', '(null)')),
    ('DERIVED_EC', '', 'derivedec', jobs.derived_exit_code),
    ('ELIGIBLE_TIME', '', 'eligibletime', lambda job: jobs.date(job.eligible)),
    ('END_TIME', 'e', 'endtime', lambda job: jobs.date(jobs.end(job))),
    ('EXEC_HOST', 'B', 'batchhost', lambda job: job.nodes[0] if job.nodes else 'n/a'),
    ('EXIT_CODE', '', 'exit_code', jobs.exit_code),
    ('GROUP', 'g', 'groupname', lambda job: job.user),
    ('JOBID', 'A', 'jobid', lambda job: job.id),
    ('JOBID', 'i', 'jobarrayid', jobs.array_job_id),
    ('MIN_MEMORY', 'm', 'minmemory', lambda job: f'{job.extra.get("memory", 500)}M'),
    ('NAME', 'j', 'name', lambda job: job.name),
    ('NICE', 'y', 'nice', lambda job: option(job, 'nice') or 0),
    ('NODELIST', 'N', 'nodelist', jobs.node_list),
    ('NODELIST(REASON)', 'R', 'reasonlist', jobs.reason_or_nodes),
    ('NODES', 'D', 'numnodes', lambda job: len(job.nodes) or job.node_count),
    ('PARTITION', 'P', 'partition', lambda job: job.queue),
    ('PRIORITY', 'Q', 'prioritylong', jobs.priority),
    ('QOS', 'q', 'qos', lambda job: 'normal'),
    ('REASON', 'r', 'reason', jobs.reason),
    ('REQUEUE', '', 'requeue', lambda job: int(job.may_requeue)),
    ('RESERVATION', 'v', 'reservation', lambda job: option(job, 'reservation', '(null)')),
    ('RESTART_COUNT', '', 'restartcnt', lambda job: job.restarts),
    ('START_TIME', 'S', 'starttime', lambda job: jobs.date(jobs.start(job))),
    ('ST', 't', 'statecompact', jobs.state),
    ('STATE', 'T', 'state', jobs.long_state),
    ('STDERR', '', 'stderr', lambda job: path(job, job.stderr or job.stdout)),
    ('STDOUT', '', 'stdout', lambda job: path(job, job.stdout)),
    ('SUBMIT_TIME', 'V', 'submittime', lambda job: jobs.date(job.submitted)),
    ('TASKS', '', 'numtasks', lambda job: job.extra.get('tasks', 1)),
    ('TIME', 'M', 'timeused', lambda job: jobs.elapsed(jobs.run_time(job))),
    ('TIME_LEFT', 'L', 'timeleft', time_left),
    ('TIME_LIMIT', 'l', 'timelimit', time_limit),
    ('TRES_PER_NODE', 'b', 'tres-per-node', lambda job: 'N/A'),
    ('USER', 'u', 'username', lambda job: job.user),
    ('UID', 'U', 'userid', lambda job: job.uid),
    ('WORK_DIR', 'Z', 'workdir', lambda job: job.cwd),
]
BY_LETTER = {letter: (header, value) for header, letter, _, value in _TABLE if letter}
BY_NAME = {name: (header, value) for header, _, name, value in _TABLE}


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = getopt('squeue', argv, OPTIONS)
    for name, _ in given:
        if name not in COVERED:
            raise unsupported(cluster, f'--{name}')
    values = {name: os.environ[key] for key, name in VARIABLES.items() if key in os.environ}
    values.update(given)
    if 'version' in values:
        out('slurm-wlm 22.05.8\n')
        return 0
    if 'jobs' in values and not values['jobs']:  # the list is an operand: -j does not take the next word
        values['jobs'] = operands.pop(0) if operands else ''
    if operands:
        raise Exit(1, f'squeue: error: Unrecognized option: {operands[0]}\n', USAGE)
    jobs.check_cluster('squeue', values.get('clusters', 'test'))
    cluster.kick_if_due()
    found = _select(cluster, values)
    if 'array' in values:
        found = jobs.each_task(found)
    rows = _sorted(found, values.get('sort', ''))
    columns = (
        _parse_long_format(values['Format'])
        if 'Format' in values
        else _parse_format(values.get('format') or DEFAULT_FORMAT)
    )
    header = '' if 'noheader' in values else ''.join(cell(head) for head, _, cell in columns) + '\n'
    line = _line(columns)
    out(header + ''.join([line(job) for job in rows]))
    return 0


# --- which jobs ------------------------------------------------------------------------------------------------------


def _select(cluster: Cluster, values: dict[str, str]) -> Iterator[Job]:
    """Return the jobs that pass all filters; a list of ids with one id that nobody knows is an error."""
    states = _parse_states(values['states']) if values.get('states') else None
    found = cluster.jobs()
    if values.get('jobs') is not None:
        found = _by_id(cluster, found, values['jobs'])
    if states is None:
        found = (job for job in found if not job.final)
    elif states:
        found = (job for job in found if jobs.state(job) in states)
    users = values.get('user') or values.get('users')
    if 'me' in values:
        found = (job for job in found if job.uid == cluster.uid)
    elif users:
        found = _by_user(cluster, found, users)
    for name, attribute in (('name', 'name'), ('partition', 'queue'), ('account', 'account')):
        if name in values:
            found = _by_word(found, attribute, set(values[name].split(',')))
    return found


def _by_id(cluster: Cluster, found: Iterator[Job], ids: str) -> Iterator[Job]:
    try:
        if not ids:
            return iter(())
        ids = ids.split(' ', maxsplit=1)[0]
        if ids.isdigit() and int(ids):
            job = cluster.find(int(ids))
            siblings = (other for other in found if job and job.array_id and other.array_id == int(ids))
            if job is None:
                raise Exit(1, 'slurm_load_jobs error: Invalid job id specified\n')
            return siblings if job.array_id == job.id else iter([job])
        return iter(list(jobs.select(found, ids)))
    except jobs.JobIdError as ex:
        raise Exit(1, f'squeue: error: Invalid job id: {ex}\n') from ex


def _by_user(cluster: Cluster, found: Iterator[Job], names: str) -> Iterator[Job]:
    import pwd

    uids = set()
    for name in names.split(','):
        if name == cluster.user:
            uids.add(cluster.uid)
        elif name.isdigit():
            uids.add(int(name))
        else:
            try:
                uids.add(pwd.getpwnam(name).pw_uid)
            except KeyError:
                others = [job.uid for job in cluster.everything() if job.user == name]
                if not others:
                    raise Exit(0, f'squeue: error: Invalid user: {name}\n\n') from None
                uids.update(others)
    return (job for job in found if job.uid in uids)


def _by_word(found: Iterator[Job], attribute: str, words: set[str]) -> Iterator[Job]:
    return (job for job in found if getattr(job, attribute) in words)


def _parse_states(text: str) -> set[str]:
    """Return compact states; an empty set means all."""
    states = set()
    for word in text.upper().split(','):
        if word == 'ALL':
            return set()
        matching = {code for code, name in jobs.STATES.items() if word in (code, name)}
        if not matching:
            valid = ','.join(jobs.STATES.values())
            lines = [f'Invalid job state specified: {text}', f'Valid job states include: {valid}']
            raise Exit(1, ''.join(f'squeue: error: {line}\n' for line in lines) + '\n')
        states |= matching
    return states


def _sorted(found: Iterator[Job], keys: str) -> list[Job]:
    """Sort by partition, name of the state and priority, if nothing else is wanted."""
    rows = sorted(found, key=lambda job: (job.queue, jobs.state(job), -jobs.priority(job), -job.id))
    for key in reversed([key for key in keys.split(',') if key]):
        if key[-1] not in BY_LETTER:
            raise Exit(1, f'squeue: error: Invalid sort specification: {key[-1]}\n')
        value = _key(key[-1])
        rows.sort(key=value, reverse=key.startswith('-'))
    return rows


def _key(letter: str) -> Callable[[Job], str]:
    value = BY_LETTER[letter][1]

    def key(job: Job) -> str:
        result = value(job)
        return (
            f'{result:020d}'
            if isinstance(result, int)
            else str(result).rjust(20)
            if str(result).isdigit()
            else str(result)
        )

    return key


# --- how they are printed --------------------------------------------------------------------------------------------


def _cell(width: int, right: bool, suffix: str) -> Cell:
    """Return what pads and cuts a value; widths are in bytes, as those of printf are."""

    def cell(value: object) -> str:
        text = str(value)
        if width and not text.isascii():
            text = os.fsdecode(os.fsencode(text)[:width])
            padding = ' ' * (width - len(os.fsencode(text)))
        else:
            text = text[:width] if width else text
            padding = ' ' * (width - len(text))
        return padding + text + suffix if right else text + padding + suffix

    def plain(value: object) -> str:
        return f'{value}{suffix}'

    return cell if width else plain


def _parse_format(text: str) -> list[Column]:
    """Read a format of -o: ``%[[.]width]letter`` and whatever is to stand after it."""
    prefix, *items = text.split('%')
    columns: list[Column] = []
    if prefix:
        columns.append((prefix, lambda job: prefix, _cell(0, False, '')))
    for item in items:
        body = item.lstrip('.')
        digits = body[: len(body) - len(body.lstrip('0123456789'))]
        letter, suffix = body[len(digits) :][:1], body[len(digits) + 1 :]
        if letter not in BY_LETTER:
            raise Exit(98, f'stand-in for squeue: %{letter} of --format is not covered\n')
        header, value = BY_LETTER[letter]
        columns.append((header, value, _cell(int(digits or 0), item.startswith('.'), suffix)))
    return columns


def _parse_long_format(text: str) -> list[Column]:
    """Read a format of -O: names, each with ``:[[.]width][suffix]``; without a colon it is 20 columns wide."""
    columns = []
    for item in text.split(','):
        name, colon, rest = item.partition(':')
        body = rest.lstrip('.')
        digits = body[: len(body) - len(body.lstrip('0123456789'))]
        width = int(digits or 0) if colon else 20
        if name.lower() not in BY_NAME:  # squeue goes on without it
            err(f'squeue: error: Invalid job format specification: {name}\n')
            continue
        header, value = BY_NAME[name.lower()]
        columns.append((header, value, _cell(width, rest.startswith('.'), body[len(digits) :])))
    return columns


def _line(columns: list[Column]) -> Callable[[Job], str]:
    pairs = [(value, cell) for _, value, cell in columns]

    def line(job: Job) -> str:
        return ''.join([cell(value(job)) for value, cell in pairs]) + '\n'

    return line

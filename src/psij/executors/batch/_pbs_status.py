"""What ``qstat`` of OpenPBS and Torque says about jobs. Everything here is pure.

The facts come from recordings of OpenPBS 23.06.06 and its development branch, and of Torque 6.1
(``tests/recordings/{pbs,torque}``), and from the manual page ``qstat(1B)``. First the text is cut into one
:data:`Record` for each job, then a record becomes a status.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Dict, Optional

from psij._log import lazy_logger
from psij.executors.batch.batch_scheduler_executor import check_status_exit_code
from psij.job_state import JobState
from psij.job_status import JobStatus

logger = lazy_logger(__name__)

Record = Dict[str, str]
"""The attributes of a job that matter, as text, by their names in OpenPBS."""

_STATES = {  # qstat(1B), "job_state"
    'Q': JobState.QUEUED,
    'H': JobState.QUEUED,  # held by somebody, or for another job that it depends on
    'W': JobState.QUEUED,  # waits for its time
    'T': JobState.QUEUED,  # on its way between servers
    'M': JobState.QUEUED,  # was moved to another server
    'R': JobState.ACTIVE,  # also while the prologue runs
    'S': JobState.ACTIVE,  # suspended; a job cannot go back to waiting
    'U': JobState.ACTIVE,  # suspended, because somebody uses the workstation
    'E': JobState.ACTIVE,  # its output is being copied, which may take minutes
    'B': JobState.ACTIVE,  # an array that has begun
    'X': JobState.COMPLETED,  # a job of an array; see _ended()
    'F': JobState.COMPLETED,  # OpenPBS; see _ended()
    'C': JobState.COMPLETED,  # Torque; see _ended()
}

_DELETED = '91'  # substate of OpenPBS: the only sign that holds, as the exit status may be anything
_NEVER_RAN = '92'  # substate of OpenPBS, if there is no exit status: a dependency failed
_FAILED = '93'  # substate of OpenPBS; the exit status of an array may be 0 all the same

# pbs_internal.h of OpenPBS: JOB_EXEC_KILL_*; older servers have only the comment
_LIMITS = {
    -24: 'ncpus',
    -25: 'ncpus',
    -26: 'vmem',
    -27: 'mem',
    -28: 'cput',
    -29: 'walltime',
}
_TORQUE_LIMITS = {-10: 'mem', -11: 'walltime', -12: 'cput'}  # pbs_job.h of Torque: JOB_EXEC_OVERLIMIT_*

_EXCEEDED = {  # the reason, and what to tell
    'walltime': ('timeout', 'The job was ended because its walltime was over.'),
    'cput': ('timeout', 'The job was ended because it used more CPU time than it had.'),
    'mem': ('out_of_memory', 'The job was ended because it used more memory than it had.'),
    'vmem': ('out_of_memory', 'The job was ended because it used more virtual memory than it had.'),
    'ncpus': ('cancelled_by_system', 'The job was ended because it used more CPUs than it had.'),
}

_COMPLAINT_ABOUT_A_JOB = re.compile(
    r'qstat: (Unknown Job Id |\S+ Job has finished, use -x|illegally formed job identifier: '
    r'|Unknown queue destination )'
)
NO_ANSWER = (
    r'cannot connect to server|Couldn\'t connect to cluster|could not connect to trqauthd|Connection refused'
    r'|Unable to communicate with|pbs_iff|timed? ?out|No Free Connections|End of File|Premature end of message'
)
"""What the commands say when the server does not answer; a regular expression, without regard to case."""

_NO_ANSWER = re.compile(rf'{NO_ANSWER}|pbsconf error|Error \(', re.IGNORECASE)
_REFUSAL = re.compile(r'^qstat: illegally formed job identifier: (\S+)$', re.MULTILINE)

_unknown_states: set[str] = set()  # those that were logged


# --- complaints -----------------------------------------------------------------------------------------------------


def _check_complaints(exit_code: int, complaints: str) -> None:
    """Check that an exit code that is not zero means no more than that some jobs are not known.

    There may be other remarks, such as of the dynamic linker, as long as none is about the server.
    """
    lines = [line for line in complaints.split('\n') if line and line[0] not in ' \t{}<']  # not of a document cut short
    if not any(map(_COMPLAINT_ABOUT_A_JOB.match, lines)) or any(map(_NO_ANSWER.search, lines)):
        # without what was printed about jobs, which has their environments
        check_status_exit_code('qstat', exit_code, '\n'.join(lines)[-2000:])


def refused_ids(out: str) -> Dict[str, str]:
    """Return the IDs that cannot be those of jobs of this server, each with what qstat says about it.

    >>> refused_ids('{\\n}\\nqstat: illegally formed job identifier: 1.other\\n')
    {'1.other': 'qstat: illegally formed job identifier: 1.other'}
    """
    complaints = out.rpartition('</Data>')[2] if '<Data>' in out else _cut_out_json(out)[1]
    return {found[1]: found[0] for found in _REFUSAL.finditer(complaints)}


# --- OpenPBS: JSON ------------------------------------------------------------------------------------------------

_ATTRIBUTES = ('job_state', 'substate', 'Exit_status', 'comment', 'Submit_arguments')
_USED = ('walltime', 'mem')


def parse_json(exit_code: int, out: str) -> Dict[str, Record]:
    """Return what ``qstat -f -F json`` says about each job.

    Parameters
    ----------
    exit_code
        Its exit code. It is not zero if one of the jobs that were asked about is not known, and the answer is good
        for the others.
    out
        Its standard output, followed by the standard error if the exit code is not zero.

    Raises
    ------
    RuntimeError
        If the server did not answer: a document without jobs is printed even then.
    ValueError
        If this is something else.
    """
    document, rest = _cut_out_json(out)
    if exit_code:
        _check_complaints(exit_code, rest)
    layout = _LAYOUT.search(document)
    if layout is not None:
        return _read_lines(document, layout['job'], layout['attribute'])
    if not document and exit_code:
        return {}
    return _read_json(document)


# What the release prints is not always JSON: some values of environment variables are printed bare (`nan`, `.5`),
# backslashes are not escaped, and text that is not ASCII comes as control characters and stray bytes. But each
# attribute has its line, which no value can end, and its depth.
_LAYOUT = re.compile(
    r'^[ \t]+"Jobs":[ \t]*\{[ \t]*\n(?P<job>[ \t]+)"[^"\n]+":[ \t]*\{[ \t]*\n(?P<attribute>[ \t]+)"', re.MULTILINE
)


def _cut_out_json(out: str) -> tuple[str, str]:
    """Return the document in an output, and what follows it; wrappers of ``qstat`` may print something before.

    >>> _cut_out_json('Hello\\n{\\n}\\nqstat: Unknown Job Id 9.x\\n')
    ('{\\n}', '\\nqstat: Unknown Job Id 9.x\\n')
    """
    begin = re.search(r'^\{', out, re.MULTILINE)
    end = begin and _END.search(out, begin.start())
    if begin is None or end is None:
        return '', out
    return out[begin.start() : end.end()], out[end.end() :]


_END = re.compile(r'^\}|^\{.*\}[ \t]*$', re.MULTILINE)


def _read_lines(document: str, job: str, attribute: str) -> Dict[str, Record]:
    records: Dict[str, Record] = {}
    record: Record = {}
    section = ''
    for line in _line_pattern(job, attribute).finditer(document):
        native_id, opened, key, value, used, amount = line.groups()
        if native_id is not None:
            records[native_id] = record = {}
        elif opened is not None:
            section = opened
        elif key is not None:
            record[key] = _value(value)
        elif section == 'resources_used':
            record[f'resources_used.{used}'] = _value(amount)
    return records


@functools.lru_cache(maxsize=8)
def _line_pattern(job: str, attribute: str) -> re.Pattern[str]:
    """Return a pattern for the lines that matter, given how deep they are.

    It begins with what these have in common, for which a regular expression can look fast.
    """
    step = attribute[len(job) :]
    opens = r'":[ \t]*\{[ \t]*(?=\n)'
    value = r'":[ \t]*([^\n]*?),?[ \t]*(?=\n)'
    return re.compile(
        f'\n{job}(?:'
        f'"([^"\n]+){opens}'
        f'|{step}"(\\w+){opens}'
        f'|{step}"({"|".join(_ATTRIBUTES)}){value}'
        f'|{step}{step}"({"|".join(_USED)}){value})'
    )


def _value(text: str) -> str:
    """Return a value of JSON as text.

    >>> _value('"say \\\\"hi\\\\""'), _value('-29'), _value('"not \\\\JSON"')
    ('say "hi"', '-29', 'not \\\\JSON')
    """
    if not text.startswith('"'):
        return text
    if '\\' not in text:
        return text[1:-1]
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text[1:-1]


def _read_json(document: str) -> Dict[str, Record]:
    """Return the records of a document without jobs, or one that is printed in another way than usual."""
    try:
        answer = json.loads(document, strict=False)
    except ValueError as ex:
        raise ValueError(f'qstat printed something else than JSON: {document[:500]!r}') from ex
    jobs = answer.get('Jobs', {}) if isinstance(answer, dict) else None
    if not isinstance(jobs, dict):
        raise ValueError(f'qstat printed something else than a list of jobs: {document[:500]!r}')
    records: Dict[str, Record] = {}
    for native_id, attributes in jobs.items():
        if isinstance(attributes, dict):
            records[native_id] = {key: str(attributes[key]) for key in _ATTRIBUTES if key in attributes}
            used = attributes.get('resources_used', {})
            for key in _USED:
                if isinstance(used, dict) and key in used:
                    records[native_id][f'resources_used.{key}'] = str(used[key])
    return records


# --- Torque: XML --------------------------------------------------------------------------------------------------

_XML_ATTRIBUTES = {'exit_status': 'Exit_status', 'submit_args': 'Submit_arguments'}
_XML_JOB = re.compile(r'<Job>(.*?)</Job>', re.DOTALL)
_XML_ATTRIBUTE = re.compile(r'<(Job_Id|job_state|exit_status|comment|submit_args)>([^<]*)</\1>')
_XML_USED = re.compile(r'<resources_used>(.*?)</resources_used>', re.DOTALL)
_XML_USED_ATTRIBUTE = re.compile(rf'<({"|".join(_USED)})>([^<]*)</\1>')


def parse_xml(exit_code: int, out: str) -> Dict[str, Record]:
    """Return what ``qstat -x`` of Torque says about each job.

    For several IDs, Torque prints as many documents. They are not well-formed if the environment of a job has control
    characters; but ``<`` and ``&`` are always escaped, so that patterns find what is meant.

    Parameters
    ----------
    exit_code, out
        As for :func:`parse_json`.

    Raises
    ------
    RuntimeError
        If the server did not answer.
    ValueError
        If this is something else.
    """
    if exit_code:
        _check_complaints(exit_code, out.rpartition('</Data>')[2])
    records: Dict[str, Record] = {}
    for job in _XML_JOB.finditer(out):
        used = _XML_USED.search(job[1])
        record = {_XML_ATTRIBUTES.get(key, key): _unescape(text) for key, text in _XML_ATTRIBUTE.findall(job[1])}
        for key, text in _XML_USED_ATTRIBUTE.findall(used[1]) if used else ():
            record[f'resources_used.{key}'] = text
        records[record.pop('Job_Id', '')] = record
    if not records and not exit_code and out.strip() and '<Data>' not in out:
        raise ValueError(f'qstat printed something else than XML: {out[:500]!r}')
    return records


def _unescape(text: str) -> str:
    for entity, character in (('&lt;', '<'), ('&gt;', '>'), ('&quot;', '"'), ('&apos;', "'"), ('&amp;', '&')):
        text = text.replace(entity, character)
    return text


# --- what it means ------------------------------------------------------------------------------------------------


def statuses(records: Dict[str, Record], user: str) -> Dict[str, JobStatus]:
    """Return the status of each job, by its ID with and without the name of the server.

    Parameters
    ----------
    records
        What qstat said.
    user
        The name of the user; what others have ended was ended by the system.
    """
    result: Dict[str, JobStatus] = {}
    for native_id, record in records.items():
        result[native_id] = result[native_id.partition('.')[0]] = status(record, user)
    return result


def status(record: Record, user: str) -> JobStatus:
    """Return the status of a job.

    >>> deleted = status({'job_state': 'F', 'substate': '91', 'Exit_status': '0'}, 'alice')
    >>> deleted.state, deleted.metadata['reason']
    (CANCELED, 'cancelled_by_user')
    """
    code = record.get('job_state', '')
    state = _STATES.get(code)
    if state is JobState.COMPLETED:
        ended = _ended(record, user)
        ended.metadata = {'native_state': code, **_accounting(record), **(ended.metadata or {})}
        return ended
    metadata: Dict[str, object] = {'native_state': code}
    if state is None:
        if code not in _unknown_states:
            _unknown_states.add(code)
            logger.warning('PBS reports a state that is not known here: %r. It is taken as a job that waits.', code)
        return JobStatus(JobState.QUEUED, metadata=metadata)
    return JobStatus(state, message=_why(code, state, record), metadata=metadata)


def _why(code: str, state: JobState, record: Record) -> Optional[str]:
    """Return why a job does not run; that it runs needs no words."""
    if code in 'SU':
        return 'The job is suspended.'
    if state is JobState.ACTIVE:
        return None
    comment = _readable(record.get('comment', ''))
    if comment:
        return comment
    if code == 'H':
        depends = record.get('substate') == '22'
        return 'The job waits for another job that it depends on.' if depends else 'The job is held.'
    return 'The job waits for its time to begin.' if code == 'W' else None


def _ended(record: Record, user: str) -> JobStatus:
    """Return the status of a job that has ended, without accounting figures."""
    comment = _readable(record.get('comment', ''))
    substate = record.get('substate')
    exit_status = _number(record.get('Exit_status', ''))
    torque = record.get('job_state') == 'C'
    if substate == _DELETED or (torque and (exit_status is None or exit_status in _TORQUE_DELETED)):
        return JobStatus(JobState.CANCELED, message=comment or None, metadata={'reason': _who_ended_it(comment, user)})
    if exit_status is None:
        return _never_ran(substate, comment)
    limit = (_TORQUE_LIMITS if torque else _LIMITS).get(exit_status) or _limit_in(comment)
    if limit is not None:
        reason, message = _EXCEEDED.get(limit, ('cancelled_by_system', f'The job has exceeded its {limit}.'))
        return _failed(message, comment, reason)
    if exit_status < 0:
        return _failed(f'The scheduler could not run the job (exit status {exit_status}).', comment, 'node_failure')
    if exit_status == 0 and substate == _FAILED:
        return JobStatus(JobState.FAILED, message=comment or None)  # an array, of which a job has failed
    if exit_status == 0:
        return JobStatus(JobState.COMPLETED, exit_code=0)
    return JobStatus(JobState.FAILED, message=comment or None, exit_code=shell_code(exit_status))


_TORQUE_DELETED = (256 + 15, 256 + 9)  # the shell above the script was ended by qdel; limits have codes of their own


def _never_ran(substate: Optional[str], comment: str) -> JobStatus:
    if substate == _NEVER_RAN:
        message = 'The job cannot run, because a job that it depends on did not end as required.'
        return _failed(message, comment, 'dependency')
    return JobStatus(JobState.FAILED, message=comment or None)


def _failed(message: str, comment: str, reason: str) -> JobStatus:
    text = f'{message} ({comment})' if comment else message
    return JobStatus(JobState.FAILED, message=text, metadata={'reason': reason})


def _limit_in(comment: str) -> Optional[str]:
    found = re.search(r'exceeded resource (\w+)$', comment)
    return None if found is None else found[1]


def _who_ended_it(comment: str, user: str) -> str:
    """Return the reason for a job that was deleted.

    >>> _who_ended_it('Job run at ... and terminated by root@pbs01', 'alice')
    'cancelled_by_system'
    """
    by = re.search(r'terminated by ([^@\s]+)@\S*$', comment)
    return 'cancelled_by_user' if by is None or by[1] == user else 'cancelled_by_system'


def shell_code(exit_status: int) -> int:
    """Return what a shell would report; PBS adds 256 to a signal that has ended the shell above the script.

    >>> shell_code(3), shell_code(137), shell_code(271)
    (3, 137, 143)
    """
    return exit_status - 128 if exit_status > 256 else exit_status


def _number(text: str) -> Optional[int]:
    return int(text) if re.fullmatch(r'-?\d+', text, re.ASCII) else None


def _accounting(record: Record) -> Dict[str, object]:
    """Return what a job has used: seconds, and bytes.

    >>> _accounting({'resources_used.walltime': '01:00:05', 'resources_used.mem': '12kb'})
    {'elapsed': 3605, 'max_rss': 12288}
    """
    figures: Dict[str, object] = {}
    clock = re.fullmatch(r'(\d+):(\d+):(\d+)', record.get('resources_used.walltime', ''), re.ASCII)
    if clock is not None:
        figures['elapsed'] = int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3])
    size = re.fullmatch(r'(\d+)([kmgt]?)b', record.get('resources_used.mem', ''), re.ASCII)
    if size is not None:
        figures['max_rss'] = int(size[1]) * 1024 ** ' kmgt'.index(size[2] or ' ')
    return figures


def _readable(text: str) -> str:
    """Return a comment as text that can be shown; it may have bytes of any encoding.

    >>> _readable('caf\\x03\\udce9 ')
    'caf??'
    """
    if text.isprintable():
        return text.strip()
    return ''.join(character if character.isprintable() else '?' for character in text.strip())

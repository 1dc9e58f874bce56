"""What becomes of each field of a job, what is refused, and what an ending means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Optional

import pytest

from psij import InvalidJobException, JobAttributes, JobSpec, JobState, ResourceSpecV1
from psij.executors._rp_description import (
    CANCELLED,
    CUSTOM_ATTRIBUTES,
    TIMEOUT,
    Ending,
    Pilot,
    check,
    description,
    final_status,
)

PILOT = Pilot('local.localhost', cores=8, runtime=30, queue='debug:fast', project='physics:night')


def described(node: int = 8, **fields: Any) -> dict[str, object]:
    spec = JobSpec('/bin/date', **fields)
    check(spec, PILOT, node)
    return description(spec, 'psij.1', '/work/psij.1.job', node)


def test_a_plain_job() -> None:
    """Exactly this, and no timeout: an agent that has tasks with one looks at the clock without a break."""
    assert described() == {
        'uid': 'psij.1',
        'name': 'date',
        'executable': '/bin/bash',
        'arguments': ['$_PSIJ_SCRIPT'],
        'environment': {'_PSIJ_SCRIPT': '/work/psij.1.job'},
        'ranks': 1,
        'cores_per_rank': 1,
    }


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        ({'name': 'my "$HOME" `id` \\'}, {'name': r'my \"\$HOME\" \`id\` \\'}),
        ({'resources': ResourceSpecV1(process_count=3)}, {'cores_per_rank': 3}),
        ({'resources': ResourceSpecV1(process_count=3, cpu_cores_per_process=2)}, {'cores_per_rank': 6}),
        ({'resources': ResourceSpecV1(node_count=1, processes_per_node=4)}, {'cores_per_rank': 4}),
        (
            {'resources': ResourceSpecV1(process_count=2, gpu_cores_per_process=2)},
            {'cores_per_rank': 2, 'gpus_per_rank': 4.0, 'gpu_type': 'CUDA'},
        ),
        ({'resources': ResourceSpecV1(memory=1)}, {'mem_per_rank': 1}),
        ({'resources': ResourceSpecV1(memory=3 * 2**20)}, {'mem_per_rank': 3}),
        ({'resources': ResourceSpecV1(exclusive_node_use=True)}, {'cores_per_rank': 8}),
        ({'resources': ResourceSpecV1(process_count=9, exclusive_node_use=True)}, {'cores_per_rank': 9}),
        ({'attributes': JobAttributes(custom_attributes={'rp.priority': 2, 'slurm.x': 1})}, {'priority': 2}),
        ({'attributes': JobAttributes(custom_attributes={'RP.tags': {'a': 1}})}, {'tags': {'a': 1}}),
    ],
)
def test_fields(fields: dict[str, Any], expected: dict[str, object]) -> None:
    plain, values = described(), described(**fields)
    assert {name: value for name, value in values.items() if value != plain.get(name)} == expected


def test_the_path_of_the_script_is_quoted() -> None:
    values = description(JobSpec('/bin/date'), 'u', '/a "$b"/`c`', 0)
    assert values['environment'] == {'_PSIJ_SCRIPT': r'/a \"\$b\"/\`c\`'}


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'resources': ResourceSpecV1(node_count=2)}, 'resources.node_count'),
        ({'attributes': JobAttributes(queue_name='long')}, "attributes.queue_name.*'debug'"),
        ({'attributes': JobAttributes(account='chemistry')}, "attributes.account.*'physics'"),
        ({'attributes': JobAttributes(reservation_id='day')}, "attributes.reservation_id.*'night'"),
        ({'attributes': JobAttributes(duration=timedelta(minutes=31))}, 'attributes.duration.*30 minutes'),
        ({'attributes': JobAttributes(custom_attributes={'rp.timeout': 5.0})}, 'rp.timeout.*rp.priority'),
        ({'attributes': JobAttributes(custom_attributes={'rp.pre_exec': ['id']})}, 'rp.pre_exec'),
        ({'name': '\udcff'}, 'name.*UTF-8'),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str) -> None:
    """The message names the field, and who refuses it."""
    with pytest.raises(InvalidJobException, match=words) as caught:
        described(**fields)
    assert 'RADICAL-Pilot' in str(caught.value)


def test_what_belongs_to_the_pilot_may_be_repeated() -> None:
    described(attributes=JobAttributes(timedelta(minutes=30), 'debug', 'physics', 'night'))


def test_exclusive_use_needs_the_size_of_a_node() -> None:
    with pytest.raises(InvalidJobException, match='exclusive_node_use'):
        described(node=0, resources=ResourceSpecV1(exclusive_node_use=True))


def test_custom_attributes_leave_out_what_other_fields_say() -> None:
    assert not set(described()) & set(CUSTOM_ATTRIBUTES)


def test_pilots() -> None:
    """A pilot that fails must not take the program with it; without a size it is one node."""
    assert Pilot('site.machine').description() == {
        'resource': 'site.machine',
        'nodes': 1,
        'runtime': 60,
        'exit_on_error': False,
    }
    assert Pilot('local.localhost', cores=4, gpus=1, sandbox='/scratch').description() == {
        'resource': 'local.localhost',
        'cores': 4,
        'gpus': 1,
        'runtime': 60,
        'sandbox': '/scratch',
        'exit_on_error': False,
    }
    assert Pilot('local.localhost').is_local
    assert not Pilot('local.localhost', access_schema='ssh').is_local
    assert not Pilot('site.machine').is_local


@pytest.mark.parametrize(
    ('ending', 'stop', 'state', 'code', 'reason', 'message'),
    [
        (Ending('DONE', 0, 'noise'), None, 'COMPLETED', 0, None, None),
        (Ending('DONE', 0), CANCELLED, 'COMPLETED', 0, None, None),
        (Ending('FAILED', 7, '', 'remark'), None, 'FAILED', 7, 'exit_code', 'remark'),
        (Ending('FAILED', 7, 'said', 'remark'), None, 'FAILED', 7, 'exit_code', 'said'),
        (Ending('FAILED', 7), None, 'FAILED', 7, 'exit_code', 'exit code 7'),
        (Ending('FAILED', 137, '', 'line 60: Killed'), None, 'FAILED', 137, 'signal', 'SIGKILL'),
        (Ending('FAILED', -15), None, 'FAILED', 143, 'signal', 'SIGTERM'),
        (Ending('FAILED', 1, '[... CONTENT SHORTENED ...]\nend'), None, 'FAILED', 1, 'exit_code', '[...] end'),
        (Ending('FAILED', exception='A()', exception_detail='B'), None, 'FAILED', None, 'submit_rejected', 'A(): B'),
        (Ending('FAILED'), None, 'FAILED', None, 'submit_rejected', 'does not say why'),
        (Ending('CANCELED'), CANCELLED, 'CANCELED', None, 'cancelled_by_user', None),
        (Ending('FAILED', 143), CANCELLED, 'CANCELED', None, 'cancelled_by_user', None),
        (Ending('CANCELED'), TIMEOUT, 'FAILED', None, 'timeout', 'walltime'),
        (Ending('FAILED', 3), TIMEOUT, 'FAILED', 3, 'timeout', 'walltime'),
        (Ending('CANCELED'), None, 'CANCELED', None, 'cancelled_by_system', 'RADICAL-Pilot'),
    ],
)
def test_endings(
    ending: Ending, stop: Optional[str], state: str, code: Optional[int], reason: Optional[str], message: Optional[str]
) -> None:
    status = final_status(ending, stop)
    assert status.metadata is not None
    assert (status.state, status.exit_code) == (JobState.from_name(state), code)
    assert status.metadata.get('reason') == reason
    assert status.metadata['native_state'] == ending.state
    assert (message is None and status.message is None) or (message or '?') in str(status.message)

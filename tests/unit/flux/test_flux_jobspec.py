"""Job specifications become the jobspecs that Flux's own commands and bindings make."""

from __future__ import annotations

import base64
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest

from psij import InvalidJobException, JobAttributes, JobSpec, ResourceSpecV1, StageIn, StageOut
from psij.executors._flux_jobspec import Request, check, inherited, process_request, script_request
from psij.resource_spec import ResourceSpec
from unit.flux.recordings import load

HERE = Path('/home/alice/jobs')


def _script(spec: JobSpec, script: str = '#!/bin/bash\n', **environment: str) -> Request:
    return script_request(spec, script, environment, HERE)


def _processes(spec: JobSpec, **environment: str) -> Request:
    return process_request(spec, environment, HERE)


def _system(request: Request) -> dict[str, Any]:
    system: dict[str, Any] = json.loads(request.text)['attributes']['system']
    return system


def _recorded(*options: str) -> dict[str, Any]:
    """Return the jobspec that ``flux submit --dry-run`` has printed for options."""
    for step in load('jobspec-dry-run')['steps']:
        if step['argv'][6:-1] == list(options):
            jobspec: dict[str, Any] = json.loads(step['stdout'])
            return jobspec
    raise AssertionError(f'there is no recording for {options}')


@pytest.mark.parametrize(
    ('resources', 'options'),
    [
        (None, ()),
        (ResourceSpecV1(process_count=4), ('-n4',)),
        (ResourceSpecV1(node_count=2, exclusive_node_use=True), ('-N2', '-x')),
        (ResourceSpecV1(node_count=2, process_count=4), ('-N2', '-n4')),
        (ResourceSpecV1(process_count=4, processes_per_node=2), ('-N2', '-n4')),
        (ResourceSpecV1(node_count=2, processes_per_node=2), ('-N2', '-n4')),
        (
            ResourceSpecV1(node_count=2, process_count=2, cpu_cores_per_process=2, gpu_cores_per_process=1),
            ('-N2', '-n2', '-c2', '-g1'),
        ),
    ],
)
def test_resources_when_flux_starts_the_processes(resources: Optional[ResourceSpec], options: tuple[str, ...]) -> None:
    """They are what ``flux submit`` asks for with the options of the same meaning."""
    ours = _processes(JobSpec('true', resources=resources)).jobspec
    recorded = _recorded(*options)
    assert ours['resources'] == recorded['resources']
    assert ours['tasks'] == recorded['tasks']


def test_other_fields_as_flux_submit_has_them() -> None:
    spec = JobSpec(
        'true',
        directory='/tmp',
        name='nm',
        stdin_path='/i',
        stdout_path='/o',
        stderr_path='/e',
        attributes=JobAttributes(
            duration=timedelta(seconds=90),
            queue_name='batch',
            account='proj',
            custom_attributes={'flux.setattr.constraints': {'hostlist': ['node01']}},
        ),
    )
    options = ('-t', '90s', '--queue=batch', '--bank=proj', '--job-name=nm', '--cwd=/tmp')
    recorded = _recorded(*options, '--output=/o', '--error=/e', '--input=/i', '--requires=host:node01')
    recorded['attributes']['system']['shell']['options']['exit-timeout'] = 'none'
    assert _processes(spec, A='1').jobspec == recorded


def test_custom_attributes_as_flux_submit_has_them() -> None:
    """--setattr goes below `system` unless it says otherwise; --setopt sets an option of the shell."""
    custom = {'flux.setattr.system.project': 'p', 'flux.setattr.user.foo': 1, 'flux.setopt.exit-timeout': 'none'}
    attributes = _processes(JobSpec('true', attributes=JobAttributes(custom_attributes=custom))).jobspec['attributes']
    recorded = _recorded('--setattr=system.project=p', '--setattr=user.foo=1', '-o', 'exit-timeout=none')['attributes']
    assert isinstance(attributes, dict)
    assert attributes['user'] == recorded['user']
    assert attributes['system']['project'] == recorded['system']['project']
    assert attributes['system']['shell']['options']['exit-timeout'] == 'none'


def test_a_script_runs_once_in_an_allocation_for_all_processes() -> None:
    """On one node, unless nodes are asked for: `multiple` starts all processes where it runs."""
    request = _script(JobSpec('true', resources=ResourceSpecV1(process_count=3, cpu_cores_per_process=2)))
    node = json.loads(request.text)['resources'][0]
    assert (node['type'], node['count'], node['with'][0]['count']) == ('node', 1, 3)
    assert node['with'][0]['with'] == [{'type': 'core', 'count': 2}]
    ours = _system(request)['shell']['options']
    # the first event of the journal is that of an instance that `flux batch` has started
    batch = load('python-journal')['journal'][0]['jobspec']['attributes']['system']['shell']['options']
    assert ours['per-resource'] == {**batch['per-resource'], 'count': 1}
    assert (ours['mpi'], ours['exit-timeout']) == (batch['mpi'], batch['exit-timeout'])


def test_a_script_for_one_process_asks_for_nothing_unusual() -> None:
    request = _script(JobSpec('true'))
    assert json.loads(request.text)['resources'] == _recorded()['resources']
    assert 'per-resource' not in _system(request)['shell']['options']


def test_processes_that_end_early_do_not_end_the_others() -> None:
    """Flux's default is to end a job 30 seconds after its first process has ended (recording exit-timeout)."""
    for request in (_script(JobSpec('true')), _processes(JobSpec('true'))):
        assert _system(request)['shell']['options']['exit-timeout'] == 'none'


def test_the_script_is_in_the_jobspec_byte_for_byte() -> None:
    script = f'#!/bin/bash\necho {os.fsdecode(bytes(range(1, 256)))}{{{{id}}}}\n'
    (file,) = _system(_script(JobSpec('true'), script))['files'].values()
    assert base64.b64decode(file['data']) == os.fsencode(script)
    assert file['mode'] == 0o100700


def test_output_that_nobody_wants_goes_nowhere() -> None:
    """Flux would put stderr into the file of stdout, and keep what has no file."""
    output = _system(_processes(JobSpec('true', stdout_path='o')))['shell']['options']['output']
    assert (output['stdout']['path'], output['stderr']['path']) == ('o', '/dev/null')


@pytest.mark.parametrize(
    ('directory', 'cwd'), [(None, '/home/alice/jobs'), ('sub', '/home/alice/jobs/sub'), ('/scratch', '/scratch')]
)
def test_the_directory_is_absolute(directory: Optional[str], cwd: str) -> None:
    """Flux takes a relative one for one that is missing, and uses /tmp."""
    for make in (_script, _processes):
        assert _system(make(JobSpec('true', directory=directory)))['cwd'] == cwd


def test_a_directory_that_is_not_utf_8_is_left_to_the_script() -> None:
    assert 'cwd' not in _system(_script(JobSpec('true', directory=os.fsdecode(b'/tmp/\xff'))))


def test_no_duration_is_no_limit() -> None:
    spec = JobSpec('true')
    spec.attributes = JobAttributes()
    spec.attributes.duration = None  # type: ignore[assignment]
    assert _system(_script(spec))['duration'] == 0
    assert _system(_script(JobSpec('true')))['duration'] == 600


@pytest.mark.parametrize(('name', 'expected'), [(None, 'sim'), ('run 1', 'run 1'), ('a/b', 'a/b')])
def test_the_name(name: Optional[str], expected: str) -> None:
    assert _system(_script(JobSpec('/opt/bin/sim', name=name)))['job']['name'] == expected


def test_what_describes_another_job_is_not_inherited() -> None:
    """A program that runs in a Flux job itself has variables that would mislead MPI in the jobs that it submits."""
    environment = {
        'FLUX_JOB_ID': 'f1',
        'FLUX_TASK_RANK': '3',
        'FLUX_KVS_NAMESPACE': 'job-1',
        'PMI_FD': '7',
        'PSIJ_NODEFILE': '/tmp/n',
        'FLUX_URI': 'local:///run/flux/local',
        'FLUX_MODULE_PATH': '/opt/flux',
        'PMIX': '1',
    }
    assert list(inherited(environment)) == ['FLUX_URI', 'FLUX_MODULE_PATH', 'PMIX']


def test_urgency_and_dependencies() -> None:
    custom = {'flux.urgency': '20', 'flux.dependency': ['afterok:f2', 'begin-time:123:4'], 'slurm.x': 1, 'plain': 2}
    request = _script(JobSpec('true', attributes=JobAttributes(custom_attributes=custom)))
    assert request.urgency == 20
    assert _system(request)['dependencies'] == [
        {'scheme': 'afterok', 'value': 'f2'},
        {'scheme': 'begin-time', 'value': '123:4'},
    ]
    assert _script(JobSpec('true')).urgency == 16


def test_an_option_without_a_value() -> None:
    custom: dict[str, object] = {'flux.setopt.verbose': None, 'flux.setopt.pty': True, 'FLUX.setattr.a.b': ''}
    system = _system(_script(JobSpec('true', attributes=JobAttributes(custom_attributes=custom))))
    assert (system['shell']['options']['verbose'], system['shell']['options']['pty']) == (1, True)
    assert system['a'] == {'b': 1}


@pytest.mark.parametrize(
    ('custom', 'words'),
    [
        ({'flux.urgency': 32}, 'flux.urgency.*from 0 to 31'),
        ({'flux.urgency': 'high'}, 'flux.urgency'),
        ({'flux.dependency': 'f2'}, 'flux.dependency.*SCHEME:VALUE'),
        ({'flux.nosuch': 1}, 'flux.nosuch.*flux.setattr.KEY'),
        ({'flux.setattr': 1}, 'flux.setattr'),
        ({'flux.setattr.x': object()}, 'flux.setattr.x.*JSON'),
        ({'flux.setattr.x': float('nan')}, 'flux.setattr.x'),
        ({'flux.setattr.x': os.fsdecode(b'\xff')}, 'flux.setattr.x'),
        ({'flux.setattr.duration.x': 1}, "flux.setattr.duration.x.*'duration'"),
    ],
)
def test_custom_attributes_that_are_refused(custom: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidJobException, match=words):
        _script(JobSpec('true', attributes=JobAttributes(custom_attributes=custom)))


class _OtherResources(ResourceSpec):
    @property
    def version(self) -> int:
        return 2


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        (JobSpec('a', resources=ResourceSpecV1(memory=1)), 'resources.memory.*does not manage memory'),
        (JobSpec('a', resources=_OtherResources()), 'ResourceSpecV1.*_OtherResources'),
        (JobSpec('a', attributes=JobAttributes(reservation_id='r')), 'reservation_id.*no reservations'),
        (JobSpec('a', name=os.fsdecode(b'\xff')), 'name.*UTF-8'),
        (JobSpec('a', attributes=JobAttributes(queue_name=os.fsdecode(b'\xff'))), 'queue_name.*UTF-8'),
        (JobSpec('a', attributes=JobAttributes(account=os.fsdecode(b'\xff'))), 'account.*UTF-8'),
    ],
)
def test_what_flux_cannot_do_is_refused(spec: JobSpec, words: str) -> None:
    with pytest.raises(InvalidJobException, match=words):
        check(spec)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('pre_launch', '/p'),
        ('post_launch', '/p'),
        ('stage_in', {StageIn('/a', 'b')}),
        ('stage_out', {StageOut('b', '/a')}),
        ('cleanup', {'b'}),
        ('arguments', ['{{id}}']),
        ('executable', '/bin/{{name}}'),
        ('stdout_path', '/tmp/{{id}}'),
        ('stdin_path', os.fsdecode(b'/\xff')),
        ('directory', os.fsdecode(b'/\xff')),
    ],
)
def test_what_only_a_script_can_do_is_refused_without_one(field: str, value: object) -> None:
    spec = JobSpec('true')
    setattr(spec, field, value)
    with pytest.raises(InvalidJobException, match=f'Invalid {field}'):
        _processes(spec)


def test_an_environment_that_is_not_utf_8_is_refused_without_a_script() -> None:
    with pytest.raises(InvalidJobException, match=r"environment\['A'\]"):
        _processes(JobSpec('true'), A=os.fsdecode(b'\xff'))

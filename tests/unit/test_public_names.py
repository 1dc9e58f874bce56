"""The public surface: what can be imported, and the signatures of the API page."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from datetime import timedelta
from typing import Any

import pytest

import psij
from psij import job_executor, serialize, staging, utils
from psij.job_state import JobStateOrder
from psij.staging import StageOutFlags, StagingMode

NAMES = {
    *('Job', 'JobSpec', 'JobAttributes', 'JobStatus', 'JobState', 'JobStatusCallback'),
    *('ResourceSpec', 'ResourceSpecV1', 'JobExecutor', 'JobExecutorConfig', 'Launcher', 'Descriptor'),
    *('SubmitException', 'InvalidJobException', 'UnreachableStateException'),
    *('StageIn', 'StageOut', 'StagingMode', 'StageOutFlags', 'URI'),
    *('Export', 'Import', 'VERSION'),
}


def test_the_list_of_names() -> None:
    assert set(psij.__all__) == NAMES
    assert list(psij.__all__) == sorted(psij.__all__, key=lambda name: (not name.isupper(), name))


def test_nothing_else_is_public() -> None:
    lazy = {'Export', 'Import'}
    public = {
        name
        for name, value in vars(psij).items()
        if not name.startswith('_') and not isinstance(value, types.ModuleType) and name != 'TYPE_CHECKING'
    }
    assert public | lazy == NAMES


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec('from psij import *', namespace)
    assert namespace.keys() - {'__builtins__'} == NAMES


def test_version() -> None:
    assert psij.__version__ == psij.VERSION == psij.version.VERSION


def test_classes_say_where_they_are_defined() -> None:
    modules = {name: getattr(psij, name).__module__ for name in NAMES - {'VERSION'}}
    assert modules['Job'] == modules['JobStatusCallback'] == 'psij.job'
    assert modules['JobState'] == 'psij.job_state'
    assert modules['Launcher'] == 'psij.job_launcher'
    assert all(module.startswith('psij.') for module in modules.values())


@pytest.mark.parametrize(
    'name',
    [
        *('executors', 'launchers', 'launcher', 'serialize', 'utils', 'staging', 'descriptor', 'exceptions', 'version'),
        *('job', 'job_attributes', 'job_executor', 'job_executor_config', 'job_launcher', 'job_spec', 'job_state'),
        *('job_status', 'resource_spec', 'executors.local', 'executors.batch', 'launchers.single'),
    ],
)
def test_modules_are_there_after_a_bare_import(name: str) -> None:
    script = f'import psij; print(psij.{name}.__name__)'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f'psij.{name}\n', '')


def test_the_former_module_of_launchers() -> None:
    assert psij.launcher.Launcher is psij.Launcher


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match=r"^module 'psij' has no attribute 'Jobb'$"):
        psij.Jobb  # type: ignore[attr-defined]  # noqa: B018 - the access is the test
    with pytest.raises(ImportError):
        from psij import Jobb  # type: ignore[attr-defined]  # noqa: F401


NONE: dict[str, object] = {}
EMPTY = inspect.Parameter.empty

# The parameters in the API page and of the classes that it leaves out, with their defaults.
SIGNATURES: list[tuple[Any, dict[str, object]]] = [
    (psij.Job, {'spec': None}),
    (psij.Job.cancel, {}),
    (psij.Job.set_job_status_callback, {'cb': EMPTY}),
    (psij.Job.wait, {'timeout': None, 'target_states': None}),
    (psij.JobStatus, {'state': EMPTY, 'time': None, 'message': None, 'exit_code': None, 'metadata': None}),
    (psij.JobState.from_name, {'name': EMPTY}),
    (psij.JobState.is_greater_than, {'other': EMPTY}),
    (JobStateOrder.prev, {'state': EMPTY}),
    (
        psij.JobSpec,
        {
            'executable': None,
            'arguments': None,
            'directory': None,
            'name': None,
            'inherit_environment': True,
            'environment': None,
            'stdin_path': None,
            'stdout_path': None,
            'stderr_path': None,
            'resources': None,
            'attributes': None,
            'pre_launch': None,
            'post_launch': None,
            'launcher': None,
            'stage_in': None,
            'stage_out': None,
            'cleanup': None,
            'cleanup_flags': StageOutFlags.ALWAYS,
        },
    ),
    (psij.ResourceSpec.get_instance, {'version': EMPTY}),
    (
        psij.ResourceSpecV1,
        {
            'node_count': None,
            'process_count': None,
            'processes_per_node': None,
            'cpu_cores_per_process': None,
            'gpu_cores_per_process': None,
            'exclusive_node_use': False,
            'memory': None,
        },
    ),
    (
        psij.JobAttributes,
        {
            'duration': timedelta(seconds=600),
            'queue_name': None,
            'account': None,
            'reservation_id': None,
            'custom_attributes': None,
            'project_name': None,
        },
    ),
    (psij.JobAttributes.get_custom_attribute, {'name': EMPTY}),
    (psij.JobAttributes.set_custom_attribute, {'name': EMPTY, 'value': EMPTY}),
    (psij.JobAttributes.parse_walltime, {'walltime': EMPTY}),
    (psij.JobExecutor, {'url': None, 'config': None}),
    (psij.JobExecutor.submit, {'job': EMPTY}),
    (psij.JobExecutor.cancel, {'job': EMPTY}),
    (psij.JobExecutor.list, {}),
    (psij.JobExecutor.attach, {'job': EMPTY, 'native_id': EMPTY}),
    (psij.JobExecutor.set_job_status_callback, {'cb': EMPTY}),
    (
        psij.JobExecutor.get_instance,
        {'name': EMPTY, 'version_constraint': None, 'url': None, 'config': None},
    ),
    (psij.JobExecutor.register_executor, {'desc': EMPTY, 'root': EMPTY}),
    (psij.JobExecutor.get_executor_names, {}),
    (psij.Launcher, {'config': None}),
    (psij.Launcher.get_launch_command, {'job': EMPTY}),
    (psij.Launcher.get_instance, {'name': EMPTY, 'version_constraint': None, 'config': None}),
    (psij.Launcher.register_launcher, {'desc': EMPTY, 'root': EMPTY}),
    (psij.Launcher.get_launcher_names, {}),
    (psij.JobExecutorConfig, {'launcher_log_file': None, 'work_directory': None}),
    (psij.Descriptor, {'name': EMPTY, 'version': EMPTY, 'cls': EMPTY, 'aliases': None, 'nice_name': None}),
    (psij.InvalidJobException, {'message': EMPTY, 'exception': None}),
    (psij.SubmitException, {'message': EMPTY, 'exception': None, 'transient': False}),
    (psij.UnreachableStateException, {'status': EMPTY}),
    (staging.URI, {'urlstring': EMPTY}),
    (staging.StageIn, {'source': EMPTY, 'target': EMPTY, 'mode': StagingMode.COPY}),
    (
        staging.StageOut,
        {'source': EMPTY, 'target': EMPTY, 'flags': StageOutFlags.ALWAYS, 'mode': StagingMode.COPY},
    ),
    (psij.JobStatusCallback.job_status_changed, {'job': EMPTY, 'job_status': EMPTY}),
    (serialize.JSONSerializer.dump, {'spec': EMPTY, 'stream': EMPTY}),
    (serialize.JSONSerializer.load, {'stream': EMPTY}),
    (serialize.JSONSerializer.dumps, {'spec': EMPTY}),
    (serialize.JSONSerializer.loads, {'s': EMPTY}),
    (serialize.Export.envelope, {'type': None}),
    (serialize.Export.to_dict, {'obj': EMPTY}),
    (serialize.Export.export, {'obj': EMPTY, 'dest': EMPTY}),
    (serialize.Import.from_dict, {'hash': EMPTY, 'target_type': None}),
    (serialize.Import.load, {'src': EMPTY}),
    (utils.SingletonThread, {'name': None, 'daemon': False}),
    # protected, but used by subclasses of other people
    (psij.JobExecutor._check_job, {'job': EMPTY}),
    (psij.JobExecutor._set_job_status, {'job': EMPTY, 'status': EMPTY}),
    (psij.JobExecutor._notify_callback, {'job': EMPTY, 'status': EMPTY}),
    (psij.JobExecutor._get_launcher, {'name': EMPTY, 'version_constraint': None}),
]


@pytest.mark.parametrize(('function', 'parameters'), SIGNATURES, ids=lambda value: getattr(value, '__qualname__', ''))
def test_signature(function: Any, parameters: dict[str, object]) -> None:
    signature = inspect.signature(function)
    found = {name: p.default for name, p in signature.parameters.items() if name != 'self'}
    assert list(found.items()) == list(parameters.items())


@pytest.mark.parametrize(
    ('cls', 'names'),
    [
        (psij.Job, 'id native_id status'),
        (psij.JobStatus, 'final'),
        (psij.JobState, 'final'),
        (
            psij.JobSpec,
            'cleanup directory environment name post_launch pre_launch stderr_path stdin_path stdout_path',
        ),
        (psij.JobAttributes, 'custom_attributes project_name'),
        (psij.ResourceSpec, 'version'),
        (
            psij.ResourceSpecV1,
            'version computed_node_count computed_process_count computed_processes_per_node memory_kb',
        ),
        (psij.JobExecutor, 'name version'),
        (psij.JobExecutorConfig, 'launcher_log_file work_directory'),
        (staging.URI, 'hostname port scheme netloc path params query fragment username password'),
        (staging.StageOut, 'flags'),
    ],
)
def test_properties(cls: type, names: str) -> None:
    for name in names.split():
        member = inspect.getattr_static(cls, name)
        assert isinstance(member, (property, types.DynamicClassAttribute)), name
        assert member.__doc__, f'{name} is documented'


@pytest.mark.parametrize('name', sorted(NAMES - {'VERSION'}))
def test_everything_is_documented(name: str) -> None:
    cls = getattr(psij, name)
    assert inspect.getdoc(cls)
    for attribute, member in vars(cls).items():
        if not attribute.startswith('_') and inspect.isroutine(member):
            assert inspect.getdoc(getattr(cls, attribute)), attribute


def test_resources_that_nobody_asked_for_are_a_kind_of_resources() -> None:
    assert issubclass(job_executor.DefaultResources, psij.ResourceSpecV1)

"""Our jobspecs are valid for the real bindings of Flux, and the same as theirs; and so are our calls.

The wheel ``flux-python`` has all the Python code, but cannot be imported without the C library of Flux. So its C module
is replaced by an empty one here, which is enough for jobspecs. The tests are skipped where the wheel is not installed.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Optional
from unittest.mock import MagicMock

import pytest

from psij import JobAttributes, JobSpec, ResourceSpecV1
from psij.executors._flux_jobspec import process_request, script_request
from psij.executors._flux_session import Bindings, bindings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path('/home/alice')


class _Library(MagicMock):
    """Has all functions, and the constants that the bindings look for."""

    def __dir__(self) -> list[str]:
        return sorted(_constants())

    def __getattr__(self, name: str) -> Any:
        return len(name) if name.startswith('FLUX_') else super().__getattr__(name)


def _constants() -> set[str]:
    found = importlib.util.find_spec('flux')
    assert found is not None
    assert found.origin is not None
    sources = Path(found.origin).parent.rglob('*.py')
    return {name for source in sources for name in re.findall(r'\bFLUX_[A-Z_]+', source.read_text(encoding='utf-8'))}


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bindings]:
    """Return the real bindings, over a C module that does nothing."""
    if importlib.util.find_spec('_flux') is None or importlib.util.find_spec('ply') is None:
        pytest.skip('flux-python and ply are not installed')
    for name in [name for name in sys.modules if name.split('.')[0] in ('flux', '_flux')]:
        monkeypatch.delitem(sys.modules, name)
    ffi = MagicMock()
    ffi.def_extern = lambda: lambda function: function
    ffi.error, ffi.CData, ffi.CType = Exception, type('CData', (), {}), type('CType', (), {})
    library = _Library()
    for name in ('_flux', '_flux._core', '_flux._hostlist', '_flux._idset'):
        module: Any = ModuleType(name)
        module.ffi, module.lib = ffi, library
        monkeypatch.setitem(sys.modules, name, module)
    yield bindings()
    for name in [name for name in sys.modules if name.split('.')[0] == 'flux']:
        del sys.modules[name]


RESOURCES = [
    ({}, ResourceSpecV1()),
    ({'num_tasks': 4}, ResourceSpecV1(process_count=4)),
    ({'num_tasks': 2, 'cores_per_task': 3, 'gpus_per_task': 1}, ResourceSpecV1(None, 2, None, 3, 1)),
    ({'num_tasks': 4, 'num_nodes': 2}, ResourceSpecV1(node_count=2, processes_per_node=2)),
    ({'num_tasks': 4, 'num_nodes': 4, 'exclusive': True}, ResourceSpecV1(node_count=4, exclusive_node_use=True)),
    ({'num_tasks': 6, 'num_nodes': 2, 'cores_per_task': 2}, ResourceSpecV1(2, 6, 3, 2)),
]


@pytest.mark.parametrize(('theirs', 'ours'), RESOURCES)
def test_the_same_as_from_command(real: Bindings, theirs: dict[str, Any], ours: ResourceSpecV1) -> None:
    jobspec = real.job.JobspecV1.from_command(['/bin/sim', '-x'], **theirs)
    jobspec.cwd = '/scratch'
    jobspec.environment = {'A': '1'}
    jobspec.duration = 90
    jobspec.queue = 'batch'
    jobspec.stdin, jobspec.stdout, jobspec.stderr = '/i', '/o', '/e'
    jobspec.setattr('system.bank', 'proj')
    jobspec.setattr('system.job.name', 'nm')
    jobspec.setattr_shell_option('exit-timeout', 'none')
    spec = JobSpec(
        '/bin/sim',
        ['-x'],
        '/scratch',
        'nm',
        stdin_path='/i',
        stdout_path='/o',
        stderr_path='/e',
        resources=ours,
        attributes=JobAttributes(timedelta(seconds=90), 'batch', 'proj'),
    )
    assert process_request(spec, {'A': '1'}, HERE).jobspec == json.loads(jobspec.dumps())


@pytest.mark.parametrize('resources', [resources for _, resources in RESOURCES])
def test_a_script_makes_a_valid_jobspec(real: Bindings, resources: Optional[ResourceSpecV1]) -> None:
    custom = {'flux.dependency': 'afterok:f2', 'flux.setattr.user.x.y': [1], 'flux.setopt.verbose': 2}
    spec = JobSpec('/bin/sim', resources=resources, attributes=JobAttributes(custom_attributes=custom))
    request = script_request(spec, '#!/bin/bash\n', {'A': '1'}, HERE)
    jobspec = real.job.JobspecV1(**json.loads(request.text))  # raises if something is wrong with it
    assert jobspec.getattr('shell.options.verbose') == 2


def test_the_script_is_attached_as_files_are(real: Bindings, tmp_path: Path) -> None:
    """Apart from the encoding, which is base64 so that the script may contain any bytes."""
    path = tmp_path / 'script'
    path.write_bytes(b'#!/bin/bash\n\xff\n')
    path.chmod(0o700)
    jobspec = real.job.JobspecV1.from_command(['true'])
    jobspec.add_file('psij-job', str(path))
    system = json.loads(script_request(JobSpec('true'), path.read_text(errors='surrogateescape'), {}, HERE).text)
    assert system['attributes']['system']['files'] == json.loads(jobspec.dumps())['attributes']['system']['files']


def test_our_calls_fit(real: Bindings) -> None:
    """Names and parameters are those that the session uses."""
    handle: Any = object()
    handle_class: Any = vars(real.flux)['core'].handle.Flux  # `Flux` itself is a function that makes one
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (handle_class.__init__, (handle,), {}),
        (handle_class.__init__, (handle, 'local:///x'), {}),
        (handle_class.fd_watcher_create, (handle, 3, print), {'events': 1}),
        (handle_class.timer_watcher_create, (handle, 1.0, print), {}),
        (handle_class.reactor_run, (handle,), {}),
        (handle_class.reactor_stop, (handle,), {}),
        (real.job.submit_async, (handle, 'jobspec'), {'urgency': 16}),
        (real.job.cancel_async, (handle, 1), {}),
        (real.job.event_watch_async, (handle, 1), {}),
        (real.job.event_watch_async, (handle, 1, 'guest.output'), {}),
        (real.job.JournalConsumer.__init__, (handle, handle), {'full': False}),
        (real.job.job_list, (handle,), {'max_entries': 0, 'attrs': ['state'], 'userid': 1, 'states': 62}),
        (real.uri.FluxURIResolver.resolve, (handle, 'pid:1'), {}),
    ]
    for function, arguments, keywords in calls:
        inspect.signature(function).bind(*arguments, **keywords)
    assert real.constants.FLUX_POLLIN
    assert real.constants.FLUX_JOB_STATE_ACTIVE
    assert isinstance(real.uri.JobURI('ssh://h/p').local, str)


def test_the_journal(real: Bindings) -> None:
    """The request is sent with `start`, which leaves it to us to take the answers; `stop` ends it."""
    handle = MagicMock()
    consumer = real.job.JournalConsumer(handle, full=False).start()
    topic, payload = handle.rpc.call_args.args[:2]
    assert (topic, payload) == ('job-manager.events-journal', {'full': False})
    assert consumer.rpc is handle.rpc.return_value
    consumer.rpc.then.assert_not_called()
    consumer.stop()
    assert handle.rpc.call_args.args[0] == 'job-manager.events-journal-cancel'

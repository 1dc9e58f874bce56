"""Finding and loading plugins: entry points, descriptor files, versions, aliases, and everything that may be broken."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from packaging.version import Version

from psij import Descriptor, Job, JobExecutor, JobExecutorConfig, JobSpec, Launcher, _builtins, _plugins
from psij._plugins import Plugin, Registry

EXECUTOR = """
from psij import JobExecutor, JobExecutorConfig

class {name}(JobExecutor):
    def __init__(self, url: str, config):  # without defaults, as plugins in the wild have it
        super().__init__(url=url, config=config or JobExecutorConfig())

    def submit(self, job): ...
    def cancel(self, job): ...
    def list(self): return []
    def attach(self, job, native_id): ...
"""

LAUNCHER = """
from psij import Launcher

class {name}(Launcher):
    def get_launch_command(self, job): return []
"""


class Site:
    """A directory on ``sys.path`` in which plugins are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def executor(self, module: str, name: str) -> Path:
        return self.write(module.replace('.', '/') + '.py', EXECUTOR.format(name=name))

    def launcher(self, module: str, name: str) -> Path:
        return self.write(module.replace('.', '/') + '.py', LAUNCHER.format(name=name))

    def describe(
        self,
        file: str,
        name: str,
        cls: str,
        version: str = '0.1',
        aliases: Optional[list[str]] = None,
        kind: str = 'EXECUTORS',
    ) -> Path:
        return self.write(
            f'psij-descriptors/{file}.py',
            'from packaging.version import Version\n'
            'from psij.descriptor import Descriptor\n'
            f'__PSI_J_{kind}__ = [Descriptor({name!r}, Version({version!r}), {cls!r}, {aliases!r})]\n',
        )

    def distribution(self, name: str, version: str, *entry_points: str, group: str = 'psij.executors') -> None:
        self.write(f'{name}-{version}.dist-info/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
        self.write(f'{name}-{version}.dist-info/entry_points.txt', '\n'.join([f'[{group}]', *entry_points, '']))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Yield an empty directory on ``sys.path``; the registries are new, and Acme's modules are forgotten afterwards."""
    for kind in ('executor', 'launcher'):
        monkeypatch.setattr(_plugins, f'{kind}s', Registry(kind, getattr(_builtins, f'{kind}s')))
    yield another(tmp_path, monkeypatch, 'site')
    for name in [name for name in sys.modules if 'acme' in name]:
        del sys.modules[name]


def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Site:
    """Return one more directory, at the end of ``sys.path``."""
    site = Site(tmp_path / name)
    monkeypatch.setattr(sys, 'path', [*sys.path, str(site.path)])
    return site


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all((record.name, record.levelname) == ('psij', 'WARNING') for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


# --- what comes with the library -------------------------------------------------------------------------------------


def test_executors_of_the_library() -> None:
    registry = Registry('executor', _builtins.executors)
    assert [(p.name, str(p.version), p.aliases, p.descriptor.nice_name) for p in registry.plugins()][:9] == [
        ('local', '0.2.0', [], 'Local'),
        ('slurm', '0.2.0', [], 'Slurm'),
        ('pbs', '0.2.0', ['pbspro'], 'PBS Pro'),
        ('pbs_classic', '0.2.0', ['torque'], 'PBS Classic'),
        ('lsf', '0.2.0', [], 'LSF'),
        ('cobalt', '0.2.0', [], 'Cobalt'),
        ('nqsv', '0.0.1', [], 'nqsv'),
        ('flux', '0.0.1', [], 'Flux'),
        ('rp', '0.0.1', [], 'Radical Pilot'),
    ]


def test_launchers_of_the_library() -> None:
    registry = Registry('launcher', _builtins.launchers)
    assert [(p.name, str(p.version), p.aliases) for p in registry.plugins()][:6] == [
        ('single', '0.2.0', []),
        ('multiple', '0.2.0', []),
        ('mpirun', '0.2.0', []),
        ('srun', '0.0.1', []),
        ('aprun', '0.0.1', []),
        ('jsrun', '0.0.1', ['jrun']),
    ]


def test_get_instance_gives_the_class_that_is_imported() -> None:
    from psij.executors.local import LocalJobExecutor

    executor = JobExecutor.get_instance('local', '>= 0.0.1')
    assert type(executor) is LocalJobExecutor
    assert (executor.name, executor.version) == ('local', Version('0.2.0'))
    assert str(executor) == 'JobExecutor[local, 0.2.0]'
    assert JobExecutor.get_instance('local') is not executor


def test_a_class_that_is_instantiated_directly_has_its_name() -> None:
    from psij.launchers.jsrun import JsrunLauncher

    assert (JsrunLauncher().name, JsrunLauncher().version) == ('jsrun', Version('0.0.1'))


def test_the_name_does_not_depend_on_how_it_was_asked_for() -> None:
    first = JobExecutor.get_instance('local')
    assert JobExecutor.get_instance('LOCAL').name == first.name == 'local'


def test_aliases_and_names_in_any_case() -> None:
    assert {'local', 'pbs', 'pbspro', 'torque'} <= JobExecutor.get_executor_names()
    assert {'single', 'jsrun', 'jrun'} <= Launcher.get_launcher_names()
    assert _plugins.executors.select('PBSpro').name == 'pbs'
    assert _plugins.executors.select('torque').name == 'pbs_classic'
    assert type(Launcher.get_instance('jrun')) is type(Launcher.get_instance('JSRUN'))


@pytest.mark.parametrize('get', [JobExecutor.get_instance, Launcher.get_instance])
def test_unknown_names(site: Site, get: Any) -> None:
    site.executor('hidden', 'E')
    site.describe('d', '_hidden', 'hidden.E')
    kind, known = ('executor', 'local') if get is JobExecutor.get_instance else ('launcher', 'single')
    with pytest.raises(ValueError, match=f'^No such {kind} "nothing"\\. Available {kind}s: .*{known}') as raised:
        get('Nothing')
    assert '_hidden' not in str(raised.value)
    assert '_hidden' in JobExecutor.get_executor_names()


# --- entry points ----------------------------------------------------------------------------------------------------


def test_entry_point(site: Site) -> None:
    site.executor('acme.psij', 'AcmeExecutor')
    site.distribution('acme', '1.2', 'acme = acme.psij:AcmeExecutor')
    config = JobExecutorConfig()
    executor = JobExecutor.get_instance('acme', url='x://y', config=config)
    assert type(executor) is importlib.import_module('acme.psij').AcmeExecutor
    assert (executor.url, executor.config) == ('x://y', config)
    assert str(executor) == 'JobExecutor[acme, 1.2, url=x://y]'
    plugin = _plugins.executors.select('acme')
    assert plugin.path == str(site.path / 'acme/psij.py')
    assert plugin.descriptor.path == 'acme 1.2, entry point acme'


def test_entry_point_of_a_launcher(site: Site) -> None:
    site.launcher('acme_launch', 'AcmeLauncher')
    site.distribution('acme', '1.2', 'Acme = acme_launch:AcmeLauncher [extra]', group='psij.launchers')
    config = JobExecutorConfig()
    launcher = Launcher.get_instance('acme', config=config)
    assert (launcher.name, launcher.version, launcher.config) == ('acme', Version('1.2'), config)
    assert 'acme' not in JobExecutor.get_executor_names()


def test_several_names_for_one_class_are_aliases(site: Site) -> None:
    site.executor('acme_exec', 'E')
    site.distribution('acme', '1', 'zz = acme_exec:E', 'aa = acme_exec:E', 'mm = acme_exec:E')
    assert JobExecutor.get_instance('zz').name == 'aa'
    assert _plugins.executors.select('mm').names == ('aa', 'mm', 'zz')


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('import nowhere_to_be_found', "No module named 'nowhere_to_be_found'"),
        ('1/0', 'division by zero'),
        ('', "module 'acme_broken' has no attribute 'E'"),
        ('def E(url, config): ...', 'acme_broken.E is <function E at .*>, and not a class'),
        ('import sys\nsys.exit(3)', r'acme_broken ended with sys.exit\(3\)'),
    ],
)
def test_a_broken_plugin_tells_why_when_it_is_asked_for(site: Site, source: str, message: str) -> None:
    site.write('acme_broken.py', source)
    site.distribution('acme', '1', 'broken = acme_broken:E')
    assert 'broken' in JobExecutor.get_executor_names()
    for _ in range(2):
        with pytest.raises(ValueError, match=f'^Unable to load executor broken: {message}') as raised:
            JobExecutor.get_instance('broken')
        assert raised.value.__cause__ is _plugins.executors.select('broken').error


def test_errors_of_a_constructor_are_not_disguised(site: Site) -> None:
    site.write('acme_strict.py', 'class E:\n    def __init__(self, url, config): raise LookupError(url)')
    site.distribution('acme', '1', 'strict = acme_strict:E')
    with pytest.raises(LookupError, match='x://y'):
        JobExecutor.get_instance('strict', url='x://y')


def test_metadata_that_cannot_be_read_spoils_nothing_else(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.executor('acme_exec', 'E')
    site.distribution('bad', 'not.a.version', 'bad = acme_exec:E')
    site.distribution('good', '1', 'good = acme_exec:E')
    assert JobExecutor.get_instance('good').version == Version('1')
    assert 'bad' not in JobExecutor.get_executor_names()
    (warning,) = _warnings(caplog)
    assert warning.startswith('Ignoring the entry points of ')
    assert 'not.a.version' in warning


def test_of_two_installations_the_first_counts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    later = another(tmp_path, monkeypatch, 'later')
    for place, version in ((site, '1'), (later, '2')):
        place.executor('acme_exec', 'E')
        place.distribution('acme', version, 'acme = acme_exec:E')
    assert JobExecutor.get_instance('acme').version == Version('1')
    assert not caplog.records


def test_metadata_is_only_read_where_there_may_be_something(site: Site) -> None:
    """Importing the module for it takes longer than starting Python."""
    site.distribution('psij-python', '1', 'psij = psij.__main__:main', group='console_scripts')
    assert not _plugins._may_have_entry_points(str(site.path), b'psij.executors')
    site.distribution('acme', '1', 'a = b:C')
    assert _plugins._may_have_entry_points(str(site.path), b'psij.executors')
    assert not _plugins._may_have_entry_points(str(site.path), b'psij.launchers')
    assert not _plugins._may_have_entry_points(str(site.path / 'nowhere'), b'psij.executors')


def test_entry_points_in_a_zip_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    file = site.path / 'acme.zip'
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('acme_zipped.py', EXECUTOR.format(name='E'))
        archive.writestr('acme-1.dist-info/METADATA', 'Metadata-Version: 2.1\nName: acme\nVersion: 1\n')
        archive.writestr('acme-1.dist-info/entry_points.txt', '[psij.executors]\nzipped = acme_zipped:E\n')
    monkeypatch.setattr(sys, 'path', [*sys.path, str(file)])
    assert JobExecutor.get_instance('zipped').version == Version('1')


# --- descriptor files ------------------------------------------------------------------------------------------------


def test_descriptor_file(site: Site) -> None:
    site.executor('acme_desc', 'E')
    file = site.describe('acme_descriptor', 'Acme', 'acme_desc.E', '1.2', ['AC'])
    executor = JobExecutor.get_instance('ac')
    assert type(executor) is importlib.import_module('acme_desc').E, 'the class that is imported normally'
    assert (executor.name, executor.version) == ('acme', Version('1.2'))
    plugin = _plugins.executors.select('acme')
    assert (plugin.descriptor.path, plugin.path) == (str(file), str(site.path / 'acme_desc.py'))
    assert not hasattr(sys.modules.get('acme_descriptor'), '__PSI_J_EXECUTORS__'), 'not entered as a module'


def test_both_kinds_in_one_file_that_is_executed_once(site: Site) -> None:
    site.executor('acme_exec', 'E')
    site.launcher('acme_launch', 'L')
    site.write(
        'psij-descriptors/both.py',
        'from packaging.version import Version\n'
        'from psij.descriptor import Descriptor\n'
        'with open(__file__ + ".log", "a") as log:\n'
        '    log.write("executed ")\n'
        '__PSI_J_EXECUTORS__ = [Descriptor("both", Version("1"), "acme_exec.E")]\n'
        '__PSI_J_LAUNCHERS__ = (Descriptor("both", Version("2"), "acme_launch.L"),)\n',
    )
    assert str(JobExecutor.get_instance('both').version) == '1'
    assert str(Launcher.get_instance('both').version) == '2'
    assert (site.path / 'psij-descriptors/both.py.log').read_text() == 'executed '


def test_a_package_as_implementation(site: Site) -> None:
    site.write('acme_package/__init__.py', EXECUTOR.format(name='E'))
    site.describe('d', 'package', 'acme_package.E')
    assert type(JobExecutor.get_instance('package')) is importlib.import_module('acme_package').E


@pytest.mark.parametrize('source', ['1/0', 'import sys\nsys.exit(1)', 'no python', 'raise ValueError("no")'])
def test_a_broken_descriptor_file_spoils_nothing_else(
    site: Site, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = site.write('psij-descriptors/a_broken.py', source)
    site.executor('acme_exec', 'E')
    site.describe('good', 'good', 'acme_exec.E')
    assert JobExecutor.get_instance('good').name == 'good'
    assert 'single' in Launcher.get_launcher_names()
    (warning,) = _warnings(caplog)
    assert warning.startswith(f'Could not import {broken}: ')


@pytest.mark.parametrize(
    ('items', 'message'),
    [
        ('5', 'Ignoring __PSI_J_EXECUTORS__ in {file}: expected a list, got 5'),
        ('["x"]', "Ignoring 'x' in {file}: expected a psij.Descriptor"),
        ('[JobExecutor]', "Ignoring <class 'psij.job_executor.JobExecutor'> in {file}: expected a psij.Descriptor"),
        ('[Descriptor("x", "no version", "a.B")]', 'Cannot register the executor described in {file}: Invalid version'),
        ('[Descriptor(5, "1", "a.B")]', "Cannot register the executor described in {file}: 'int' object has no"),
    ],
)
def test_wrong_items_are_ignored(site: Site, items: str, message: str, caplog: pytest.LogCaptureFixture) -> None:
    file = site.write(
        'psij-descriptors/wrong.py', f'from psij import Descriptor, JobExecutor\n__PSI_J_EXECUTORS__ = {items}'
    )
    assert 'local' in JobExecutor.get_executor_names()
    (warning,) = _warnings(caplog)
    assert warning.startswith(message.format(file=file))


def test_an_implementation_inside_psij_executors(site: Site) -> None:
    """It stands next to the descriptor, under the name of a package that is installed elsewhere."""
    site.write(
        'psij/executors/acme_inside.py',
        EXECUTOR.format(name='E') + '\nfrom dataclasses import dataclass\n\n@dataclass\nclass D:\n    x: "int"\n',
    )
    site.describe('d', 'inside', 'psij.executors.acme_inside.E')
    executor = JobExecutor.get_instance('inside')
    assert type(executor).__module__ == 'psij.executors.acme_inside'
    module: Any = sys.modules['psij.executors.acme_inside']
    assert type(executor) is module.E
    assert pickle.loads(pickle.dumps(module.D(1))) == module.D(1)
    with pytest.raises(ImportError):
        importlib.import_module('psij.executors.acme_not_there')


def test_an_implementation_that_fails_leaves_no_module_behind(site: Site) -> None:
    site.write('psij/executors/acme_fails.py', '1/0')
    site.describe('d', 'fails', 'psij.executors.acme_fails.E')
    with pytest.raises(ValueError, match=r'^Unable to load executor fails: division by zero'):
        JobExecutor.get_instance('fails')
    assert 'psij.executors.acme_fails' not in sys.modules


def test_an_implementation_under_another_entry_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = another(tmp_path, monkeypatch, 'elsewhere')
    elsewhere.executor('acme_elsewhere', 'E')
    site.describe('d', 'elsewhere', 'acme_elsewhere.E')
    expected = site.path / 'acme_elsewhere.py'
    with pytest.raises(ValueError, match=f'^Unable to load executor elsewhere: .* expected in {expected}'):
        JobExecutor.get_instance('elsewhere')


def test_modules_of_one_name_under_two_entries(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each descriptor gets the module next to it; ``import`` gives the first one, whichever was loaded first."""
    later = another(tmp_path, monkeypatch, 'later')
    for place, name in ((later, 'second'), (site, 'first')):
        place.executor('acme_twice', 'E')
        place.describe(f'd_{name}', name, 'acme_twice.E')
    second, first = (type(JobExecutor.get_instance(name)) for name in ('second', 'first'))
    module = importlib.import_module('acme_twice')
    assert module.__file__ == str(site.path / 'acme_twice.py')
    assert first is module.E is not second
    assert type(JobExecutor.get_instance('second')) is second


def test_one_class_whichever_threads_ask(site: Site) -> None:
    site.executor('psij.executors.acme_threads', 'E')
    site.describe('d', 'threads', 'psij.executors.acme_threads.E')
    start, classes = threading.Barrier(8), []

    def get() -> None:
        start.wait(30)
        classes.append(type(JobExecutor.get_instance('threads')))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(classes) == 8
    assert len(set(classes)) == 1


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
def test_a_fork_while_another_thread_looks_for_plugins(site: Site) -> None:
    locked, forked = threading.Event(), threading.Event()

    def look() -> None:
        with _plugins._lock, _plugins._loading:
            locked.set()
            forked.wait()

    thread = threading.Thread(target=look)
    thread.start()
    locked.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(7 if _plugins.executors.plugins() else 1)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_descriptor_file_may_ask_for_plugins(site: Site) -> None:
    site.write('psij-descriptors/asks.py', 'import psij\nassert "local" in psij.JobExecutor.get_executor_names()')
    assert 'single' in Launcher.get_launcher_names()


@pytest.mark.parametrize('where', ['_entry_points', '_execute'])
def test_an_interrupt_of_the_search(site: Site, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not found then is found later."""
    site.executor('acme_exec', 'E')
    site.describe('acme_descriptor', 'Acme', 'acme_exec.E')

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_plugins, where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            JobExecutor.get_executor_names()
    assert {'local', 'acme'} <= JobExecutor.get_executor_names()


def test_old_names_are_there_when_a_plugin_is_loaded(site: Site) -> None:
    names = 'from psij import Export, Import, JobStatusCallback, UnreachableStateException\n'
    site.write('acme_old.py', names + EXECUTOR.format(name='E'))
    site.describe('d', 'old', 'acme_old.E')
    assert JobExecutor.get_instance('old').name == 'old'


def test_versions_of_another_class(site: Site) -> None:
    """``distutils.version.StrictVersion``, which plugins in the wild use, is known by its text."""
    site.executor('acme_exec', 'E')
    site.write(
        'psij-descriptors/strict.py',
        'from psij.descriptor import Descriptor\n'
        'class StrictVersion:\n    def __str__(self): return "0.3"\n'
        '__PSI_J_EXECUTORS__ = [Descriptor("strict", StrictVersion(), "acme_exec.E")]\n',
    )
    assert JobExecutor.get_instance('strict', '>0.2').version == Version('0.3')


def test_directories_that_come_later_are_read_too(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'later' not in JobExecutor.get_executor_names()
    later = another(tmp_path, monkeypatch, 'later')
    later.executor('acme_later', 'E')
    later.describe('d', 'later', 'acme_later.E')
    assert JobExecutor.get_instance('later').name == 'later'


def test_one_directory_under_two_names_is_read_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.executor('acme_linked', 'E')
    site.describe('d', 'linked', 'acme_linked.E')
    (tmp_path / 'link').symlink_to(site.path)
    monkeypatch.setattr(sys, 'path', [*sys.path, str(tmp_path / 'link')])
    assert [plugin.name for plugin in _plugins.executors.plugins()].count('linked') == 1
    assert not caplog.records


# --- versions and duplicates -----------------------------------------------------------------------------------------


@pytest.fixture
def versions(site: Site) -> Site:
    """Return a directory with versions 0.0.2, 0.0.3, 0.0.4, 0.2.0 and 1.0rc1 of one executor."""
    for number, version in enumerate(['0.2.0', '0.0.2', '0.0.3', '1.0rc1', '0.0.4']):
        site.executor(f'acme_v{number}', 'E')
        site.describe(f'd{number}', 'acme', f'acme_v{number}.E', version)
    return site


@pytest.mark.parametrize(
    ('constraint', 'version'),
    [
        (None, '1.0rc1'),
        ('', '1.0rc1'),
        ('  ', '1.0rc1'),
        ('>= 0.0.1', '1.0rc1'),
        ('>=0.0.1,<1', '0.2.0'),
        ('( > 0.0.2, != 0.0.4)', '1.0rc1'),
        ('( > 0.0.2, < 0.2, != 0.0.4)', '0.0.3'),
        ('0.2.0', '0.2.0'),
        ('0.2', '0.2.0'),
        ('(0.0.3)', '0.0.3'),
        ('==0.0.*', '0.0.4'),
        ('~=0.0.2', '0.0.4'),
    ],
)
def test_the_highest_version_that_will_do(versions: Site, constraint: Optional[str], version: str) -> None:
    assert JobExecutor.get_instance('acme', constraint).version == Version(version)


def test_no_version_will_do(versions: Site) -> None:
    with pytest.raises(ValueError, match=r'^No executor "acme" found to satisfy ">2"') as raised:
        JobExecutor.get_instance('Acme', '>2')
    assert '0.0.2, 0.0.3, 0.0.4, 0.2.0, 1.0rc1' in str(raised.value)


@pytest.mark.parametrize('constraint', ['newest', '>', '0.1 or 0.2', '(>0.1'])
def test_not_a_constraint(versions: Site, constraint: str) -> None:
    with pytest.raises(ValueError, match=r'^Invalid version constraint "') as raised:
        JobExecutor.get_instance('acme', constraint)
    assert constraint in str(raised.value)


def test_versions_of_one_name_ascend(versions: Site) -> None:
    listed = [str(plugin.version) for plugin in _plugins.executors.plugins() if plugin.name == 'acme']
    assert listed == ['0.0.2', '0.0.3', '0.0.4', '0.2.0', '1.0rc1']


@pytest.mark.parametrize(
    ('register', 'words'),
    [
        (JobExecutor.register_executor, 'An executor by the name "acme" with version 1'),
        (Launcher.register_launcher, 'A launcher by the name "acme" with version 1'),
    ],
)
def test_registering(site: Site, register: Any, words: str) -> None:
    one, other = (Descriptor('Acme', Version('1'), f'acme_{name}.E') for name in ('one', 'other'))
    register(one, str(site.path))
    register(one, str(site.path))
    paths = [str(site.path / f'acme_{name}.py') for name in ('one', 'other')]
    message = f'{words} is already registered. Existing path: {paths[0]}; current path: {paths[1]}'
    with pytest.raises(ValueError, match='already registered') as raised:
        register(other, str(site.path))
    assert str(raised.value) == message


@pytest.mark.parametrize('register', [JobExecutor.register_executor, Launcher.register_launcher])
def test_registering_before_anybody_has_asked(site: Site, register: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library brings is there already."""
    registry = _plugins.executors if register is JobExecutor.register_executor else _plugins.launchers
    plugin = registry.plugins()[0]
    monkeypatch.setattr(registry, '_plugins', [])
    monkeypatch.setattr(registry, '_scanned', None)
    with pytest.raises(ValueError, match='already registered'):
        register(Descriptor(plugin.name, plugin.version, 'acme_mine.E'), str(site.path))


def test_a_current_directory_that_was_removed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    sys.path.insert(0, '')
    site.executor('acme_there', 'E')
    site.describe('d', 'there', 'acme_there.E')
    assert JobExecutor.get_instance('there').name == 'there'


def test_a_launcher_inside_psij_launchers(site: Site, tmp_path: Path) -> None:
    """Its script, which is not ours, is run and not sourced."""
    site.write('psij/launchers/acme_launch.sh', 'source "$(dirname "$0")/launcher_lib.sh"\n"$@" > "$_PSI_J_STDOUT"\n')
    site.write(
        'psij/launchers/acme_launch.py',
        'from pathlib import Path\nfrom psij.launchers.script_based_launcher import ScriptBasedLauncher\n'
        'class L(ScriptBasedLauncher):\n    def __init__(self, config=None):\n'
        "        super().__init__(Path(__file__).with_suffix('.sh'), config)\n",
    )
    site.describe('d', 'acme_launch', 'psij.launchers.acme_launch.L', kind='LAUNCHERS')
    spec = JobSpec('/bin/echo', ['hello'], stdout_path=tmp_path / 'out', launcher='acme_launch')
    job = Job(spec)
    JobExecutor.get_instance('local').submit(job)
    status = job.wait(timedelta(seconds=30))
    assert status is not None
    assert status.exit_code == 0, status
    assert (tmp_path / 'out').read_text() == 'hello\n'


def test_of_two_descriptors_the_first_counts(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        site.executor(f'acme_{number}', 'E')
        site.describe(f'd{number}', 'acme', f'acme_{number}.E')
    assert type(JobExecutor.get_instance('acme')).__module__ == 'acme_0'
    (warning,) = _warnings(caplog)
    assert 'is already registered' in warning


def test_a_name_counts_more_than_an_alias(site: Site) -> None:
    site.executor('acme_exec', 'E')
    site.executor('acme_mimic', 'E')
    site.describe('a', 'mimic', 'acme_mimic.E', '99', ['acme', 'local', 'pbspro'])
    site.describe('b', 'acme', 'acme_exec.E', '1')
    assert _plugins.executors.select('acme').name == 'acme'
    assert _plugins.executors.select('local').name == 'local'
    assert _plugins.executors.select('mimic').names == ('mimic', 'acme', 'local', 'pbspro')


def test_a_plugin_may_replace_one_of_the_library(site: Site) -> None:
    site.executor('acme_local', 'E')
    site.describe('d', 'local', 'acme_local.E', '99')
    assert type(JobExecutor.get_instance('local')).__module__ == 'acme_local'
    assert JobExecutor.get_instance('local', '<1').version == Version('0.2.0')


def test_a_class_that_names_itself_keeps_its_name(site: Site) -> None:
    site.write('acme_named.py', EXECUTOR.format(name='E') + '    _NAME_ = "Mine"\n    _VERSION_ = "7"\n')
    site.describe('d', 'named', 'acme_named.E', '1')
    executor = JobExecutor.get_instance('named')
    assert (executor.name, executor.version) == ('mine', Version('7'))


def test_plugin_without_a_module() -> None:
    plugin = Plugin(Descriptor('x', Version('1'), 'NoModule'))
    assert plugin.path is None
    with pytest.raises(ValueError, match='Empty module name'):
        plugin.load()


def test_a_parent_package_that_is_broken(site: Site) -> None:
    site.write('acme_parent/__init__.py', '1/0')
    site.executor('acme_parent.child', 'E')
    site.distribution('acme', '1', 'child = acme_parent.child:E')
    assert _plugins.executors.select('child').path is None
    with pytest.raises(ValueError, match=r'^Unable to load executor child: division'):
        JobExecutor.get_instance('child')

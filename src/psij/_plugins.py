"""Finds executors and launchers, and loads them when they are asked for.

There are three sources: what comes with the library (:mod:`psij._builtins`); the entry points of installed
distributions, in the groups ``psij.executors`` and ``psij.launchers``, which name a class; and Python files in
directories ``psij-descriptors`` on ``sys.path``, with lists ``__PSI_J_EXECUTORS__`` and ``__PSI_J_LAUNCHERS__``
of :class:`.Descriptor` objects. They are read when the first plugin is asked for, and again when ``sys.path`` has
changed. A plugin that is broken spoils nothing but itself: its error is raised when it is asked for, and a file
or a distribution that cannot be read is logged.
"""

from __future__ import annotations

import os
import sys
import threading

from psij import _builtins
from psij._log import lazy_logger
from psij.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import Distribution
    from types import ModuleType
    from typing import Any, Callable, Optional

    from packaging.version import Version

logger = lazy_logger('psij')

DESCRIPTOR_DIRECTORY = 'psij-descriptors'

# One lock for both kinds, since a descriptor file may ask for plugins itself. It is never held while the class of
# a plugin is loaded: that takes the locks of modules, which another thread may hold that waits for this one.
_lock = threading.RLock()


class Plugin:
    """A descriptor, where it was found, and the class once it is loaded.

    Parameters
    ----------
    descriptor
        Describes the plugin.
    root
        For a plugin from ``psij-descriptors``: the entry of ``sys.path`` under which the directory stands. The
        class must be under the same entry.
    """

    def __init__(self, descriptor: Descriptor, root: Optional[str] = None) -> None:
        from packaging.version import Version

        self.descriptor = descriptor
        self.name = descriptor.name.lower()
        self.aliases = [alias.lower() for alias in descriptor.aliases or ()]
        self.names = (self.name, *self.aliases)
        self.version: Version = Version(str(descriptor.version))
        self.module, _, self.qualname = descriptor.cls.rpartition('.')
        self.root = root
        self.error: Optional[BaseException] = None
        self._class: Optional[type[Any]] = None

    @property
    def path(self) -> Optional[str]:
        """The file that implements the plugin, or should."""
        if self.root is not None:
            return _file_of(self.root, self.module)
        return _find(self.module)

    def load(self) -> type[Any]:
        """Return the class.

        Raises
        ------
        Exception
            What came up when the class was loaded; the same is raised each time.
        """
        if self.error is not None:
            raise self.error
        if self._class is None:
            import importlib

            try:
                module = importlib.import_module(self.module) if self.root is None else _import(self.root, self.module)
                cls = getattr(module, self.qualname)
                if not isinstance(cls, type):
                    raise TypeError(f'{self.descriptor.cls} is {cls!r}, and not a class')
                self.identify(cls)
                self._class = cls
            except Exception as ex:
                self.error = ex
                raise
            except SystemExit as ex:
                self.error = ImportError(f'{self.module} ended with sys.exit({ex.code!r})', name=self.module)
                raise self.error from ex
        return self._class

    def is_of(self, cls: type[Any]) -> bool:
        """Tell whether this is the plugin that a class implements."""
        return (self.module, self.qualname) == (cls.__module__, cls.__qualname__)

    def identify(self, cls: type[Any]) -> None:
        """Give the class its name and version, unless it has its own."""
        if '_NAME_' not in vars(cls):
            cls._NAME_ = self.name
        if '_VERSION_' not in vars(cls):
            cls._VERSION_ = self.version


def _file_of(root: str, module: str) -> str:
    """Return where a module must be to be under an entry of ``sys.path``."""
    base = os.path.join(root, *module.split('.'))
    package = os.path.join(base, '__init__.py')
    return package if os.path.isfile(package) else base + '.py'


def _import(root: str, name: str) -> ModuleType:
    """Import a module that must be under `root`.

    Such a module is not always importable by its name: it may be meant to be part of a package, ``psij`` itself for
    example, that is installed elsewhere. Then it is loaded from its file.
    """
    file = _file_of(root, name)
    if not os.path.isfile(file):
        raise ImportError(
            f'The module {name} was expected in {file}, next to the descriptor, but there is no such file.', name=name
        )
    import importlib

    with _loading:
        if file in _loaded:
            return _loaded[file]
        found = _find(name)
        if found is None or os.path.realpath(found) != os.path.realpath(file):
            # registered as a module, classes in it can be pickled and be data classes; but never in place of another
            _loaded[file] = _execute(name, file, register=found is None and name not in sys.modules)
            return _loaded[file]
    return importlib.import_module(name)


_loaded: dict[str, ModuleType] = {}  # files of modules that cannot be imported by their name
_loading = threading.RLock()  # a file is executed once, whichever threads ask for it


def _find(module: str) -> Optional[str]:
    """Return the file that Python imports for a module, or None."""
    import importlib.util

    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # noqa: BLE001 - parent packages are imported, in which anything may go wrong
        return None
    return None if spec is None else spec.origin


def _execute(name: str, file: str, register: bool) -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f'Python cannot load {file}.', name=name, path=file)
    module = importlib.util.module_from_spec(spec)
    if register:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if register:
            sys.modules.pop(name, None)
        raise
    return module


class Registry:
    """The plugins of one kind.

    Parameters
    ----------
    kind
        What messages call such a plugin: ``executor`` or ``launcher``.
    """

    def __init__(self, kind: str, builtins: Callable[[], Iterable[Descriptor]]) -> None:
        self.kind = kind
        self._builtins = builtins
        self._plugins: list[Plugin] = []
        self._scanned: Optional[tuple[str, ...]] = None

    def register(self, descriptor: Descriptor, root: Optional[str]) -> None:
        """Add a plugin.

        Raises
        ------
        ValueError
            If another file has registered the same name and version.
        """
        plugin = Plugin(descriptor, root)
        with _lock:
            for other in self._plugins:
                if other.name == plugin.name and other.version == plugin.version:
                    if other.path == plugin.path and other.descriptor.cls == descriptor.cls:
                        return
                    article = 'An' if self.kind[0] in 'aeiou' else 'A'
                    raise ValueError(
                        f'{article} {self.kind} by the name "{plugin.name}" with version {plugin.version} is already '
                        f'registered. Existing path: {other.path}; current path: {plugin.path}'
                    )
            self._plugins.append(plugin)

    def plugins(self) -> list[Plugin]:
        """Return all plugins, in the order in which they were found; the versions of one name ascend."""
        with _lock:
            self._scan()
            names = list(dict.fromkeys(plugin.name for plugin in self._plugins))
            return sorted(self._plugins, key=lambda plugin: (names.index(plugin.name), plugin.version))

    def names(self) -> set[str]:
        """Return the names of all plugins, aliases included, in lower case."""
        return {name for plugin in self.plugins() for name in plugin.names}

    def select(self, name: str, constraint: Optional[str] = None) -> Plugin:
        """Return the plugin with a name, and the highest version that satisfies a constraint.

        Raises
        ------
        ValueError
            If there is none.
        """
        wanted = str(name).lower()
        plugins = self.plugins()
        found = [plugin for plugin in plugins if wanted == plugin.name]
        if not found:
            found = [plugin for plugin in plugins if wanted in plugin.names]
        if not found:
            available = ', '.join(sorted(name for name in self.names() if not name.startswith('_')))
            raise ValueError(f'No such {self.kind} "{wanted}". Available {self.kind}s: {available}')
        if constraint is not None and constraint.strip():
            specifiers = _specifiers(constraint)
            versions = ', '.join(str(plugin.version) for plugin in found)
            found = [plugin for plugin in found if specifiers.contains(plugin.version, prereleases=True)]
            if not found:
                raise ValueError(
                    f'No {self.kind} "{wanted}" found to satisfy "{constraint}". Available versions: {versions}'
                )
        return max(found, key=lambda plugin: plugin.version)

    def load(self, name: str, constraint: Optional[str] = None) -> type[Any]:
        """Return the class of the plugin that :meth:`select` returns.

        Raises
        ------
        ValueError
            If there is none, or if it cannot be loaded, with the reason as the cause.
        """
        plugin = self.select(name, constraint)
        try:
            return plugin.load()
        except Exception as ex:
            raise ValueError(f'Unable to load {self.kind} {plugin.name}: {ex}') from ex

    def identity(self, cls: type[Any]) -> tuple[str, Version]:
        """Return the name and the version of the plugin that a class is, whether or not it was loaded as one.

        A class that is no plugin is what the class from which it was derived is.
        """
        from packaging.version import Version

        for base in cls.__mro__:
            if '_NAME_' not in vars(base) or '_VERSION_' not in vars(base):
                for plugin in self.plugins():
                    if plugin.is_of(base):
                        plugin.identify(base)
            if '_NAME_' in vars(base):
                break
        name = getattr(cls, '_NAME_', cls.__name__)
        return str(name).lower(), Version(str(getattr(cls, '_VERSION_', '0')))

    def _scan(self) -> None:
        """Read the sources, unless that was done for the present ``sys.path``."""
        now = tuple(sys.path)
        if now == self._scanned:
            return
        before, self._scanned = self._scanned, now  # first of all: a descriptor file may ask for plugins itself
        try:
            self._read_sources(first=before is None)
        except BaseException:  # an interrupt: what is missing is read the next time
            self._scanned = before
            raise

    def _read_sources(self, first: bool) -> None:
        if first:
            for descriptor in self._builtins():
                descriptor.path = _builtins.__file__
                self._add(descriptor, None)
        for descriptor in _entry_points(f'psij.{self.kind}s'):
            self._add(descriptor, None)
        for file, root in _descriptor_files():
            for descriptor in _descriptors(file, f'__PSI_J_{self.kind.upper()}S__'):
                self._add(descriptor, root)

    def _add(self, descriptor: Descriptor, root: Optional[str]) -> None:
        try:
            self.register(descriptor, root)
        except Exception as ex:  # noqa: BLE001 - a malformed descriptor: anything may be wrong with it
            logger.warning('Cannot register the %s described in %s: %s', self.kind, descriptor.path, ex)


def _specifiers(constraint: str) -> Any:
    """Return the specifiers of a version constraint: ``>=0.1,<1``, the same in parentheses, or one bare version."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = constraint.strip()
    if text.startswith('(') and text.endswith(')'):
        text = text[1:-1].strip()
    if text[:1].isdigit():
        text = f'=={text}'
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as ex:
        raise ValueError(
            f'Invalid version constraint "{constraint}": expected something like ">=0.2,<1" or "0.2.0".'
        ) from ex


def _entry_points(group: str) -> Iterator[Descriptor]:
    """Yield a descriptor for each class that distributions name in an entry point group.

    Several names for one class are the first one, in alphabetical order, and its aliases.
    """
    if not any(_may_have_entry_points(entry, group.encode()) for entry in sys.path):
        return
    from importlib import metadata

    seen = set()  # of two distributions of one name, Python imports from the first
    for distribution in metadata.distributions():
        try:
            name = distribution.metadata['Name']
            if name not in seen:
                seen.add(name)
                yield from _entry_points_of(distribution, group)
        except Exception as ex:  # noqa: BLE001 - the metadata of somebody else: anything may be wrong with it
            logger.warning('Ignoring the entry points of %s: %s', distribution, ex)


def _entry_points_of(distribution: Distribution, group: str) -> Iterator[Descriptor]:
    from packaging.version import Version

    classes: dict[str, list[str]] = {}
    for point in distribution.entry_points:
        if point.group == group:
            classes.setdefault(point.value.partition('[')[0].strip(), []).append(point.name)
    for value, names in classes.items():
        name, *aliases = sorted(names)
        descriptor = Descriptor(name, Version(distribution.version), value.replace(':', '.'), aliases)
        descriptor.path = f'{distribution.metadata["Name"]} {distribution.version}, entry point {name}'
        yield descriptor


def _may_have_entry_points(entry: str, group: bytes) -> bool:
    """Tell whether distributions under an entry of ``sys.path`` may have entry points in a group.

    This takes a tenth of the time that it takes to import :mod:`importlib.metadata`, which is then not needed.
    """
    try:
        with os.scandir(entry or os.curdir) as entries:
            names = [item.name for item in entries if item.name.endswith(('.dist-info', '.egg-info', 'EGG-INFO'))]
    except NotADirectoryError:
        return True  # a zip file, whose contents importlib knows
    except OSError:
        return False
    for name in names:
        try:
            with open(os.path.join(entry, name, 'entry_points.txt'), 'rb') as file:
                if group in file.read():
                    return True
        except OSError:
            continue
    return False


def _descriptor_files() -> Iterator[tuple[str, str]]:
    """Yield the descriptor files on ``sys.path``, each with the entry under which it stands."""
    for root in dict.fromkeys(_absolute(sys.path)):
        directory = os.path.join(root, DESCRIPTOR_DIRECTORY)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith('.py') and name != '__init__.py':
                yield os.path.join(directory, name), root


def _absolute(entries: Iterable[str]) -> Iterator[str]:
    for entry in entries:
        try:
            yield os.path.realpath(entry or os.curdir)
        except FileNotFoundError:  # it is relative, and the current directory has been removed
            pass


def _descriptors(file: str, variable: str) -> Iterator[Descriptor]:
    items = getattr(_descriptor_module(file), variable, ())
    if not isinstance(items, (list, tuple)):
        logger.warning('Ignoring %s in %s: expected a list, got %r', variable, file, items)
        return
    for item in items:
        if isinstance(item, Descriptor):
            item.path = file
            yield item
        else:
            logger.warning('Ignoring %r in %s: expected a psij.Descriptor', item, file)


_descriptor_modules: dict[str, Optional[ModuleType]] = {}


def _descriptor_module(file: str) -> Optional[ModuleType]:
    """Return what a descriptor file defines, None if it is broken; each file is executed once."""
    if file not in _descriptor_modules:
        name = os.path.basename(file)[: -len('.py')]
        _descriptor_modules[file] = None
        try:
            _descriptor_modules[file] = _execute(name, file, register=False)
        except (Exception, SystemExit) as ex:  # noqa: BLE001 - a file of somebody else: anything may come
            logger.warning('Could not import %s: %s', file, ex)
        except BaseException:
            del _descriptor_modules[file]
            raise
    return _descriptor_modules[file]


executors = Registry('executor', _builtins.executors)
launchers = Registry('launcher', _builtins.launchers)


def _after_fork_in_child() -> None:
    """Make new locks: those that other threads held would never be released, since the child has no other threads."""
    global _lock, _loading
    _lock, _loading = threading.RLock(), threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)

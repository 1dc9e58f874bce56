"""Settings of executors, and descriptors of plugins."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from packaging.version import Version

from psij import Descriptor, JobExecutorConfig


def test_defaults() -> None:
    config = JobExecutorConfig()
    assert config.launcher_log_file is None
    assert config.work_directory == JobExecutorConfig.DEFAULT_WORK_DIRECTORY
    assert JobExecutorConfig.DEFAULT_WORK_DIRECTORY.parts[-2:] == ('.psij', 'work')
    assert JobExecutorConfig.DEFAULT.work_directory == JobExecutorConfig.DEFAULT_WORK_DIRECTORY


def test_positions() -> None:
    config = JobExecutorConfig(Path('/log'), Path('/work'))
    assert (config.launcher_log_file, config.work_directory) == (Path('/log'), Path('/work'))


def test_strings_become_paths() -> None:
    config = JobExecutorConfig('/log', '/work')  # type: ignore[arg-type]  # seen in clients
    assert (config.launcher_log_file, config.work_directory) == (Path('/log'), Path('/work'))
    config.launcher_log_file = '/other'
    config.work_directory = '/elsewhere'
    assert (config.launcher_log_file, config.work_directory) == (Path('/other'), Path('/elsewhere'))


def test_the_log_file_can_be_taken_away() -> None:
    config = JobExecutorConfig(Path('/log'))
    config.launcher_log_file = None
    assert config.launcher_log_file is None


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        JobExecutorConfig(work_directory=5)  # type: ignore[arg-type]


def test_copies() -> None:
    config = JobExecutorConfig(Path('/log'), Path('/work'))
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert (twin.launcher_log_file, twin.work_directory) == (Path('/log'), Path('/work'))


def test_descriptor() -> None:
    descriptor = Descriptor('acme', Version('1.2'), 'acme.psij.AcmeExecutor', ['ac', 'me'], 'The Acme')
    assert (descriptor.name, descriptor.version, descriptor.cls) == ('acme', Version('1.2'), 'acme.psij.AcmeExecutor')
    assert (descriptor.aliases, descriptor.nice_name, descriptor.path) == (['ac', 'me'], 'The Acme', None)
    assert str(descriptor) == repr(descriptor) == 'Descriptor(name=acme, path=None)'


def test_descriptor_defaults() -> None:
    descriptor = Descriptor('acme', Version('1.2'), 'acme.psij.AcmeExecutor')
    assert (descriptor.aliases, descriptor.nice_name) == (None, 'acme')

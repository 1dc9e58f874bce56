"""Names are data, and the environment of a job does not change how its files are staged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict

import pytest

from psij.staging import URI, StageIn, StageOut, StagingMode

from .harness import Site, tree

NAMES = [
    ' ',
    ' a  b ',
    '\t',
    'a\nb',
    '\na',
    'a\n',
    '\n',
    "'",
    '"',
    'it\'s "quoted"',
    '\\',
    'a\\',
    '*',
    '?',
    '[a-z]',
    '{a,b}',
    '-',
    '--',
    '-rf',
    '--help',
    '~',
    '~root',
    '$HOME',
    '${HOME}',
    '$(touch made)',
    '`touch made`',
    '; touch made',
    '&& touch made',
    '| touch made',
    '> made',
    '#',
    '!!',
    '{{job.id}}',
    '{{{job.id}}}',
    '{{> batch_lib}}',
    '%20',
    '%s',
    '...',
    'a;b#c?d',
    'ä€😀',
    '\udcff\udcfe',
    'a\udce4b',
    '\x01\x1b[31m\x7f',
    'n' * 255,
]


@pytest.mark.parametrize('mode', StagingMode, ids=str)
@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_names(site: Site, name: str, mode: StagingMode) -> None:
    source = site.submit / name / name
    source.parent.mkdir()
    source.write_text('data')
    done = site.stage(
        'touch result',
        stage_in=[StageIn(source, Path(name, name), mode)],
        stage_out=[StageOut(Path(name, name), Path('out', name), mode=mode)],
        cleanup=[Path('result'), Path(name)],
    )
    assert done == (0, '', '')
    if mode is not StagingMode.LINK:
        assert (site.submit / 'out' / name).read_text() == 'data'
    assert os.readlink(site.submit / 'out' / name) == str(source) if mode is StagingMode.LINK else True
    assert os.listdir(site.job) == []
    assert sorted(os.listdir(site.submit / 'out')) == [name]
    assert sorted(os.listdir(site.submit)) == sorted([name, 'out'])
    assert os.listdir(site.submit / name) == ([] if mode is StagingMode.MOVE else [name])


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_names_in_messages(site: Site, name: str) -> None:
    done = site.stage(stage_in=[StageIn(site.submit / name, 'x')])
    assert (done.code, done.errors) == (121, '')
    assert done.output.rstrip('\n') == f'Missing source file: {site.submit / name}'.rstrip('\n')


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_names_of_job_directories(site: Site, name: str) -> None:
    directory = site.root / 'jobs' / name
    directory.mkdir(parents=True)
    (site.submit / 'in').write_text('data')
    done = site.stage(directory=directory, stage_in=[StageIn('in', 'x')], cleanup=[directory / 'x'])
    assert done == (0, '', '')
    assert os.listdir(directory) == []


def test_file_uris(site: Site) -> None:
    (site.submit / 'a b').write_text('data')
    done = site.stage(
        stage_in=[StageIn(URI(f'file://{site.submit}/a%20b'), 'x')],
        stage_out=[StageOut('x', f'file://localhost{site.submit}/%FF')],
    )
    assert done == (0, '', '')
    assert (site.submit / '\udcff').read_text() == 'data'


# fmt: off
SHADOWED = [
    'basename', 'builtin', 'cat', 'cd', 'chmod', 'command', 'compgen', 'cp', 'declare', 'dirname', 'echo', 'env',
    'exec', 'export', 'head', 'ln', 'local', 'ls', 'mkdir', 'mktemp', 'mv', 'printf', 'pwd', 'read', 'readlink', 'rm',
    'set', 'shift', 'shopt', 'stat', 'test', 'trap', 'type', 'unset', '[',
]
VARIABLES = [
    'source', 'target', 'mode', 'kind', 'name', 'parent', 'existing', 'rest', 'temporary', 'failure', 'real_source',
    'job_directory', 'type', 'REPLY', '_PSIJ_REASON', '_PSIJ_PROBLEMS', '_PSIJ_JOB_DIRECTORY', '_FLAG_ON_SUCCESS',
]
# fmt: on

ENVIRONMENTS: Dict[str, Dict[str, str]] = {
    'no PATH': {'PATH': ''},
    'odd PATH': {'PATH': '/nowhere:.:::'},
    'tools of the job': {'PATH': 'BIN'},
    'functions': {f'BASH_FUNC_{name}%%': '() { touch "$EVIL"; }' for name in SHADOWED},
    'aliases': {'BASH_ENV': 'ALIASES'},
    'strict options': {'SHELLOPTS': 'errexit:nounset:noclobber:pipefail:posix'},
    'tracing': {'SHELLOPTS': 'xtrace'},
    'other options': {'SHELLOPTS': 'noglob:posix', 'BASHOPTS': 'nocasematch:nullglob:failglob:extglob'},
    'posix': {'POSIXLY_CORRECT': '1'},
    'locale': {'LC_ALL': 'tr_TR.UTF-8', 'LANGUAGE': 'de', 'LANG': 'xx'},
    # in a directory `sub` there, nothing is to be removed
    'search paths': {'CDPATH': 'BIN', 'GLOBIGNORE': '*', 'IFS': '/.', 'TMPDIR': '/nowhere'},
    'names that the functions use': dict.fromkeys(VARIABLES, 'x'),
    'libraries of the job': {'LD_LIBRARY_PATH': 'LIBRARIES'},
}


@pytest.mark.parametrize('surroundings', ENVIRONMENTS)
def test_environment_of_the_job(site: Site, surroundings: str) -> None:
    """The job has an environment in which nothing is what it seems, and its files are staged nevertheless."""
    tools = site.root / 'bin'
    tools.mkdir()
    for name in SHADOWED:
        (tools / name).write_text('#!/bin/sh\n: > "$EVIL"\n')
        (tools / name).chmod(0o755)
    (tools / 'sub').mkdir()
    libraries = site.root / 'lib'
    libraries.mkdir()
    for name in ('libselinux.so.1', 'libacl.so.1', 'libattr.so.1'):  # of the tools, but not of the shell
        (libraries / name).write_text('not a library')
    aliases = site.root / 'aliases'
    definitions = [f'alias -- {name}=\'touch "$EVIL" #\'' for name in SHADOWED if name != '[']
    aliases.write_text('\n'.join(['shopt -s expand_aliases', *definitions]))
    replacements = {'BIN': str(tools), 'LIBRARIES': str(libraries), 'ALIASES': str(aliases)}
    environment = {name: replacements.get(value, value) for name, value in ENVIRONMENTS[surroundings].items()}
    environment['EVIL'] = str(site.root / 'evil')
    (site.submit / 'in').write_text('data')
    (site.job / 'JOB').mkdir()
    before = tree(tools, libraries)
    staging = {
        'directory': str(site.job),
        'stage_in': [
            {'source': str(site.submit / 'in'), 'target': f'sub/{mode.name}', 'mode': mode.value}
            for mode in StagingMode
        ],
        'stage_out': [
            {'source': f'sub/{mode.name}', 'target': f'{site.submit}/{mode.name}', 'mode': 1, 'flags': 14}
            for mode in (StagingMode.COPY, StagingMode.MOVE)
        ],
        'cleanup': ['sub/LINK', 'sub', 'missing'],
        'cleanup_flags': 14,
    }
    # the shell itself may remark on its locale, so only the other stream is looked at
    done = site.run(staging, before='IFS=:', environment=environment)
    assert (done.code, done.output) == (0, '')
    assert os.listdir(site.job) == ['JOB']
    assert sorted(os.listdir(site.submit)) == ['COPY', 'MOVE']
    assert not (site.root / 'evil').exists()
    assert tree(tools, libraries) == before


def test_upper_and_lower_case_are_different(site: Site) -> None:
    """Even if the shell is told that they are not."""
    other = site.root / 'JOB'
    other.mkdir()
    (other / 'x').write_text('data')
    staging = {'directory': str(site.job), 'cleanup': [str(other / 'x')], 'cleanup_flags': 14}
    assert site.run(staging, environment={'BASHOPTS': 'nocasematch'}).code == 121
    assert (other / 'x').exists()

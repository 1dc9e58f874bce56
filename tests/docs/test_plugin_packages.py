"""The plugin packages of docs/examples: installed as users do, or found by a descriptor, they run jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from docs.stand_ins import STAND_INS
from psij import Job, JobExecutor, JobSpec
from psij.executors.batch._templated_executor import TemplatedBatchExecutor
from psij.executors.batch.script_generator import PARTIALS

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = TOP / 'docs' / 'examples'

PROGRAM = """
import json, sys
from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1

executor = JobExecutor.get_instance('toy')
out = Path('out.txt').absolute()
job = Job(JobSpec(
    '/bin/sh', ['-c', 'nice; wc -l < "$PSIJ_NODEFILE"; exit 3'], stdout_path=out, launcher='nice', name='a b',
    resources=ResourceSpecV1(process_count=2),
    attributes=JobAttributes(duration=timedelta(minutes=2), custom_attributes={'nice.level': 7}),
))
executor.submit(job)
failed = job.wait()

canceled = Job(JobSpec('/bin/sleep', ['60']))
executor.submit(canceled)
canceled.wait(target_states=JobState.ACTIVE)
listed = canceled.native_id in executor.list()
attached = Job()
JobExecutor.get_instance('toy').attach(attached, canceled.native_id)
canceled.cancel()

print(json.dumps({
    'executor': str(executor),
    'failed': [failed.state.name, failed.exit_code],
    'printed': out.read_text().split(),
    'listed': listed,
    'canceled': [canceled.wait().state.name, attached.wait().state.name],
}))
"""

EXPECTED = {
    'executor': 'JobExecutor[toy, 1.0]',
    'failed': ['FAILED', 3],
    'printed': ['7', '2'],
    'listed': True,
    'canceled': ['CANCELED', 'CANCELED'],
}


def install(package: Path, site: Path) -> None:
    """Install a package as pip does; it is built from a copy, because building leaves files in the source."""
    source = site.parent / f'source of {package.name}'
    shutil.copytree(package, source, ignore=shutil.ignore_patterns('psij-descriptors', '__pycache__'))
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet', '--no-input']
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--target', str(site)]
    done = subprocess.run([*pip, 'install', *options, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def copy(package: Path, site: Path) -> None:
    """Put a package and its descriptor where Python finds them, without any metadata of a distribution."""
    shutil.copytree(package, site, dirs_exist_ok=True, ignore=shutil.ignore_patterns('pyproject.toml', '__pycache__'))


@pytest.mark.parametrize('provide', [install, copy])
def test_plugin_packages(provide: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """Jobs run through both plugins, end as they should, and can be listed, canceled and attached to."""
    site = tmp_path / 'site'
    provide(EXAMPLES / 'executor_plugin', site)
    provide(EXAMPLES / 'launcher_plugin', site)
    assert (site / 'psij-descriptors').exists() == (provide is copy)
    environment = {
        **os.environ,
        'HOME': str(tmp_path),
        'TOY_DIR': str(tmp_path / 'toy'),
        'PATH': f'{EXAMPLES / "toy_scheduler"}:{os.environ["PATH"]}',
        'PYTHONPATH': os.pathsep.join([str(site), str(TOP / 'src')]),
    }

    def run(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, *argv],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(run('-c', PROGRAM)) == EXPECTED
    listing = run('-m', 'psij', 'plugins')
    assert 'Executor toy' in listing
    assert 'Launcher nice' in listing


REFUSED = """
from psij import InvalidJobException, Job, JobAttributes, JobExecutor, JobSpec, ResourceSpecV1

executor = JobExecutor.get_instance('toy')
for spec in (
    JobSpec('/bin/true', resources=ResourceSpecV1(node_count=2)),
    JobSpec('/bin/true', resources=ResourceSpecV1(gpu_cores_per_process=1)),
    JobSpec('/bin/true', resources=ResourceSpecV1(memory=1)),
    JobSpec('/bin/true', resources=ResourceSpecV1(exclusive_node_use=True)),
    JobSpec('/bin/true', attributes=JobAttributes(queue_name='q')),
    JobSpec('/bin/true', attributes=JobAttributes(account='a')),
    JobSpec('/bin/true', attributes=JobAttributes(reservation_id='r')),
    JobSpec('/bin/true', launcher='nice', attributes=JobAttributes(custom_attributes={'nice.level': 'high'})),
):
    try:
        executor.render_submit_script(Job(spec))
    except InvalidJobException as ex:
        print(ex)
    else:
        raise AssertionError(spec)
"""


def test_what_the_examples_do_not_have_is_refused(tmp_path: Path) -> None:
    """They follow the rules that the pages about them state."""
    with STAND_INS['toy'](tmp_path) as variables:
        done = subprocess.run(
            [sys.executable, '-c', REFUSED],
            env={**os.environ, 'HOME': str(tmp_path), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8


def test_the_names_of_templates_are_documented() -> None:
    """The table of names has all that the library gives to a template, and nothing else."""
    page = (TOP / 'docs' / 'adding_executor.rst').read_text(encoding='utf-8')
    table = page[page.index('\nWhat a template may use') : page.index('\nWhat the engine asks of you')]
    executor = JobExecutor.get_instance('slurm')
    assert isinstance(executor, TemplatedBatchExecutor)
    context = executor._create_script_context(Job(JobSpec('/bin/true')))
    inner = context.pop('psij')
    assert isinstance(inner, dict)
    names = {*context, *(f'psij.{name}' for name in inner), 'directives'}
    documented = {
        'psij.lib' if name.startswith('psij.lib') else name if name.startswith('psij') else name.partition('.')[0]
        for name in re.findall(r'``([\w.]+)``', ''.join(re.findall(r'^   \* - (.*)$', table, re.MULTILINE)))
    }
    assert documented - {'run_job', 'batch_lib', 'stagein', 'stageout', 'cleanup'} == names
    partials = {path.stem for path in PARTIALS.glob('*.mustache')}
    assert partials == {'run_job', 'batch_lib', 'stagein', 'stageout', 'cleanup'}


def test_executor_is_short_and_its_examples_are_true() -> None:
    """An executor for a batch scheduler takes less than a hundred lines, and its parsers do what their texts say."""
    module = EXAMPLES / 'executor_plugin' / 'psij_toy' / '__init__.py'
    assert len(module.read_text().splitlines()) < 100
    done = subprocess.run(
        [sys.executable, '-m', 'doctest', '-v', str(module)],
        env={**os.environ, 'PYTHONPATH': str(TOP / 'src'), 'PYTHONDONTWRITEBYTECODE': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert '2 passed' in done.stdout

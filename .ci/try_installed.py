"""Uses an installed package for real: it must have its templates, its launcher scripts and its type marker."""

import importlib.resources
import stat
from pathlib import Path

import psij

here = Path(psij.__file__).parent
assert 'site-packages' in here.parts, here
assert (importlib.resources.files('psij') / 'py.typed').is_file()

executor = psij.JobExecutor.get_instance('local')
setup = Path('setup.sh')
setup.write_text('export GREETING=hello\n')
for launcher in ('single', 'multiple'):
    output = Path(f'{launcher}.txt').absolute()
    spec = psij.JobSpec('/bin/sh', ['-c', 'echo $GREETING'], launcher=launcher, stdout_path=output)
    spec.pre_launch = setup.absolute()
    job = psij.Job(spec)
    executor.submit(job)
    status = job.wait()
    assert status is not None and status.exit_code == 0, status
    assert output.read_text() == 'hello\n', output.read_text()

templates = sorted(path.stem for path in here.glob('executors/batch/templates/*.mustache'))
assert 'slurm' in templates, templates
for name in templates:
    batch = psij.JobExecutor.get_instance(name)
    script = batch.render_submit_script(psij.Job(psij.JobSpec('/bin/true', name='x')))
    assert script.startswith('#!/bin/bash\n'), script
    assert '/bin/true' in script

work = Path.home() / '.psij' / 'work'
assert stat.S_IMODE(work.stat().st_mode) & 0o077 == 0
print('Installed package works:', psij.VERSION, 'with templates for', ', '.join(templates))

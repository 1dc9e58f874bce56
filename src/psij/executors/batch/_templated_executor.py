"""The short way to an executor for a batch scheduler: a template, a table of directives, and four parsers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Dict, Iterable, Optional

from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor, BatchSchedulerExecutorConfig
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.job import Job
from psij.job_executor import resources_given
from psij.job_executor_config import JobExecutorConfig
from psij.job_spec import JobSpec


class TemplatedBatchExecutor(BatchSchedulerExecutor):
    """An executor whose submit scripts come from a template.

    A subclass names its template, and implements the methods that build commands and parse what they print. If it
    implements :meth:`directives`, the template gets their text as ``directives``, a list of lines.

    Parameters
    ----------
    url
        Not used by most schedulers.
    config
        A :class:`.BatchSchedulerExecutorConfig`, or settings that all executors understand.
    generator
        What writes the scripts, if it is not made from :attr:`template`.
    """

    template: str
    """The file name of the template, in the directory ``templates`` next to the module that says so, or its path."""

    config_class = BatchSchedulerExecutorConfig
    """The configuration that is used if none is given."""

    def __init__(
        self,
        url: Optional[str] = None,
        config: Optional[JobExecutorConfig] = None,
        generator: Optional[TemplatedScriptGenerator] = None,
    ) -> None:
        super().__init__(url=url, config=self.config_class() if config is None else config)
        self.generator = generator or TemplatedScriptGenerator(self.config, self._template_path())

    def _template_path(self) -> Path:
        owner = next(cls for cls in type(self).__mro__ if 'template' in vars(cls))  # not a subclass in another place
        module = sys.modules[owner.__module__]
        return Path(str(module.__file__)).parent / 'templates' / self.template

    def directives(self, job: Job, spec: JobSpec) -> Iterable[str]:
        """Return the directives for a job, as text that follows the scheduler's own marker; each is one line.

        Raises
        ------
        InvalidJobException
            If the scheduler cannot do what the specification asks for.
        """
        return ()

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij = context['psij']
        if isinstance(psij, dict) and job.spec is not None:
            psij['nodefile_wanted'] = resources_given(job.spec)
            psij['job_name'] = job_name(job.spec)
        return context

    def generate_submit_script(self, job: Job, context: Dict[str, object], submit_file: IO[str]) -> None:
        if job.spec is not None:
            context['directives'] = list(self.directives(job, job.spec))
        self.generator.generate_submit_script(job, context, submit_file)

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        raise SubmitException(f'Failed job cancel job: {out}')


def job_name(spec: JobSpec) -> str:
    """Return the name of a job; an executable's path is shortened to its last part, as schedulers do themselves."""
    if spec._name is not None:
        return spec._name
    return str(spec.executable or '').rsplit('/', 1)[-1] or 'psij'


def one_line(executor: str, field: str, value: object) -> str:
    """Return a value as text for a directive, which has to be on one line.

    Raises
    ------
    InvalidJobException
        If it is not.
    """
    text = str(value)
    if any(not character.isprintable() and not '\udc80' <= character <= '\udcff' for character in text):
        raise InvalidJobException(
            f'Invalid {field}: {text!r} has characters that cannot stand in a directive of {executor}, which is one '
            'line of printable text.'
        )
    return text

"""Renders job scripts from Mustache templates."""

from __future__ import annotations

import functools
import pathlib
import re
from enum import Enum
from typing import IO, Any, Callable, Dict, Optional

import pystache

from psij.executors.batch.escape_functions import bash_escape
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig

PARTIALS = pathlib.Path(__file__).parent / 'templates' / 'common'
"""The directory of the partials, which all templates share."""

_PARTIAL_TAG = re.compile(r'^[ \t]*\{\{>\s*([\w-]+)\s*\}\}[ \t]*\n?|\{\{>\s*([\w-]+)\s*\}\}', re.MULTILINE)


class SubmitScriptGenerator:
    """The base class of what writes submit scripts.

    Parameters
    ----------
    config
        The configuration of the executor.
    """

    def __init__(self, config: Optional[JobExecutorConfig]) -> None:
        self.config = config

    def generate_submit_script(self, job: Job, context: Dict[str, object], out: IO[str]) -> None:
        """Write the submit script of a job.

        Parameters
        ----------
        job
            The job.
        context
            The data for the script.
        out
            A text stream to write to.
        """


class TemplatedScriptGenerator(SubmitScriptGenerator):
    """Renders submit scripts from a Mustache template.

    Partials, such as ``{{> run_job}}``, are looked for in :data:`PARTIALS`; one that does not exist is empty.

    Parameters
    ----------
    config
        The configuration of the executor.
    template_path
        The template.
    escape
        What to apply to the values that the template inserts with two braces, after they were made strings.

    Raises
    ------
    FileNotFoundError
        If there is no such template.
    """

    def __init__(
        self,
        config: Optional[JobExecutorConfig],
        template_path: pathlib.Path,
        escape: Callable[[object], str] = bash_escape,
    ) -> None:
        super().__init__(config)
        self.template = parsed_template(template_path)
        self.renderer = _Renderer(escape=escape)

    def generate_submit_script(self, job: Job, context: Dict[str, object], out: IO[str]) -> None:  # noqa: D102
        out.write(self.renderer.render(self.template, context))


class _Renderer(pystache.Renderer):  # type: ignore[misc]
    """Writes enumerations and truth values as the numbers that shell code compares, for templates of others."""

    def str_coerce(self, val: object) -> str:
        if isinstance(val, Enum):
            val = val.value
        return str(int(val) if isinstance(val, bool) else val)


def parsed_template(path: pathlib.Path) -> Any:
    """Return a template, parsed once for all executors: parsing takes ten times as long as rendering."""
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: pathlib.Path, version: int) -> Any:
    return pystache.parse(expand_partials(path.read_text(encoding='utf-8')))


def expand_partials(text: str) -> str:
    """Return a template with the text of its partials in their place.

    A partial that stands alone on its line takes the place of the line.
    """

    def partial(tag: re.Match[str]) -> str:
        path = PARTIALS / f'{tag[1] or tag[2]}.mustache'
        return expand_partials(path.read_text(encoding='utf-8')) if path.is_file() else ''

    return _PARTIAL_TAG.sub(partial, text)

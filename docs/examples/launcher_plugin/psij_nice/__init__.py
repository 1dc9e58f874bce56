"""A launcher that runs the executable with a lower priority."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from psij import InvalidJobException, Job, JobExecutorConfig
from psij.launchers.script_based_launcher import ScriptBasedLauncher


class NiceLauncher(ScriptBasedLauncher):
    """Launches the executable once, with ``nice``. The custom attribute ``nice.level`` is 10 by default."""

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(Path(__file__).with_name('nice_launch.sh'), config)

    def get_additional_args(self, job: Job) -> list[str]:
        """Return the arguments of the script that come before the executable."""
        attributes = job.spec and job.spec.attributes
        level = attributes.get_custom_attribute('nice.level') if attributes else None
        text = '10' if level is None else str(level)  # from a command line it is text: --attribute nice.level=5
        if not text.isdecimal() or int(text) > 19:
            raise InvalidJobException(f'Invalid custom attribute nice.level: got {level!r}, expected 0 to 19.')
        return [text]

"""How ``qstat`` is asked about jobs: that of OpenPBS and that of Torque have little but their name in common.

An object of each class keeps what the answers so far have shown about the server; what they say about jobs is cut out
in :mod:`._pbs_status`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Collection, Dict, List

from psij._runtime.command import CommandResult
from psij.executors.batch._pbs_status import Record, parse_json, parse_xml

JOB_ID = re.compile(r'\d+(\[\d*\])?(\.[\w.-]+)?', re.ASCII)

_FEW = 10  # IDs in one command; each costs a login and, with OpenPBS, one of 512 ports that then rests for a minute

_NO_HISTORY = 'PBS is not configured to maintain job history'
_OPENPBS_TABLE = re.compile(r'^Job id\s+Name\s', re.MULTILINE)  # Torque writes "Job ID"


class Qstat(ABC):
    """What the commands and answers of a ``qstat`` look like."""

    has_history = False
    """Whether it can be asked by ID about jobs that have left the queue."""

    _ids_at_once = _FEW

    def status_command(self, native_ids: Collection[str]) -> List[str]:
        """Return the command that asks about some jobs: by ID if they are few, else about all that have not ended."""
        return self.command(native_ids if len(native_ids) <= self._ids_at_once else ())

    @abstractmethod
    def command(self, native_ids: Collection[str] = ()) -> List[str]:
        """Return the command that asks about jobs by their IDs, also if they have ended, or about all that have not."""

    @abstractmethod
    def records(self, exit_code: int, out: str) -> Dict[str, Record]:
        """Cut the output of such a command into the attributes of each job."""

    def must_ask_differently(self, answer: CommandResult) -> bool:
        """Tell whether the server turns out to need other commands, which the methods return from now on."""
        return False


class OpenPBSQstat(Qstat):
    """``qstat`` of OpenPBS and PBS Professional, which answers in JSON and may have a history."""

    def __init__(self) -> None:
        self.has_history = True

    def command(self, native_ids: Collection[str] = ()) -> List[str]:
        history = ['-x'] if native_ids and self.has_history else []
        return ['qstat', '-f', '-F', 'json', *history, *native_ids]

    def records(self, exit_code: int, out: str) -> Dict[str, Record]:
        return parse_json(exit_code, out)

    def must_ask_differently(self, answer: CommandResult) -> bool:
        if self.has_history and _NO_HISTORY in answer.stderr:
            self.has_history = False  # -x lists nothing, not even running jobs, and ends with exit code 0
            return True
        if not self.has_history and 'Job has finished, use -x' in answer.stderr:
            self.has_history = True
            return True
        if self._ids_at_once > 1 and self._is_cut_short(answer):
            self._ids_at_once = 1
            return True
        return False

    def _is_cut_short(self, answer: CommandResult) -> bool:
        """Tell whether an answer does not have all jobs that were asked about, and does not say why.

        Versions since December 2023 print only the first of several jobs.
        """
        native_ids = [argument.lower() for argument in answer.argv if JOB_ID.fullmatch(argument)]
        if len(native_ids) < 2 or answer.exit_code is None:
            return False
        try:
            records = self.records(answer.exit_code, answer.stdout if answer.exit_code == 0 else answer.output)
        except Exception:  # noqa: BLE001 - the poller will find the same, and say so
            return False
        listed = {spelling for native_id in records for spelling in (native_id.lower(), native_id.partition('.')[0])}
        complaints = answer.stderr.lower()
        return any(native_id not in listed and native_id not in complaints for native_id in native_ids)


class TorqueQstat(Qstat):
    """``qstat`` of Torque, which answers in XML, and lists jobs for some time after their end."""

    def command(self, native_ids: Collection[str] = ()) -> List[str]:
        return ['qstat', '-x', *native_ids]  # -x stands for XML here

    def records(self, exit_code: int, out: str) -> Dict[str, Record]:
        return parse_xml(exit_code, out)


def is_of_openpbs(answer: CommandResult) -> bool:
    """Tell whether ``qstat -x`` was answered by OpenPBS, where -x stands for the history.

    >>> is_of_openpbs(CommandResult(('qstat', '-x'), 0, 'Hello\\nJob id            Name\\n', ''))
    True
    """
    return _OPENPBS_TABLE.search(answer.stdout) is not None or _NO_HISTORY in answer.stderr

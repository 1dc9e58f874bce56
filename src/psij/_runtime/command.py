"""Runs the commands of schedulers.

The one function here runs a command and reports what came of it; it never judges. Commands are lists of arguments,
read nothing but a file, have a limited time, and run in a session of their own, so that a Ctrl-C meant for the program
does not interrupt a submission half way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

from psij._log import lazy_logger

logger = lazy_logger(__name__)

_LAST_WORDS = 5.0  # seconds to read what a command that was killed has written


class CommandResult(NamedTuple):
    """What came of a command.

    Attributes
    ----------
    argv
        The command.
    exit_code
        Its exit code; negative for a signal. None if it could not be started or did not end in time.
    stdout, stderr
        What it wrote.
    error
        Why there is no exit code: a sentence without a full stop, or an empty string.
    timed_out
        True if it did not end in time.
    """

    argv: tuple[str, ...]
    exit_code: Optional[int]
    stdout: str
    stderr: str
    error: str = ''
    timed_out: bool = False

    @property
    def output(self) -> str:
        """All that the command wrote, and why it has no exit code if it has none."""
        parts = [part for part in (self.stdout, self.stderr, self.error) if part.strip()]
        return '\n'.join(parts)


def run(
    argv: Sequence[str],
    environment: Optional[Mapping[str, str]] = None,
    timeout: float = 60.0,
    stdin_path: Optional[Path] = None,
) -> CommandResult:
    """Run a command and wait for it.

    Parameters
    ----------
    argv
        The command.
    environment
        Its environment; the one of this program by default.
    timeout
        The seconds after which it is killed, with all that it started in its session.
    stdin_path
        The file that it reads as its standard input; by default there is nothing to read.
    """
    command = tuple(str(argument) for argument in argv)
    begin = time.monotonic()
    try:
        with open(os.devnull if stdin_path is None else stdin_path, 'rb') as stdin:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
    except OSError as ex:
        result = CommandResult(command, None, '', '', _explain(command[0], ex, environment))
        logger.debug('%s: %s', command, result.error)
        return result
    try:
        out, err = process.communicate(timeout=timeout)
        result = CommandResult(command, process.returncode, _text(out), _text(err))
    except subprocess.TimeoutExpired:
        out, err = _kill(process)
        error = f'"{command[0]}" did not answer within {timeout:g} seconds'
        result = CommandResult(command, None, _text(out), _text(err), error, timed_out=True)
    except BaseException:
        _kill(process)
        raise
    logger.debug('%s: exit code %s after %.3f s', command, result.exit_code, time.monotonic() - begin)
    return result


def _kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        return process.communicate(timeout=_LAST_WORDS)
    except subprocess.TimeoutExpired:  # something that left the session keeps the pipes open
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()
        return b'', b''


def _explain(name: str, ex: OSError, environment: Optional[Mapping[str, str]]) -> str:
    if isinstance(ex, FileNotFoundError):
        path = (os.environ if environment is None else environment).get('PATH')
        return f'the command "{name}" was not found; PATH is {path!r}'
    return f'the command "{name}" cannot be run: {ex.strerror}'


def _text(data: bytes) -> str:
    return data.decode('utf-8', errors='surrogateescape')


def client_environment(
    dropped: tuple[str, ...], kept: tuple[str, ...] = (), c_locale: bool = True
) -> Optional[dict[str, str]]:
    """Return the environment for a command of a scheduler, or None if it is the one of this program.

    Parameters
    ----------
    dropped
        Prefixes of variables that change what the command does, and so must not reach it.
    kept
        Variables with such a prefix that are needed, because they say where the scheduler is.
    c_locale
        Whether messages are to be in English; not for a submission, since the job may inherit the environment.
    """
    unwanted = [name for name in os.environ if dropped and name.startswith(dropped) and name not in kept]
    if not unwanted and not c_locale:
        return None
    environment = dict(os.environ)
    for name in unwanted:
        del environment[name]
    if c_locale:
        environment['LC_ALL'] = 'C'
    return environment

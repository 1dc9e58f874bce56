"""What the commands of all stand-ins share: how they start, read options, write, and fail."""

from __future__ import annotations

import os
import sys
import time

from fakes.core import Cluster

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

RUBBISH = '\x1b[31m<html>502 Bad Gateway</html>\n|||\n\udcff\udcfe\n'


class Exit(Exception):
    """Ends a command with an exit code, after writing to its streams."""

    def __init__(self, code: int, err: str = '', out: str = '') -> None:
        super().__init__(code, err, out)
        self.code, self.err, self.out = code, err, out


def out(text: str) -> None:
    """Write to stdout. Text may hold undecodable bytes; the locale does not matter."""
    _write(1, text)


def err(text: str) -> None:
    _write(2, text)


def _write(fd: int, text: str) -> None:
    data = os.fsencode(text)
    while data:
        data = data[os.write(fd, data) :]


def main() -> None:
    """Run the command as which the launcher (``bin/SCHEDULER/COMMAND``) was called."""
    path = os.path.abspath(sys.argv[0])
    scheduler, command = path.split('/')[-2:]
    try:
        directory = os.environ.get('PSIJ_FAKE_DIR') or path.rsplit('/', 3)[0]  # jobs may lose their environment
        if not os.path.isdir(f'{directory}/knobs') and 'PSIJ_FAKE_DIR' not in os.environ:
            raise Exit(96, 'PSIJ_FAKE_DIR is not set; it names the directory of the pretended cluster\n')
        cluster = Cluster(os.path.abspath(directory), scheduler, command, os.path.dirname(path))
        suffer(cluster)
        module = __import__(f'fakes.{scheduler}.{command}', fromlist=['main'])
        code = module.main(cluster, sys.argv[1:])
    except Exit as stop:
        out(stop.out)
        err(stop.err)
        code = stop.code
    except BrokenPipeError:
        code = 141
    except Exception:  # noqa: BLE001 - whatever it is, it must not look like an answer of the scheduler
        import traceback

        err(f'stand-in for {command}: {traceback.format_exc()}')
        code = 97
    os._exit(code)  # nothing is buffered, and an orderly end costs milliseconds


def suffer(cluster: Cluster) -> None:
    """Let the faults happen that are the same for every command of every scheduler."""
    fault = cluster.fault('hang')
    if fault is not None and fault.strip() != 'go':  # reading a FIFO waits until somebody writes `go` to it
        hang()
    rubbish = cluster.fault('rubbish')
    if rubbish is not None:
        raise Exit(0, out=rubbish or RUBBISH)
    out(cluster.fault('banner') or '')
    down = cluster.fault('down')
    if down is not None:
        _faults(cluster).down(cluster, down.strip())


def hang() -> NoReturn:
    """Do not come back, and do not stay behind when the caller is gone."""
    caller = os.getppid()
    while os.getppid() == caller:
        time.sleep(0.1)
    os._exit(1)


def refuse_on_demand(cluster: Cluster) -> None:
    """Fail as the fault ``reject`` says: exit code on its first line, the text for stderr after it."""
    reject = cluster.fault('reject')
    if reject is not None:
        code, _, text = reject.partition('\n')
        raise Exit(int(code), text)


def lose_reply_on_demand(cluster: Cluster) -> None:
    """Do not come back, or fail with a time-out, although the job has been made."""
    if cluster.fault('hang_after') is not None:
        hang()
    if cluster.loses_reply or cluster.fault('lost_reply') is not None:
        _faults(cluster).lost_reply(cluster)


def _faults(cluster: Cluster):  # type: ignore[no-untyped-def] # a module
    return __import__(f'fakes.{cluster.scheduler}.faults', fromlist=['down'])


def unsupported(cluster: Cluster, what: str) -> Exit:
    """What the real command can do and the stand-in cannot must be noticed."""
    return Exit(98, f'stand-in for {cluster.command}: {what} is not covered\n')


def options(text: str) -> dict[str, tuple[str, str]]:
    """Read a list of options: the name, a sign that says whether it has a value, its letter if it has one.

    >>> options('hold,H time=t nice? no-requeue,')
    {'hold': ('H', ''), 'time': ('t', '='), 'nice': ('', '?'), 'no-requeue': ('', '')}
    """
    spec = {}
    for word in text.split():
        sign = next(character for character in word if character in '=?,')
        name, _, letter = word.partition(sign)
        spec[name] = (letter, '' if sign == ',' else sign)
    return spec


def getopt(
    program: str, argv: list[str], spec: dict[str, tuple[str, str]], *, permute: bool = True, usage_code: int = 1
) -> tuple[list[tuple[str, str]], list[str]]:
    """Parse options the way the C library's ``getopt_long`` does, abbreviations and messages included.

    Parameters
    ----------
    spec
        See :func:`options`.
    permute
        Whether options may follow operands.

    Returns
    -------
    tuple
        Pairs of long name and value in the order given, and the operands.

    Raises
    ------
    Exit
        With the message of the C library and `usage_code`.
    """
    by_letter = {letter: name for name, (letter, _) in spec.items() if letter}
    found: list[tuple[str, str]] = []
    operands: list[str] = []
    rest = list(argv)

    def refuse(text: str) -> NoReturn:
        raise Exit(usage_code, f'{program}: {text}\nTry "{program} --help" for more information\n')

    while rest:
        word = rest.pop(0)
        if word == '--':
            return found, operands + rest
        if word.startswith('--'):
            name, equals, value = word[2:].partition('=')
            names = [name] if name in spec else [known for known in spec if known.startswith(name)]
            if not names:
                refuse(f"unrecognized option '{word}'")
            if len(names) > 1:
                choices = ' '.join(f"'--{known}'" for known in sorted(names))
                refuse(f"option '--{name}' is ambiguous; possibilities: {choices}")
            kind = spec[names[0]][1]
            if equals and not kind:
                refuse(f"option '--{names[0]}' doesn't allow an argument")
            if kind == '=' and not equals:
                if not rest:
                    refuse(f"option '--{names[0]}' requires an argument")
                value = rest.pop(0)
            found.append((names[0], value))
        elif word.startswith('-') and word != '-':
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter not in by_letter:
                    refuse(f"invalid option -- '{letter}'")
                kind = spec[by_letter[letter]][1]
                value = ''
                if kind:
                    value, letters = letters, ''
                    if kind == '=' and not value:
                        if not rest:
                            refuse(f"option requires an argument -- '{letter}'")
                        value = rest.pop(0)
                found.append((by_letter[letter], value))
        else:
            operands.append(word)
            if not permute:
                return found, operands + rest
    return found, operands

"""Options as Python's old ``optparse`` reads them, in the words of Cobalt's clients."""

from __future__ import annotations

from fakes.commandline import Exit, getopt

QSUB_USAGE = (
    'Usage: qsub.py --help\nUsage: qsub.py [options] <executable> [<excutable options>]\n\n'
    'Refer to man pages for JOBID EXPANSION and SCRIPT JOB DIRECTIVES.\n\n'
)
QSTAT_USAGE = 'Usage: qstat.py [options] <jobids1> ... <jobidsN>\n'
QDEL_USAGE = 'Usage: qdel.py [options] <jobid1> [ ... <jobidN>]\n'


def parse(
    command: str, usage: str, argv: list[str], spec: dict[str, tuple[str, str]], *, permute: bool = True
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return pairs of long name and value, and the operands."""
    try:
        return getopt(command, argv, spec, permute=permute)
    except Exit as ex:
        problem, _, word = ex.err.splitlines()[0].partition(': ')[2].rstrip("'").rpartition("'")
        if 'requires an argument' in problem:
            raise error(command, usage, f'-{word} option requires an argument') from ex
        raise error(command, usage, f'no such option: {word if word.startswith("--") else f"-{word}"}') from ex


def error(command: str, usage: str, text: str) -> Exit:
    return Exit(2, f'{usage}\n{command}.py: error: {text}\n')

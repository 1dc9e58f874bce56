"""``bkill``, in the recorded words. The fault ``in_progress`` is that of a node that cannot be reached."""

from __future__ import annotations

import re
import time

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster, Job
from fakes.lsf import jobs


def main(cluster: Cluster, argv: list[str]) -> int:
    if not argv:
        raise Exit(255, "Job ID or one of '-m', '-u' '-q' and '-J' must be specified.\nUsage: bkill [-h] [-V] ...\n")
    for word in argv:
        if word.startswith('-'):
            raise unsupported(cluster, word)
        if not re.fullmatch(r'\d+(\[\d+\])?', word):
            raise Exit(255, f'{word}: Illegal job ID.\n')
    shown = list(jobs.elements(cluster))
    if argv == ['0']:
        argv = [str(jobs.number(job)) for job in shown if not job.final and job.user == cluster.user]
    return max([_kill(cluster, word, shown) for word in argv])


def _kill(cluster: Cluster, word: str, shown: list[Job]) -> int:
    chosen = [job for job in shown if word in (str(jobs.number(job)), f'{jobs.number(job)}[{job.task}]')]
    if not chosen:
        return _fail(word, 'No matching job found')
    if not all(cluster.may_change(job) for job in chosen):
        return _fail(word, 'User permission denied')
    if all(job.final for job in chosen):
        return _fail(word, 'Job has already finished')
    if cluster.fault('in_progress') is not None:
        for job in chosen:
            cluster.change(job.id, state='done', ended=time.time())
        return _fail(word, 'Operation is in progress')
    for job in chosen:
        cluster.end(job.id, 'cancelled', cluster.uid)
    out(f'Job <{word}> is being terminated\n')
    return 0


def _fail(word: str, text: str) -> int:
    err(f'Job <{word}>: {text}\n')
    return 255

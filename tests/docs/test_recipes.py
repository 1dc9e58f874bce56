"""What the recipes of the documentation do when things go wrong, which the pages themselves do not show."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

from docs.blocks import blocks
from docs.test_code_blocks import DOCS
from psij import Job, JobExecutor, JobSpec, JobState


def test_a_task_that_is_canceled_while_it_submits_leaves_no_job() -> None:
    """The recipe for asyncio: its thread goes on when the task is canceled, and the job is canceled then."""
    page = DOCS / 'embedding.rst'
    (recipe,) = [block for block in blocks(page.name, page.read_text()) if block.text.startswith('import asyncio\n')]
    namespace: dict[str, Any] = {}
    exec(compile(recipe.text.partition('async def main')[0], page.name, 'exec'), namespace)
    jobs: list[Job] = []
    submitting, go_on = threading.Event(), threading.Event()

    class SlowExecutor:
        def submit(self, job: Job) -> None:
            submitting.set()
            go_on.wait(10)
            JobExecutor.get_instance('local').submit(job)
            jobs.append(job)

    async def main() -> None:
        task = asyncio.ensure_future(namespace['run'](SlowExecutor(), JobSpec('/bin/sleep', ['60'])))
        await asyncio.get_running_loop().run_in_executor(None, submitting.wait)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (job,) = jobs
    try:
        status = job.wait(timedelta(seconds=5))
    finally:
        job.cancel()
    assert status is not None
    assert status.state is JobState.CANCELED

"""Transactions that nothing cancels.

A cancelled COMMIT can be visible on the primary while no standby has it; acknowledging it then would lose the change at
the next failover. So each transaction runs in a task of its own: whoever waits for it may stop waiting.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from intake import metrics
from intake.refusals import OutcomeUnknown
from ops.errors import Refusal

log = logging.getLogger(__name__)
T = TypeVar("T")


class Unbroken:
    """The transactions under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def settle(self, work: Coroutine[Any, Any, T], deadline: float) -> T:
        """The result of `work`. Raises OutcomeUnknown after `deadline` seconds, while `work` goes on."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=deadline)
        if not done:
            metrics.OUTCOMES_UNKNOWN.inc()
            raise OutcomeUnknown
        try:
            return task.result()
        finally:
            del task, done  # they hold the refusal whose traceback holds this frame

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), Refusal):
            log.error("A change failed", exc_info=task.exception())

    async def close(self) -> None:
        """Wait for all of them; each has a deadline of its own."""
        if self._running:
            await asyncio.wait(self._running)

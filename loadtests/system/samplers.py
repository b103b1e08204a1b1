"""Something looked at again and again from a thread, while the block's own work goes on: memory, queries in flight."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

import asyncpg
import psutil

IN_FLIGHT = """
SELECT count(*)
  FROM pg_stat_activity
 WHERE application_name = $1
   AND state = 'active'
"""
"""A role sees its own sessions. Their text does not tell them apart: Postgres cuts it off before it names a table."""


class Sampler:
    """Looks every so many seconds for as long as the block runs. Leaving it raises what ended the looking early."""

    def __init__(self, looking: AbstractContextManager[Callable[[], int]], every: float) -> None:
        self.looks: list[int] = []
        self._looking, self._every = looking, every
        self._over = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is None and self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            with self._looking as look:
                while not self._over.is_set():
                    self.looks.append(look())
                    self._over.wait(self._every)
        except Exception as fault:
            self._fault = fault


@contextmanager
def memory_of(process: psutil.Process) -> Iterator[Callable[[], int]]:
    """Bytes that the process has resident; 0 once it is gone."""

    def look() -> int:
        try:
            return int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    yield look


@contextmanager
def queries_of(application: str, reader: str) -> Iterator[Callable[[], int]]:
    """How many queries of that application Postgres has in flight; `reader`: an address of the same role."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(reader))
        try:
            yield lambda: int(runner.run(connection.fetchval(IN_FLIGHT, application)))
        finally:
            runner.run(connection.close())


def is_alive(process: psutil.Process) -> bool:
    """Whether that very process is still there, and not another one with its number."""
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)

"""Something looked at again and again from a thread, while the block's own work goes on: memory, queries in flight."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import asyncpg
import psutil

IN_FLIGHT = """
SELECT count(*)
  FROM pg_stat_activity
 WHERE application_name = $1
   AND state = 'active'
"""
"""A role sees its own sessions. Their text does not tell them apart: Postgres cuts it off before it names a table."""


@contextmanager
def sampled(looking: AbstractContextManager[Callable[[], int]], every: float) -> Iterator[list[int]]:
    """What is seen every so many seconds while the block runs. Raises at its end what has ended the looking early."""
    looks: list[int] = []
    over = threading.Event()

    def look_on() -> None:
        with looking as look:
            while not over.is_set():
                looks.append(look())
                over.wait(every)

    with ThreadPoolExecutor(1, "sampler") as threads:
        running = threads.submit(look_on)
        try:
            yield looks
        finally:
            over.set()
        running.result()


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

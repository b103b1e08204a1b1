"""Connections to PostgreSQL with a timeout for every call: a pool, or a session of its own.

The pool connects at its first use, so a process starts while PostgreSQL is down. It reads its URL at every connect, so
that password, host or certificate authority can be changed. Of several hosts it uses the primary.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from opentelemetry.trace import Span

from ops.errors import OurOwnDelay, Unavailable
from ops.observe import tracing
from ops.settings import SettingsError
from ops.stores.breaker import Breaker
from ops.stores.calls import OWN_SHARE, Lateness, chain, measured
from ops.stores.urls import Urls, each_host, says_which_host

T = TypeVar("T")


TRANSACTION = "transaction"
"""The operation of a block of several statements, each of which has a span of its own."""

NEXT_HOST_AFTER = 0.25
"""Seconds without an answer after which the next of several hosts is tried too.

asyncpg tries them in turn within one timeout: a first host that is powered off would use all of it.
"""


Row = Any
"""One row of a result: asyncpg's Record, which has no type stubs."""

POSTGRES_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised by asyncpg for a connection lost during a handshake
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled by a statement timeout
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.TransactionRollbackError,  # a conflict with a standby's recovery, or a deadlock
    asyncpg.ReadOnlySQLTransactionError,  # it has become a standby
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


POOLER_IN_BETWEEN = "a connection pooler is in between: set HOSO24_PG_POOLED=1"
"""The reason of Unavailable for an undeclared PgBouncer."""


class Postgres:
    """A pool of at most `size` connections to one PostgreSQL host: the URL's only one, or the primary.

    `deadline` (seconds) limits waiting for a connection and the statement together. `url` is read at every connect; of
    several, one per line, the first that PostgreSQL accepts is used. `stateless` promises that no statement leaves
    state in its session, and saves the round trip that would reset it.

    `pooled`: a PgBouncer in transaction mode is in between; then no session state is used, prepared statements
    included. With an undeclared PgBouncer every call raises Unavailable with the reason POOLER_IN_BETWEEN.

    `breaker`: refuses calls at once while the last ones failed. A caller that has its own around its calls gives none.
    """

    def __init__(
        self,
        name: str,
        url: Callable[[], str],
        *,
        size: int,
        deadline: float,
        lateness: Lateness | None = None,
        stateless: bool = False,
        pooled: bool = False,
        breaker: Breaker | None = None,
    ) -> None:
        self.name = name
        self._urls = Urls(url)
        self._size = size
        self._deadline = deadline
        self._lateness = lateness
        self._pooled = pooled
        self._breaker: AbstractContextManager[object] = breaker or contextlib.nullcontext()
        self._reset = _leave if stateless or pooled else None
        self._asking = 0
        self._pool: asyncpg.Pool | None = None

    async def fetch(self, sql: str, *arguments: object, deadline: float | None = None) -> list[asyncpg.Record]:
        """Run one statement and return its rows. Raises Unavailable within the deadline."""
        async with self.connection(deadline, operation=tracing.command(sql)[0]) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    @contextlib.asynccontextmanager
    async def connection(
        self, deadline: float | None = None, *, operation: str = ""
    ) -> AsyncIterator[asyncpg.Connection]:
        """A connection for the duration of the block, at most `deadline` seconds from now.

        `operation` names the block in a trace: its SQL command, if it is a single one, or TRANSACTION.

        A connection whose block timed out or was cancelled is discarded: its statement may still run, and cancelling
        that on the server could hang as well.
        """
        pool = await self._opened()
        connection = None
        seconds = deadline or self._deadline
        queued = self._asking >= self._size
        asked_at = had_at = time.monotonic()
        measuring = measured(self.name, "postgresql", operation, POSTGRES_AWAY, seconds, self._lateness)
        with self._breaker, measuring as span:
            try:
                self._asking += 1
                async with asyncio.timeout(seconds):
                    connection = await pool.acquire()
                    had_at = time.monotonic()
                    with _traced(connection, span if operation == TRANSACTION else None):
                        yield connection
            except TimeoutError as late:
                if connection is not None:
                    connection.terminate()
                if queued and (connection is None or had_at - asked_at > OWN_SHARE * seconds):
                    raise OurOwnDelay(f"All connections to {self.name} were in use for too long.") from late
                raise
            except (asyncio.CancelledError, asyncpg.InternalClientError):
                if connection is not None:
                    connection.terminate()
                raise
            finally:
                self._asking -= 1
                if connection is not None:
                    await pool.release(connection)

    async def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                connect=self._connect, min_size=0, max_size=self._size, reset=self._reset
            )
        return self._pool

    async def _connect(self, _: None, **options: Any) -> asyncpg.Connection:
        if self._pooled:
            return await _let_in(self._urls, timeout=self._deadline, statement_cache_size=0, **options)
        connection = await _let_in(self._urls, timeout=self._deadline, **options)
        if await _has_pooler(connection):
            connection.terminate()
            raise Unavailable(f"{self.name} cannot be used now.", reason=POOLER_IN_BETWEEN)
        return connection

    async def close(self) -> None:
        """Close every connection; those still open after a second are aborted."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._pool.close()
            except (TimeoutError, *POSTGRES_AWAY):
                self._pool.terminate()


def _traced(connection: asyncpg.Connection, transaction: Span | None) -> AbstractContextManager[None]:
    """Around a block each of whose statements gets a span below the transaction's; asyncpg reports them."""
    if transaction is None:
        return contextlib.nullcontext()

    def ended(query: asyncpg.connection.LoggedQuery) -> None:
        failure = "" if query.exception is None else type(query.exception).__name__
        tracing.statement_ended(transaction, query.query, query.elapsed, failure)

    logger: AbstractContextManager[None] = connection.query_logger(ended)
    return logger


async def _leave(_: asyncpg.Connection) -> None:
    """Return a connection to the pool without resetting it."""


class BehindPooler(SettingsError):
    """A URL that must lead to PostgreSQL itself leads to a connection pooler."""


async def connect_directly(url: Callable[[], str], **options: Any) -> asyncpg.Connection:
    """A connection to PostgreSQL itself, for work that needs a session: the leader's lock, migrations, COPY.

    Of several URLs, one per line, the first that PostgreSQL accepts is used, and of a URL's hosts the primary. Raises
    BehindPooler when a pooler is in between, and asyncpg's exceptions.
    """
    urls = Urls(url)
    connection = await _let_in(urls, **options)
    if await _has_pooler(connection):
        connection.terminate()
        role = urlsplit(next(iter(urls))).username
        raise BehindPooler(
            [f"The URL for {role} leads to a connection pooler; it must lead to PostgreSQL itself, for a session."]
        )
    return connection


async def _let_in(urls: Urls, **options: Any) -> asyncpg.Connection:
    try:
        return await _by_one_of(urls, **options)
    except POSTGRES_AWAY as refusal:
        _forget_the_way(refusal)
        raise


def _forget_the_way(refusal: Exception) -> None:
    """Drop the tracebacks of a failed attempt.

    Its frames hold the error, whose traceback holds the frames: a cycle of a hundred objects for each refused
    connection. Only the garbage collector frees them, and it stops the whole process meanwhile.
    """
    for each in chain(refusal):
        each.__traceback__ = None


async def _by_one_of(urls: Urls, **options: Any) -> asyncpg.Connection:
    refused: Exception = ValueError("expected a URL")
    try:
        for url in urls.tries():
            try:
                connection = await _to_one_of(each_host(url), named=says_which_host(url), **options)
            except asyncpg.InvalidAuthorizationSpecificationError as error:
                refused = error
                continue
            urls.accepted(url)
            return connection
        raise refused
    finally:
        del refused


async def _to_one_of(hosts: Sequence[str], *, named: bool, **options: Any) -> asyncpg.Connection:
    """A connection to the only host, or to the primary of several, unless the URL says which (`named`).

    asyncpg tries several one after the other within one timeout: a first host that hangs would use all of it.
    """
    if len(hosts) == 1:
        return await _to(hosts[0], **options)
    if not named:
        options["target_session_attrs"] = "primary"
    waiting, trying, refusals = list(hosts), set[asyncio.Task[asyncpg.Connection]](), list[BaseException]()
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.create_task(_to(waiting.pop(0), **options)))
            patience = NEXT_HOST_AFTER if waiting else None
            done, _ = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                trying.discard(task)
                if (refusal := task.exception()) is None:
                    return task.result()
                refusals.append(refusal)
    finally:
        _leave_off(trying)
    # A refused password comes first: it may have been changed, and there may be another URL to try.
    raise min(refusals, key=lambda refusal: not isinstance(refusal, asyncpg.InvalidAuthorizationSpecificationError))


async def _to(host: str, **options: Any) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(host, **options)
    except POSTGRES_AWAY as refusal:
        _forget_the_way(refusal)
        raise


def _leave_off(trying: "set[asyncio.Task[asyncpg.Connection]]") -> None:
    """Cancel these attempts, and close those that succeed all the same."""
    for task in trying:
        task.add_done_callback(_hang_up)
        task.cancel()


def _hang_up(task: "asyncio.Task[asyncpg.Connection]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


async def _has_pooler(connection: asyncpg.Connection) -> bool:
    # A pooler invents the process id that it reports at the start. One round trip of the simple protocol, because a
    # pooler may send a prepared statement and its execution to different sessions.
    told = connection.get_server_pid()
    try:
        return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {told:d}") == "SELECT 0")
    except BaseException:
        connection.terminate()
        raise

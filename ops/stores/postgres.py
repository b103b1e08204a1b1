"""Connections to PostgreSQL on which no call outlives its deadline: a pool, or one session of its own.

The pool connects when it is first used, so a process starts while PostgreSQL is down, and asks for its URL at every
connect, so that password, host or certificate authority can change meanwhile. Of several hosts the primary is taken.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from ops.errors import OurOwnDelay, Unavailable
from ops.settings import SettingsError
from ops.stores.calls import OWN_SHARE, Lateness, chain, measured
from ops.stores.urls import Urls, each_host, says_which_host

T = TypeVar("T")


NEXT_HOST_AFTER = 0.25
"""Seconds after which the next of several hosts is tried beside one that has not let us in.

asyncpg tries them in turn within one timeout: a first host without power would use all of it.
"""


Row = Any
"""One row of a result: asyncpg's Record, which has no type stubs."""

POSTGRES_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg makes of a connection that was cut at an awkward moment
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled by a statement timeout
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.TransactionRollbackError,  # a standby's recovery was in the way of a query, or a deadlock
    asyncpg.ReadOnlySQLTransactionError,  # it has become a standby
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


POOLER_IN_BETWEEN = "a connection pooler is in between: set HOSO24_PG_POOLED=1"
"""Why a call is Unavailable where a pooler was not said."""


class Postgres:
    """A pool of at most `size` connections to one Postgres, which of several hosts is the primary.

    `deadline` (seconds) bounds waiting for a connection and the statement together. `url` is asked anew at every
    connect; of several, one a line, the first is taken that Postgres lets in. `stateless` promises that no statement
    leaves anything behind in its session, and saves the round trip that would clear it away after each of them.

    `pooled` says that a PgBouncer in transaction mode is in between: then nothing is kept in the session, prepared
    statements included. Where there is one and it was not said, every call is Unavailable, and the reason says so.
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
    ) -> None:
        self.name = name
        self._urls = Urls(url)
        self._size = size
        self._deadline = deadline
        self._lateness = lateness
        self._pooled = pooled
        self._reset = _leave if stateless or pooled else None
        self._asking = 0
        self._pool: asyncpg.Pool | None = None

    async def fetch(self, sql: str, *arguments: object, deadline: float | None = None) -> list[asyncpg.Record]:
        """Run one statement and return its rows. Raises Unavailable within the deadline."""
        async with self.connection(deadline, operation="SELECT") as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    @contextlib.asynccontextmanager
    async def connection(
        self, deadline: float | None = None, *, operation: str = ""
    ) -> AsyncIterator[asyncpg.Connection]:
        """A connection for as long as the block runs, at most `deadline` seconds from now.

        `operation` is what a trace calls the block: the SQL command where it is a single one.

        A connection whose block did not end in time, or was cancelled, is thrown away: nobody knows what
        the server is still doing on it, and asking it to cancel could hang as well.
        """
        pool = await self._opened()
        connection = None
        seconds = deadline or self._deadline
        queued = self._asking >= self._size
        asked_at = had_at = time.monotonic()
        with measured(self.name, "postgresql", operation, POSTGRES_AWAY, seconds, self._lateness):
            try:
                self._asking += 1
                async with asyncio.timeout(seconds):
                    connection = await pool.acquire()
                    had_at = time.monotonic()
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
        """Give every connection up; one that does not answer is cut after a second."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._pool.close()
            except (TimeoutError, *POSTGRES_AWAY):
                self._pool.terminate()


async def _leave(_: asyncpg.Connection) -> None:
    """A connection goes back into the pool as it is."""


class BehindPooler(SettingsError):
    """A URL that has to lead to Postgres itself leads to a connection pooler."""


async def connect_directly(url: Callable[[], str], **options: Any) -> asyncpg.Connection:
    """A connection to Postgres itself, for what needs a session of its own: the leader's lock, migrations, COPY.

    Of several URLs, one a line, the first is taken that Postgres lets in, and of a URL's hosts the primary. Raises
    BehindPooler where a pooler is in between, and what asyncpg raises.
    """
    urls = Urls(url)
    connection = await _let_in(urls, **options)
    if await _has_pooler(connection):
        connection.terminate()
        role = urlsplit(next(iter(urls))).username
        raise BehindPooler(
            [f"The URL for {role} leads to a connection pooler. This needs a session of its own: name Postgres itself."]
        )
    return connection


async def _let_in(urls: Urls, **options: Any) -> asyncpg.Connection:
    try:
        return await _by_one_of(urls, **options)
    except POSTGRES_AWAY as refusal:
        _forget_the_way(refusal)
        raise


def _forget_the_way(refusal: Exception) -> None:
    """Have an attempt in vain leave nothing behind.

    Its frames hold the error, whose traceback holds them: a cycle of a hundred objects each time that nobody listens.
    Those are the garbage collector's, which stops the whole process for as long as it clears away.
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
    """A connection to the only host, or to the primary among several, unless they are `named` otherwise.

    asyncpg tries several one after the other, all within one timeout: the first that hangs would take all of it.
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
    # A password that is refused may have been changed, and there may be another URL.
    raise min(refusals, key=lambda refusal: not isinstance(refusal, asyncpg.InvalidAuthorizationSpecificationError))


async def _to(host: str, **options: Any) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(host, **options)
    except POSTGRES_AWAY as refusal:
        _forget_the_way(refusal)
        raise


def _leave_off(trying: "set[asyncio.Task[asyncpg.Connection]]") -> None:
    """Nobody wants these any more, not even those that come about all the same."""
    for task in trying:
        task.add_done_callback(_hang_up)
        task.cancel()


def _hang_up(task: "asyncio.Task[asyncpg.Connection]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


async def _has_pooler(connection: asyncpg.Connection) -> bool:
    # Whoever stands in between has made up the process id that it gave at the start. One round trip of the simple
    # protocol, because a pooler may have parted a prepared statement from its execution.
    told = connection.get_server_pid()
    try:
        return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {told:d}") == "SELECT 0")
    except BaseException:
        connection.terminate()
        raise

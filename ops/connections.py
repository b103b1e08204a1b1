"""Connections to Postgres and Redis on which no call outlives its deadline.

Both classes connect when they are first used, so a process starts with either of them away. The drivers'
own retries are off: with them a stopped Redis cost five seconds. Driver exceptions that mean "cannot be
reached now" become Unavailable here and nowhere else; every other exception is a bug and passes through.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg
import hiredis
import redis.asyncio
import redis.exceptions
from prometheus_client import Counter, Histogram
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ops.errors import OurOwnDelay, Unavailable
from ops.metrics import DEPENDENCY_SECONDS, DEPENDENCY_UNAVAILABLE

T = TypeVar("T")

Lateness = Callable[[float], float]
"""How late this process's own loop has been since a moment (monotonic), in seconds: probes.State.late_since."""

OWN_SHARE = 0.25
"""From this share of a deadline on, our own lateness is what a timeout is blamed on."""

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
    asyncpg.ReadOnlySQLTransactionError,  # it has become a standby
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class Postgres:
    """A pool of at most `size` connections to one Postgres host.

    `deadline` (seconds) bounds waiting for a connection and the statement together. `url` is asked anew
    for the password at every connect, so that a rotated one is picked up.
    """

    def __init__(
        self, name: str, url: Callable[[], str], *, size: int, deadline: float, lateness: Lateness | None = None
    ) -> None:
        self.name = name
        self._url = url
        self._size = size
        self._deadline = deadline
        self._lateness = lateness
        self._pool: asyncpg.Pool | None = None

    async def fetch(self, sql: str, *arguments: object, deadline: float | None = None) -> list[asyncpg.Record]:
        """Run one statement and return its rows. Raises Unavailable within the deadline."""
        async with self.connection(deadline) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    @contextlib.asynccontextmanager
    async def connection(self, deadline: float | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A connection for as long as the block runs, at most `deadline` seconds from now.

        A connection whose block did not end in time, or was cancelled, is thrown away: nobody knows what
        the server is still doing on it, and asking it to cancel could hang as well.
        """
        pool = await self._opened()
        connection = None
        seconds = deadline or self._deadline
        with _measured(self.name, POSTGRES_AWAY, seconds, self._lateness):
            try:
                async with asyncio.timeout(seconds):
                    connection = await pool.acquire()
                    yield connection
            except TimeoutError as late:
                if connection is not None:
                    connection.terminate()
                elif pool.get_size() == self._size and pool.get_idle_size() == 0:
                    raise OurOwnDelay(f"All connections to {self.name} were in use.") from late
                raise
            except (asyncio.CancelledError, asyncpg.InternalClientError):
                if connection is not None:
                    connection.terminate()
                raise
            finally:
                if connection is not None:
                    await pool.release(connection)

    async def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                self._url(),
                password=lambda: unquote(urlsplit(self._url()).password or "") or None,
                min_size=0,
                max_size=self._size,
                timeout=self._deadline,
            )
        return self._pool

    async def close(self) -> None:
        """Give every connection up; one that does not answer is cut after a second."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 1.0)
            except (TimeoutError, *POSTGRES_AWAY):
                self._pool.terminate()


class _Packed:
    """A connection that packs commands with hiredis: redis-py's own way costs more than the rest of a large command."""

    def pack_command(self, *arguments: Any) -> list[bytes]:
        command, *rest = arguments
        words = command.split() if isinstance(command, str) else [command]  # "CONFIG GET" is two
        return [hiredis.pack_command((*words, *rest))]


class _Connection(_Packed, redis.asyncio.Connection):
    pass


class _TLSConnection(_Packed, redis.asyncio.SSLConnection):
    pass


class Redis:
    """A client of one Redis or Valkey whose every command ends within `deadline` seconds."""

    def __init__(
        self, name: str, url: Callable[[], str], *, size: int, deadline: float, lateness: Lateness | None = None
    ) -> None:
        self.name = name
        self._deadline = deadline
        self._lateness = lateness
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url(),
            max_connections=size,
            timeout=deadline,
            # No socket_timeout: redis-py would send under asyncio.wait_for, which before Python 3.12 can
            # swallow a cancellation that arrives just as the sending is done. The deadline is in `run`.
            socket_timeout=None,
            socket_connect_timeout=deadline,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        packed: dict[type, type] = {redis.asyncio.Connection: _Connection, redis.asyncio.SSLConnection: _TLSConnection}
        pool.connection_class = packed.get(pool.connection_class, pool.connection_class)
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Callable[["redis.asyncio.Redis"], Awaitable[T]], *, waiting: float = 0.0) -> T:
        """Run one command: `await redis.run(lambda client: client.mget(keys))`. Raises Unavailable in time.

        `waiting`: for how many seconds more the command itself may want to wait.
        """
        seconds = self._deadline + waiting
        with _measured(
            self.name,
            (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError, TimeoutError),
            seconds,
            self._lateness,
        ):
            try:
                async with asyncio.timeout(seconds):
                    return await command(self._client)
            except redis.exceptions.ResponseError as refusal:
                # Still loading its data set, out of memory, a replica, or a wrong password: alive, and of no use now.
                if str(refusal).startswith(
                    ("LOADING", "OOM", "READONLY", "MISCONF", "NOAUTH", "WRONGPASS", "BUSY", "MASTERDOWN")
                ):
                    raise Unavailable(f"{self.name} refuses commands now.") from refusal
                raise

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


@contextlib.contextmanager
def _measured(
    name: str, away: tuple[type[Exception], ...], deadline: float, lateness: Lateness | None
) -> Iterator[None]:
    """Time a call, and turn what means "cannot be reached" into Unavailable, counted by reason.

    A timeout while our own loop was late is OurOwnDelay: the answer may have been here all the time.
    """
    started = time.perf_counter()
    asked_at = time.monotonic()
    try:
        yield
    except Unavailable as refusal:
        _unavailable(name, "OurOwnDelay" if isinstance(refusal, OurOwnDelay) else "Refused").inc()
        raise
    except away as error:
        timed_out = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
        if timed_out and lateness is not None and lateness(asked_at) > OWN_SHARE * deadline:
            _unavailable(name, "OurOwnDelay").inc()
            raise OurOwnDelay(f"{name} was asked by a process that was late itself.") from error
        _unavailable(name, type(error).__name__).inc()
        raise Unavailable(f"{name} cannot be reached now.") from error
    finally:
        _timer(name).observe(time.perf_counter() - started)


# `labels` takes a lock each time; the labels are finite, and so are these.
@functools.cache
def _timer(name: str) -> Histogram:
    return DEPENDENCY_SECONDS.labels(name)


@functools.cache
def _unavailable(name: str, reason: str) -> Counter:
    return DEPENDENCY_UNAVAILABLE.labels(name, reason)


Row = Any
"""One row of a result: asyncpg's Record, which has no type stubs."""

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
    for the password at every connect, so that a rotated one is picked up. `stateless` promises that no statement
    leaves anything behind in its session, and saves the round trip that would clear it away after each of them.
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
    ) -> None:
        self.name = name
        self._url = url
        self._size = size
        self._deadline = deadline
        self._lateness = lateness
        self._reset = _leave if stateless else None
        self._asking = 0
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
        queued = self._asking >= self._size
        asked_at = had_at = time.monotonic()
        with _measured(self.name, POSTGRES_AWAY, seconds, self._lateness):
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
                self._url(),
                password=lambda: unquote(urlsplit(self._url()).password or "") or None,
                min_size=0,
                max_size=self._size,
                timeout=self._deadline,
                reset=self._reset,
            )
        return self._pool

    async def close(self) -> None:
        """Give every connection up; one that does not answer is cut after a second."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 1.0)
            except (TimeoutError, *POSTGRES_AWAY):
                self._pool.terminate()


async def _leave(_: asyncpg.Connection) -> None:
    """A connection goes back into the pool as it is."""


# A replica, out of memory, unable to save, without its replicas, in a long script: alive, and of no use now. For some
# redis-py has classes and takes the code out of the text; loading and wrong passwords are ConnectionErrors to it.
_REFUSES_NOW = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
)
_REFUSES_NOW_TOO = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")


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
        self._size = size
        self._pool: Any = pool
        self._idle: list[Any] = []
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Callable[["redis.asyncio.Redis"], Awaitable[T]], *, waiting: float = 0.0) -> T:
        """Run one command: `await redis.run(lambda client: client.ttl(key))`. Raises Unavailable in time.

        `waiting`: for how many seconds more the command itself may want to wait.
        """
        seconds = self._deadline + waiting
        with self._within(seconds):
            async with asyncio.timeout(seconds):
                return await command(self._client)

    async def call(self, *words: bytes | str | int) -> Any:
        """One command by its words, on the shortest way; it may be carried out twice. Raises Unavailable in time.

        What redis-py does besides (options, retries, observation, a pool with a lock) takes longer than a short
        command, and packing a long one in Python longer than Redis needs for it.
        """
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means tuples of any length
        with self._within(self._deadline):
            async with asyncio.timeout(self._deadline):
                while self._idle:
                    try:
                        return await self._exchange(self._idle.pop(), packed)
                    except redis.exceptions.ConnectionError:
                        continue  # it was closed at the other end while it lay idle
                return await self._exchange(self._pool.make_connection(), packed)

    async def _exchange(self, connection: Any, packed: bytes) -> Any:
        # A failure of any kind leaves the connection closed, except an error that was the answer.
        try:
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()
        finally:
            if connection.is_connected and len(self._idle) < self._size:
                self._idle.append(connection)

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        away = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError, TimeoutError)
        with _measured(self.name, away, seconds, self._lateness):
            try:
                yield
            except _REFUSES_NOW as refusal:
                raise Unavailable(f"{self.name} refuses commands now.") from refusal
            except redis.exceptions.ResponseError as refusal:
                if str(refusal).startswith(_REFUSES_NOW_TOO):
                    raise Unavailable(f"{self.name} refuses commands now.") from refusal
                raise

    async def close(self) -> None:
        """Close every connection."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
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

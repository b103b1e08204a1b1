"""A client of one Redis or Valkey with a timeout for every command, with or without Sentinels.

It connects at its first use, so a process starts while Redis is down. It reads its URL at every connect, so that
password, host or certificate authority can be changed. redis-py's own retries are off: with them a stopped Redis cost
five seconds.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ops.errors import OurOwnDelay, Unavailable
from ops.stores.calls import Lateness, measured
from ops.stores.sentinels import Connection, Door, NoPrimaryError, Sentinels
from ops.stores.urls import Place, RedisAddress, Urls, redis_address

T = TypeVar("T")

_log = logging.getLogger(__name__)

# A replica, out of memory, unable to save, without its replicas, in a long script, a user without the right: alive, but
# refusing commands.
# redis-py has classes for some and removes the code from their texts; loading and wrong passwords are ConnectionErrors.
_REFUSES_NOW = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.NoPermissionError,
)
_REFUSES_NOW_TOO = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")

# It has become a replica, or lost its primary: its clients have to look for the primary again.
_NO_PRIMARY = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)

LOOK_EVERY = 1.0
"""Seconds between two questions to the Sentinels for the primary, while there are calls."""


class Redis:
    """A client of one Redis or Valkey whose every command ends within `deadline` seconds.

    `url` is read at every connect, see ops/stores/urls.py for its forms. With Sentinels it is a client of the primary
    they name; they are asked at every connect, and once a second while there are calls. When they name another server,
    or the primary cannot be reached or refuses writes, all connections to it are closed.
    """

    def __init__(
        self, name: str, url: Callable[[], str], *, size: int, deadline: float, lateness: Lateness | None = None
    ) -> None:
        self.name = name
        self._urls = Urls(url)
        self._deadline = deadline
        self._lateness = lateness
        self._sentinels = Sentinels(deadline)
        self._primary: Place | None = None
        """The primary that the Sentinels named last; None without Sentinels."""
        self._looked_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=Connection,
            doors=self._doors,
            max_connections=size,
            timeout=deadline,
            # No socket_timeout: redis-py would send under asyncio.wait_for, which before Python 3.12 can swallow a
            # cancellation that arrives just as the sending ends. The timeout is in `run`.
            socket_timeout=None,
            socket_connect_timeout=deadline,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._size = size
        self._pool: Any = pool
        self._idle: list[Connection] = []
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Callable[["redis.asyncio.Redis"], Awaitable[T]], *, waiting: float = 0.0) -> T:
        """Run one command: `await redis.run(lambda client: client.ttl(key))`. Raises Unavailable within the deadline.

        `waiting`: seconds added to the deadline for a blocking command.
        """
        seconds = self._deadline + waiting
        self._look_again()
        try:
            with self._within(seconds, ""):
                async with asyncio.timeout(seconds):
                    return await command(self._client)
        except Unavailable as away:
            await self._learn_from(away)
            raise

    async def call(self, command: str, *words: bytes | str | int) -> Any:
        """Run one command, without redis-py's overhead; it may run twice. Raises Unavailable within the deadline.

        redis-py's options, retries, observation and locked pool take longer than a short command, and packing a long
        one in Python takes longer than running it.
        """
        packed = hiredis.pack_command((command, *words))  # type: ignore[arg-type]  # its stub means tuples of any length
        self._look_again()
        try:
            with self._within(self._deadline, command):
                async with asyncio.timeout(self._deadline):
                    while self._idle:
                        try:
                            return await self._exchange(self._idle.pop(), packed)
                        except redis.exceptions.ConnectionError:
                            continue  # the server closed it while it was idle
                    return await self._exchange(self._pool.make_connection(), packed)
        except Unavailable as away:
            await self._learn_from(away)
            raise

    async def close(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._give_up()
        await self._client.aclose()
        await self._sentinels.close()

    async def _exchange(self, connection: Connection, packed: bytes) -> Any:
        # Any failure closes the connection, except an error that Redis answered.
        try:
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()
        finally:
            if connection.is_connected:
                if len(self._idle) < self._size and (self._primary is None or self._primary == connection.place):
                    self._idle.append(connection)
                else:
                    await connection.disconnect(nowait=True)

    @contextlib.contextmanager
    def _within(self, seconds: float, command: str) -> Iterator[None]:
        away = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError, TimeoutError)
        with measured(self.name, "redis", command, away, seconds, self._lateness):
            try:
                yield
            except _REFUSES_NOW as refusal:
                raise Unavailable(f"{self.name} refuses commands now.", reason=str(refusal)) from refusal
            except redis.exceptions.ResponseError as refusal:
                if str(refusal).startswith(_REFUSES_NOW_TOO):
                    raise Unavailable(f"{self.name} refuses commands now.", reason=str(refusal)) from refusal
                raise

    # -- where to go -------------------------------------------------------------------------------------

    async def _doors(self) -> AsyncGenerator[Door, None]:
        refused: NoPrimaryError | None = None
        for url in self._urls.tries():
            address = _address(url)
            try:
                place = await self._located(address)
            except NoPrimaryError as error:
                if not isinstance(error.__cause__, redis.exceptions.AuthenticationError):
                    raise
                refused = error  # the Sentinels' password, which may be changed as well
                continue
            yield Door(
                place,
                address.login,
                address.trust,
                address.database,
                primary=bool(address.primary),
                entered=functools.partial(self._urls.accepted, url),
            )
        if refused is not None:
            raise refused

    async def _located(self, address: RedisAddress) -> Place:
        """The place to connect to; if the Sentinels name a new primary, connections to the old one are closed."""
        if not address.primary:
            self._primary = None
            return address.places[0]
        self._looked_at = time.monotonic()
        named = await self._sentinels.primary(address)
        before, self._primary = self._primary, named
        if before is not None and before != named:
            _log.warning("%s failed over to %s:%d", self.name, *named)
            await self._give_up()
        return named

    def _look_again(self) -> None:
        """Ask the Sentinels in the background if it is due: an old primary may go on answering."""
        if self._primary is None or time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        # If no Sentinel answers, the primary stays the same.
        with contextlib.suppress(redis.exceptions.RedisError, OSError, ValueError):
            await self._located(_address(next(iter(self._urls))))

    async def _learn_from(self, away: Unavailable) -> None:
        """After a failed call, close the idle connections: they lead to the same place, and each would time out."""
        refused = isinstance(away.__cause__, redis.exceptions.ResponseError)
        if not isinstance(away, OurOwnDelay) and (not refused or isinstance(away.__cause__, _NO_PRIMARY)):
            await self._give_up()

    async def _give_up(self) -> None:
        """Close idle connections, and mark those in use to be closed when they are returned."""
        idle, self._idle = self._idle, []
        # Without waiting for the server, which may hang; the pool's own method would wait.
        for connection in (*idle, *self._pool._available_connections):
            await connection.disconnect(nowait=True)
        await self._pool.update_active_connections_for_reconnect()


def _address(url: str) -> RedisAddress:
    try:
        return redis_address(url)
    except ValueError as fault:  # it was valid when the process started
        raise redis.exceptions.ConnectionError(f"its URL cannot be used: {fault}") from None

"""Connections to Postgres and Redis on which no call outlives its deadline.

Both classes connect when they are first used, so a process starts with either of them away, and ask for their URL at
every connect, so that a password, a host or an authority's certificate can be changed under them. The drivers'
own retries are off: with them a stopped Redis cost five seconds. Driver exceptions that mean "cannot be
reached now" become Unavailable here and nowhere else; every other exception is a bug and passes through.
"""

import asyncio
import contextlib
import functools
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import hiredis
import redis.asyncio
import redis.exceptions
from prometheus_client import Counter, Histogram
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ops.errors import OurOwnDelay, Unavailable
from ops.observe import tracing
from ops.observe.metrics import DEPENDENCY_SECONDS, DEPENDENCY_UNAVAILABLE
from ops.settings import SettingsError, masked
from ops.stores.sentinels import Connection, Door, NoPrimaryError, Sentinels
from ops.stores.urls import Place, RedisAddress, Urls, each_host, redis_address, says_which_host

T = TypeVar("T")

_log = logging.getLogger(__name__)

Lateness = Callable[[float], float]
"""How late this process's own loop has been since a moment (monotonic), in seconds: probes.State.late_since."""

NEXT_HOST_AFTER = 0.25
"""When a host of several has not let us in by then, the next one is tried beside it, in seconds."""

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
        with _measured(self.name, "postgresql", operation, POSTGRES_AWAY, seconds, self._lateness):
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
    for each in _chain(refusal):
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


# A replica, out of memory, unable to save, without its replicas, in a long script: alive, and of no use now. For some
# redis-py has classes and takes the code out of the text; loading and wrong passwords are ConnectionErrors to it.
_REFUSES_NOW = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
)
_REFUSES_NOW_TOO = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")


# It has become a replica, or lost its primary: whoever was connected to it has to look for the primary again.
_NO_PRIMARY = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)

LOOK_EVERY = 1.0
"""How often the Sentinels are asked, while there are calls, whether the primary is still the same, in seconds."""


class Redis:
    """A client of one Redis or Valkey whose every command ends within `deadline` seconds.

    `url` is asked anew at every connect, see ops/stores/urls.py for its forms. With Sentinels it is a client of whoever
    they name: they are asked at every connect, and once a second as long as there are calls. When they name another
    one, and whenever the present one cannot be reached or no longer takes writes, all connections to it are given up.
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
        """Whom the Sentinels named last; None without Sentinels."""
        self._looked_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=Connection,
            doors=self._doors,
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
        self._idle: list[Connection] = []
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Callable[["redis.asyncio.Redis"], Awaitable[T]], *, waiting: float = 0.0) -> T:
        """Run one command: `await redis.run(lambda client: client.ttl(key))`. Raises Unavailable in time.

        `waiting`: for how many seconds more the command itself may want to wait.
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
        """One command by its words, on the shortest way; it may be carried out twice. Raises Unavailable in time.

        What redis-py does besides (options, retries, observation, a pool with a lock) takes longer than a short
        command, and packing a long one in Python longer than Redis needs for it.
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
                            continue  # it was closed at the other end while it lay idle
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
        # A failure of any kind leaves the connection closed, except an error that was the answer.
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
        with _measured(self.name, "redis", command, away, seconds, self._lateness):
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
        """Where to go; if the Sentinels name somebody else than before, the others are given up."""
        if not address.primary:
            self._primary = None
            return address.places[0]
        self._looked_at = time.monotonic()
        named = await self._sentinels.primary(address)
        before, self._primary = self._primary, named
        if before is not None and before != named:
            _log.warning("%s is another one now: the Sentinels name %s:%d", self.name, *named)
            await self._give_up()
        return named

    def _look_again(self) -> None:
        """Ask the Sentinels beside the calls, if it is time to: an old primary may answer for as long as it lives."""
        if self._primary is None or time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        # If no Sentinel answers, whoever was the primary still is.
        with contextlib.suppress(redis.exceptions.RedisError, OSError, ValueError):
            await self._located(_address(next(iter(self._urls))))

    async def _learn_from(self, away: Unavailable) -> None:
        """After a failed call: what lay idle beside it leads to the same place, and would cost a deadline each."""
        refused = isinstance(away.__cause__, redis.exceptions.ResponseError)
        if not isinstance(away, OurOwnDelay) and (not refused or isinstance(away.__cause__, _NO_PRIMARY)):
            await self._give_up()

    async def _give_up(self) -> None:
        """Close what is idle, and have what is in use closed when it comes back."""
        idle, self._idle = self._idle, []
        # Without waiting for the other end, which may hang; the pool itself would.
        for connection in (*idle, *self._pool._available_connections):
            await connection.disconnect(nowait=True)
        await self._pool.update_active_connections_for_reconnect()


def _address(url: str) -> RedisAddress:
    try:
        return redis_address(url)
    except ValueError as fault:  # it was good when the process started
        raise redis.exceptions.ConnectionError(f"its URL cannot be used: {fault}") from None


@contextlib.contextmanager
def _measured(
    name: str,
    system: str,
    operation: str,
    away: tuple[type[Exception], ...],
    deadline: float,
    lateness: Lateness | None,
) -> Iterator[None]:
    """Time and trace a call, and turn what means "cannot be reached" into Unavailable, counted by reason.

    A timeout while our own loop was late is OurOwnDelay: the answer may have been here all the time.
    """
    started = time.perf_counter()
    asked_at = time.monotonic()
    span, failure = tracing.call_span(name, system, operation), ""
    try:
        yield
        if name in _troubles:
            _say_it_is_back(name)
    except Unavailable as refusal:
        failure = "OurOwnDelay" if isinstance(refusal, OurOwnDelay) else "Refused"
        _unavailable(name, failure).inc()
        _say_why(name, refusal.reason)
        raise
    except away as error:
        timed_out = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
        if timed_out and lateness is not None and lateness(asked_at) > OWN_SHARE * deadline:
            failure = "OurOwnDelay"
            _unavailable(name, failure).inc()
            raise OurOwnDelay(f"{name} was asked by a process that was late itself.") from error
        failure = type(error).__name__
        _unavailable(name, failure).inc()
        reason = reason_of(error)
        _say_why(name, reason)
        raise Unavailable(f"{name} cannot be reached now.", reason=reason) from error
    finally:
        if span is not None:
            tracing.call_ended(span, failure)
        _timer(name).observe(time.perf_counter() - started)


# -- why it cannot be reached ----------------------------------------------------------------------------

SAY_AGAIN = 60.0
"""For so many seconds a reason that stands in the log is not repeated, whatever happens in between."""
_said: dict[tuple[str, str], float] = {}
_troubles: dict[str, float] = {}
"""Since when, of those dependencies whose trouble stands in the log."""


def reason_of(error: BaseException) -> str:
    """Why a dependency could not be reached, in words for whoever is on call; no password is in them."""
    for each in _chain(error):
        match each:
            case NoPrimaryError():
                return f"{each}: {reason_of(each.__cause__)}" if each.__cause__ else str(each)
            case ssl.SSLCertVerificationError():
                return f"its certificate is not accepted: {each.verify_message}"
            case ssl.SSLError():
                return f"TLS failed: {each.reason or each}"
            case asyncpg.InvalidPasswordError() | redis.exceptions.AuthenticationError():
                return f"the password is not accepted: {_line(each)}"
            case ConnectionRefusedError():
                return "nobody listens there"
            case FileNotFoundError():
                return "a file or socket that its URL names is not there"
    if isinstance(error, TimeoutError | redis.exceptions.TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {_line(error)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return masked(str(error)).partition("\n")[0][:160]


def _say_why(name: str, reason: str) -> None:
    """One line for each reason a minute, however many calls fail."""
    now = time.monotonic()
    if reason and now - _said.get((name, reason), -SAY_AGAIN) >= SAY_AGAIN:
        if len(_said) > 1000:
            _said.clear()
        _said[name, reason] = now
        _troubles.setdefault(name, now)
        _log.warning("%s cannot be used: %s", name, reason)


def _say_it_is_back(name: str) -> None:
    _log.info("%s is back after %.1f s", name, time.monotonic() - _troubles.pop(name))


# `labels` takes a lock each time; the labels are finite, and so are these.
@functools.cache
def _timer(name: str) -> Histogram:
    return DEPENDENCY_SECONDS.labels(name)


@functools.cache
def _unavailable(name: str, reason: str) -> Counter:
    return DEPENDENCY_UNAVAILABLE.labels(name, reason)


Row = Any
"""One row of a result: asyncpg's Record, which has no type stubs."""

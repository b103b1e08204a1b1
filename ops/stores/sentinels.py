"""Finding a Redis primary: a redis-py connection that gets its address at each connect, and a client of Sentinels.

redis-py has a Sentinel client too. It asks one Sentinel after the other, so a hanging one costs its timeout at every
failover; it trusts the first answer; and a connection made outside its pool goes to localhost.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any, NamedTuple

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider

from ops.stores.urls import Login, Place, RedisAddress, Trust

GOSSIP = 3.0
"""Seconds within which Sentinels learn of a failover from each other; they gossip every two seconds."""


class NoPrimaryError(redis.exceptions.ConnectionError):
    """No Sentinel answered (the cause says why), or the server they name is no primary."""


class Door(NamedTuple):
    """One way to connect: place, login, and the certificate to trust (None without TLS)."""

    place: Place
    login: Login
    trust: Trust | None
    database: int = 0
    primary: bool = False
    """Whether the server must be a primary."""
    entered: Callable[[], object] = lambda: None
    """Called when the server has accepted this login."""


Doors = Callable[[], AsyncGenerator[Door, None]]
"""The doors to try, the likeliest first. After a refused password the next door is tried."""


class Connection(redis.asyncio.Connection):
    """A redis-py connection that gets its doors from `doors` each time it connects."""

    def __init__(self, *, doors: Doors, **options: Any) -> None:
        self._doors = doors
        self._trust: Trust | None = None
        super().__init__(**options)

    @property
    def place(self) -> Place:
        """The place it is, or was last, connected to."""
        return Place(self.host, self.port)

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect, authenticate and choose the database. Raises redis-py's ConnectionError and TimeoutError."""
        if self.is_connected:
            return
        refused: Exception = redis.exceptions.ConnectionError("there is no URL to connect to")
        async with contextlib.aclosing(self._doors()) as doors:
            async for door in doors:
                self._turn_to(door)
                try:
                    await super().connect_check_health(check_health, retry_socket_connect)
                except redis.exceptions.AuthenticationError as error:
                    refused = error
                    continue
                if door.primary:
                    await self._insist_on_primary()
                door.entered()
                return
        try:
            raise refused
        finally:
            del refused  # its traceback holds this frame: a cycle

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, and connect first if needed. Raises redis-py's ConnectionError and TimeoutError."""
        if self._writer is not None and self._writer.transport.is_closing():
            # Reset while idle. Writing to it would raise uvloop's RuntimeError, which redis-py does not handle.
            await self.disconnect(nowait=True)
        await super().send_packed_command(command, check_health)

    def _turn_to(self, door: Door) -> None:
        self.host, self.port = door.place
        self.db, self._trust = door.database, door.trust
        self.credential_provider = UsernamePasswordCredentialProvider(*door.login) if any(door.login) else None

    async def _insist_on_primary(self) -> None:
        # A partitioned Sentinel may still name the old primary, and that learns of its demotion late.
        try:
            await self.send_command("ROLE", check_health=False)
            role, *_ = await self.read_response()
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if role not in (b"master", "master"):
            await self.disconnect(nowait=True)
            raise NoPrimaryError("the Sentinels named a replica")

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(super()._connection_arguments())
        return arguments if self._trust is None else {**arguments, "ssl": self._trust.context()}


class Sentinels:
    """The Sentinels of an address, all asked concurrently.

    The answers of a majority suffice, and the newest configuration among them counts. Without a majority after half of
    `deadline` (seconds), the answers so far are used, so a hanging Sentinel costs no more than that. Each Sentinel has
    one question at a time; concurrent callers share its answer. An older configuration is ignored for GOSSIP seconds
    after a newer one, because the next majority may not have learnt of the failover.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._connections: dict[_Sentinel, Connection] = {}
        self._asked: dict[_Sentinel, asyncio.Task[SentinelAnswer]] = {}
        self._newest: dict[str, tuple[SentinelAnswer, float]] = {}
        """The newest configuration of each primary, and when it was last reported."""

    async def primary(self, address: RedisAddress) -> Place:
        """The primary's place. Raises NoPrimaryError when no Sentinel knows it."""
        sentinels = [_Sentinel(place, address.sentinel_login, address.trust) for place in address.places]
        answers: list[SentinelAnswer] = []
        troubles: list[Exception] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline / 2):
                for next_answer in asyncio.as_completed([self._ask(each, address.primary) for each in sentinels]):
                    try:
                        answers.append(await next_answer)
                    except (redis.exceptions.RedisError, OSError) as trouble:
                        troubles.append(trouble.with_traceback(None))  # its frames hold this list: a cycle
                    if len(answers) > len(sentinels) // 2:
                        break
        await self._leave_all_but(sentinels)
        if not answers:
            raise _no_answer(address, troubles)
        return self._heard(address.primary, max(answers)).primary

    def _heard(self, primary: str, answer: "SentinelAnswer") -> "SentinelAnswer":
        now = asyncio.get_running_loop().time()
        newest, at = self._newest.get(primary, (answer, now))
        if answer.config_epoch < newest.config_epoch and now - at < GOSSIP:
            return newest
        self._newest[primary] = (answer, now)
        return answer

    async def each(self, address: RedisAddress) -> list["SentinelAnswer | BaseException"]:
        """The answer of each Sentinel within the deadline, or its failure, in the order of the address."""
        sentinels = [_Sentinel(place, address.sentinel_login, address.trust) for place in address.places]
        asked = [self._ask(each, address.primary) for each in sentinels]
        return await asyncio.gather(*asked, return_exceptions=True)

    async def close(self) -> None:
        """Cancel open questions, and close every connection."""
        asking = list(self._asked.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._leave_all_but(())

    def _ask(self, sentinel: "_Sentinel", primary: str) -> "asyncio.Task[SentinelAnswer]":
        if sentinel not in self._asked:

            def answered(asking: "asyncio.Task[SentinelAnswer]") -> None:
                self._asked.pop(sentinel, None)
                if not asking.cancelled():
                    asking.exception()  # retrieved, or asyncio would log it when no caller waits any more

            self._asked[sentinel] = asyncio.create_task(self._answer(sentinel, primary))
            self._asked[sentinel].add_done_callback(answered)
        return self._asked[sentinel]

    async def _answer(self, sentinel: "_Sentinel", primary: str) -> "SentinelAnswer":
        if sentinel not in self._connections:
            self._connections[sentinel] = self._connection(sentinel)
        connection = self._connections[sentinel]
        async with asyncio.timeout(self._deadline):
            if connection.is_connected:
                # The Sentinel may have closed it since the last question.
                with contextlib.suppress(redis.exceptions.ConnectionError):
                    return await _question(connection, primary)
            return await _question(connection, primary)

    def _connection(self, sentinel: "_Sentinel") -> Connection:
        async def doors() -> AsyncGenerator[Door, None]:
            yield Door(sentinel.place, sentinel.login, sentinel.trust)

        return Connection(
            doors=doors,
            socket_timeout=None,
            socket_connect_timeout=self._deadline,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    async def _leave_all_but(self, sentinels: Collection["_Sentinel"]) -> None:
        for each in self._connections.keys() - set(sentinels) - self._asked.keys():
            await self._connections.pop(each).disconnect(nowait=True)


class _Sentinel(NamedTuple):
    place: Place
    login: Login
    trust: Trust | None


class SentinelAnswer(NamedTuple):
    """One Sentinel's view of a primary."""

    config_epoch: int
    """Grows with every failover."""
    primary: Place
    replicas: int = 0
    """The number of replicas it knows."""
    down: bool = False
    """Whether it considers the primary down."""


async def _question(connection: Connection, primary: str) -> SentinelAnswer:
    try:
        await connection.send_command("SENTINEL", "MASTER", primary, check_health=False)
        # During a failover, its leader reports the old primary above, under the new epoch, until all replicas follow.
        await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", primary, check_health=False)
        reply = await connection.read_response(disable_decoding=True)
        host, port = await connection.read_response(disable_decoding=True)
    except BaseException:
        await connection.disconnect(nowait=True)  # or an unread reply would be taken for that to the next question
        raise
    state = dict(zip(reply[::2], reply[1::2], strict=True))
    return SentinelAnswer(
        int(state[b"config-epoch"]),
        Place(host.decode(), int(port)),
        replicas=int(state[b"num-slaves"]),
        down=b"down" in state[b"flags"],
    )


def _no_answer(address: RedisAddress, troubles: list[Exception]) -> NoPrimaryError:
    if any("No such master" in str(trouble) for trouble in troubles):
        return NoPrimaryError(f"the Sentinels know no primary named {address.primary}")
    error = NoPrimaryError("no Sentinel answers" if troubles else "no Sentinel answers in time")
    refusals = [each for each in troubles if isinstance(each, redis.exceptions.AuthenticationError)]
    error.__cause__ = next(iter(refusals + troubles), None)
    return error

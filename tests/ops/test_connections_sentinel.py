"""Redis by way of Sentinels: whoever they name is followed on both ways, and one that hangs does not matter."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio

from loadtests.system.pauses import pause, resume
from ops.errors import Unavailable
from ops.local.reaper import Reaper
from ops.local.sentinel_group import PASSWORD, GroupMember, Sentinel
from ops.stores import sentinels
from ops.stores.redis import Redis
from ops.stores.sentinels import Sentinels
from ops.stores.urls import Place, redis_address
from tests import debian
from tests.debian import Watched
from tests.house import until

Ask = Callable[[Redis], Awaitable[Any]]
WHERE: dict[str, Ask] = {
    "run": lambda redis: redis.run(lambda client: client.config_get("port")),
    "call": lambda redis: redis.call("CONFIG", "GET", "port"),
}
WRITE: dict[str, Ask] = {
    "run": lambda redis: redis.run(lambda client: client.set("key", "value")),
    "call": lambda redis: redis.call("SET", "key", "value"),
}


@pytest.fixture(scope="module")
def place(reaper: Reaper) -> Iterator[debian.Place]:
    with debian.place(reaper) as place:
        yield place


@pytest.fixture(scope="module")
def watched(place: debian.Place) -> Watched:
    return debian.watched(place)


@pytest.fixture
async def client(watched: Watched) -> AsyncIterator[Redis]:
    client = Redis("redis", lambda: watched.url, size=4, deadline=5.0)
    yield client
    await client.close()


async def port_of(client: Redis, way: str) -> int | None:
    """The port of the server that answers; None when none does."""
    try:
        answer = await WHERE[way](client)
    except Unavailable:
        return None
    return int(answer["port"] if isinstance(answer, dict) else answer[1])


async def told(port: int, *words: object) -> Any:
    """What one server itself answers, asked past everything that is tested here."""
    direct: Any = redis.asyncio.Redis(port=port, password=PASSWORD, protocol=2)
    async with direct:
        return await direct.execute_command(*words)


async def ask_sentinel(sentinel: Sentinel, *words: object) -> Any:
    direct: Any = redis.asyncio.Redis(port=sentinel.port, protocol=2)
    async with direct:
        return await direct.execute_command(*words)


async def in_step(watched: Watched) -> GroupMember:
    """The primary, once the Sentinels all name the same one and a living replica is in step with it."""
    members = {member.port: member for member in watched.members if member.alive}

    async def settled() -> GroupMember | None:
        ports = {await named(sentinel) for sentinel in watched.sentinels}
        if len(ports) > 1 or not ports <= members.keys():
            return None
        (port,) = ports
        role, _, replicas = await told(port, "ROLE")
        return members[port] if role == b"master" and any(int(each[1]) in members for each in replicas) else None

    found: GroupMember = await until(settled, within=TILT + 30)
    return found


async def named(sentinel: Sentinel) -> int:
    """The port of whom this Sentinel calls the primary."""
    return int((await ask_sentinel(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "dossiers"))[1])


TILT = 30
"""Seconds for which a Sentinel does nothing once its own timer came late, as on a machine that stood still."""


async def followed(client: Redis, way: str, old: GroupMember) -> int:
    """Once another one than `old` is asked on this way, and says that it is the primary: its port."""

    async def elsewhere() -> int | None:
        with contextlib.suppress(Unavailable):
            port = await port_of(client, way)
            return port if port != old.port else None
        return None

    port: int = await until(elsewhere, within=TILT + 30)
    assert (await told(port, "ROLE"))[0] == b"master"
    return port


async def test_sentinel_that_hangs_costs_no_answer(watched: Watched) -> None:
    """One of three is not waited for at all: the deadline is longer than this test may take. Two are, for a while."""
    for hanging, deadline in ((watched.sentinels[:1], 600.0), (watched.sentinels[:2], 4.0)):
        for sentinel in hanging:
            pause(sentinel)
        try:
            for way in WHERE:
                client = Redis("redis", lambda: watched.url, size=1, deadline=deadline)
                async with asyncio.timeout(60):
                    assert await port_of(client, way) in [member.port for member in watched.members]
                await client.close()
        finally:
            for sentinel in hanging:
                resume(sentinel)


async def test_without_any_sentinel_redis_is_unavailable_and_connections_there_are_stay(watched: Watched) -> None:
    before = Redis("redis", lambda: watched.url, size=1, deadline=5.0)
    port = await port_of(before, "call")
    after = Redis("redis", lambda: watched.url, size=1, deadline=10.0)
    for sentinel in watched.sentinels:
        pause(sentinel)
    try:
        with pytest.raises(Unavailable) as away:
            await after.call("PING")
        assert away.value.reason == "no Sentinel answers in time"
        before._looked_at = 0.0
        assert await port_of(before, "call") == port
        assert before._looking is not None
        await before._looking
        assert await port_of(before, "call") == port
    finally:
        for sentinel in watched.sentinels:
            resume(sentinel)
        await before.close()
        await after.close()


async def test_name_that_the_sentinels_do_not_know_is_said(watched: Watched) -> None:
    client = Redis("redis", lambda: watched.url.replace("/dossiers/", "/another/"), size=1, deadline=5.0)
    with pytest.raises(Unavailable) as away:
        await client.call("PING")
    assert away.value.reason == "the Sentinels know no primary named another"
    await client.close()


async def test_failover_is_followed_and_the_demoted_primary_given_up(watched: Watched, client: Redis) -> None:
    """By order: the old primary lives on as a replica. Every kind of connection is in use, and some lie idle."""
    old = await in_step(watched)
    await asyncio.gather(*(client.call("PING") for _ in range(3)), *(write(client) for write in WRITE.values()))
    assert {await port_of(client, way) for way in WHERE} == {old.port}
    await ask_sentinel(watched.sentinels[0], "SENTINEL", "FAILOVER", "dossiers")
    (new,) = {await followed(client, way, old) for way in WHERE}
    for write in WRITE.values():
        await write(client)
    assert {connection.port for connection in client._idle} == {new}


async def test_primary_that_hangs_and_wakes_up_is_not_gone_back_to(watched: Watched, client: Redis) -> None:
    """What lay idle and led to it would still be answered, by what it held when it was stopped."""
    old = await in_step(watched)
    await asyncio.gather(*(client.call("PING") for _ in range(4)))
    pause(old)
    try:
        new = await followed(client, "call", old)
    finally:
        resume(old)
    assert [await port_of(client, way) for way in WHERE for _ in range(6)] == [new] * 12


async def test_primary_that_is_killed_is_replaced_by_whom_the_sentinels_promote(
    watched: Watched, client: Redis
) -> None:
    old = await in_step(watched)
    await asyncio.gather(*(client.call("PING") for _ in range(3)))
    old.kill()
    with pytest.raises(Unavailable):
        await client.call("PING")
    (new,) = {await followed(client, way, old) for way in WHERE}
    for write in WRITE.values():
        await write(client)
    assert {await port_of(client, way) for way in WHERE} == {new}


@pytest.fixture(scope="module")
def pair(place: debian.Place) -> list[GroupMember]:
    """Two primaries that do not know of each other."""
    return [place.start(GroupMember, f"of-its-own-{n}") for n in (1, 2)]


@pytest.fixture
def alone(place: debian.Place, pair: list[GroupMember], request: pytest.FixtureRequest) -> Iterator[Sentinel]:
    """A Sentinel without others beside it, which names the first of the pair."""
    settings = {"sentinel monitor": f"dossiers {pair[0].host} {pair[0].port} 1"}
    with Sentinel.start(place.path / request.node.name, settings=settings, reaper=place.reaper) as sentinel:
        yield sentinel


async def test_primary_that_lives_is_left_once_the_sentinels_name_another(
    alone: Sentinel, pair: list[GroupMember]
) -> None:
    """Cut off from them, it goes on taking writes; nothing fails, so only asking again can tell."""
    one, two = pair
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{alone.port}/dossiers"
    client = Redis("redis", lambda: url, size=4, deadline=10.0)
    waiting = asyncio.create_task(client.run(lambda client: client.xread({"nothing": "0-0"}, block=1000), waiting=10.0))
    assert {await port_of(client, way) for way in WHERE} == {one.port}
    await ask_sentinel(alone, "SENTINEL", "REMOVE", "dossiers")
    await ask_sentinel(alone, "SENTINEL", "MONITOR", "dossiers", two.host, two.port, 1)
    assert [await followed(client, way, one) for way in WHERE] == [two.port] * 2
    await waiting

    async def left() -> bool:
        return "xread" not in str(await told(one.port, "CLIENT", "LIST"))

    await until(left)
    assert [await port_of(client, "run") for _ in range(4)] == [two.port] * 4
    await client.close()


async def test_replica_is_not_taken_for_the_primary(alone: Sentinel, pair: list[GroupMember]) -> None:
    """A Sentinel may be behind the times, and then it names the one that was the primary before."""
    one, two = pair
    await told(one.port, "REPLICAOF", two.host, two.port)
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{alone.port}/dossiers"
    client = Redis("redis", lambda: url, size=4, deadline=5.0)
    for ask in WHERE.values():
        with pytest.raises(Unavailable) as away:
            await ask(client)
        assert away.value.reason == "the Sentinels named a replica"
    await told(one.port, "REPLICAOF", "NO", "ONE")
    await client.close()


async def test_the_sentinels_ask_for_a_password_of_their_own(alone: Sentinel, pair: list[GroupMember]) -> None:
    await ask_sentinel(alone, "ACL", "SETUSER", "default", ">theirs")
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{alone.port}/dossiers"
    urls = [url, f"{url}?sentinel_password=another\n{url}?sentinel_password=theirs"]
    client = Redis("redis", lambda: urls[0], size=1, deadline=5.0)
    with pytest.raises(Unavailable) as away:
        await client.call("PING")
    assert away.value.reason == "no Sentinel answers: the password is not accepted: Authentication required."
    urls.pop(0)
    assert await port_of(client, "call") == pair[0].port
    await client.close()


async def test_failover_is_not_taken_back_by_those_who_have_not_heard_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that led it answered first; then come two who will hear of it within two seconds."""
    asked = Sentinels(deadline=1.0)
    address = redis_address("redis+sentinel://one,two,three/dossiers")
    old, new = Place("old", 1), Place("new", 1)

    async def told(epochs: Iterator[tuple[int, Place]]) -> Place:
        async def answer(*_: object) -> sentinels.SentinelAnswer:
            return sentinels.SentinelAnswer(*next(epochs))

        monkeypatch.setattr(asked, "_answer", answer)
        return await asked.primary(address)

    assert await told(iter([(1, old)] * 3)) == old
    assert await told(iter([(2, new), (1, old), (1, old)])) == new
    assert await told(iter([(1, old)] * 3)) == new
    monkeypatch.setattr(sentinels, "GOSSIP", 0.0)
    assert await told(iter([(1, old)] * 3)) == old  # they were set up anew

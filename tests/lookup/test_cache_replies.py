"""What is sent to Redis, and what each reply means: tests/lookup/test_cache.py asks a real one."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from redis.exceptions import NoScriptError

from lookup.cache import (
    STREAM_LENGTH,
    Cache,
    Change,
    Entry,
    EntryTooSmallError,
    Filled,
    Heard,
    Read,
    StreamEnd,
    StreamMovedError,
    Value,
)
from lookup.metrics import UNREADABLE
from ops.stores.redis import Redis


class Client:
    """Takes commands as redis-py's client does, and answers with what the test says; a pipeline answers a list."""

    def __init__(self, answers: list[Any]) -> None:
        self.sent: list[Any] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer() -> Any:
            return self._answers.pop(0)

        def command(*arguments: Any, **named: Any) -> Any:
            self.sent.append((name, arguments, named))
            return self if name == "pipeline" else answer_later()

        def answer_later() -> Any:
            queued = any(sent[0] == "pipeline" for sent in self.sent) and name != "execute"
            return None if queued else answer()

        return command


class Answering:
    """Stands for ops.stores.redis.Redis: what it was asked, and its answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Any, ...]] = []
        self.client = Client(self.answers)
        self.waited: list[float] = []

    async def call(self, *command: Any) -> Any:
        self.calls.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, command: Callable[[Any], Awaitable[Any]], waiting: float = 0.0) -> Any:
        self.waited.append(waiting)
        return await command(self.client)


def cache_on(redis: Answering) -> Cache:
    return Cache(cast(Redis, redis))


def unreadable() -> float:
    return float(UNREADABLE._value.get())


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        (None, None),
        (b"3 500 10-0\nbody\nof it", Entry(3, 700, b"body\nof it", leans=True)),
        (b"3 700 10-0\nbody", Entry(3, 700, b"body", leans=True)),
        (b"3 900 10-0\nbody", Entry(3, 900, b"body", leans=True)),
        (b"3 500 9-0\nbody", Entry(3, 500, b"body", leans=False)),
        (b"3 500 -\nbody", Entry(3, 500, b"body", leans=False)),
        (b"0 500 -\n", Entry(0, 500, b"", leans=False)),
    ],
)
async def test_entry_is_as_of_the_heartbeat_if_it_leans_on_the_feed(value: bytes | None, entry: Entry | None) -> None:
    redis = Answering([b"700 10-0", value])
    before = unreadable()
    assert await cache_on(redis).read(3, ["a key"]) == Read([entry], 700, b"10-0")
    assert redis.calls == [("MGET", "feed:v1:3", "a key")]
    assert unreadable() == before


async def test_nothing_leans_on_a_feed_that_is_not_there() -> None:
    read = await cache_on(Answering([None, b"3 500 -\nbody"])).read(1, ["a key"])
    assert read == Read([Entry(3, 500, b"body", leans=False)], 0, b"-")


@pytest.mark.parametrize("value", [b"", b"3 500\nbody", b"3 x 10-0\n", b"x 500 10-0\n", b"3 500 10-0 4\n"])
async def test_unreadable_entry_is_none_and_counted(value: bytes) -> None:
    before = unreadable()
    read = await cache_on(Answering([b"700 10-0", value, b"1 800 -\n"])).read(1, ["a", "b"])
    assert read.entries == [None, Entry(1, 800, b"", leans=False)]
    assert unreadable() == before + 1


@pytest.mark.parametrize("feed", [b"700", b"x 10-0", b"700 10-0 1"])
async def test_unreadable_feed_confirms_nothing_and_is_counted(feed: bytes) -> None:
    before = unreadable()
    assert await cache_on(Answering([feed])).read(1, []) == Read([], 0, b"-")
    assert unreadable() == before + 1


# -- storing ---------------------------------------------------------------------------------------------------------

VALUE = Value("a key", 3, 500, b"body", 86_400)


async def test_fill_sends_each_value_and_says_what_became_of_it() -> None:
    redis = Answering([b"700", b"10-0", 1, 0, b"4 600 10-0\nwinner", b"broken"])
    other = Value("another", 0, 501, b"", 5)
    filled = await cache_on(redis).fill(3, [VALUE, other], 77)
    assert filled == Filled([True, False, Entry(4, 700, b"winner", leans=True), False], 700, b"10-0")
    ((command, digest, *rest),) = redis.calls
    assert (command, len(digest)) == ("EVALSHA", 40)
    values = [3, 500, b"body", 86_400, 0, 501, b"", 5]
    assert rest == [2, "a key", "another", "feed:v1:3", "changes:v1:3", 77, *values]


async def test_script_that_redis_does_not_have_is_sent_in_full() -> None:
    redis = Answering(NoScriptError("NOSCRIPT"), [b"700", b"10-0"])
    await cache_on(redis).fill(1, [], 77)
    (first, _, *arguments), (second, source, *same) = redis.calls
    assert (first, second) == ("EVALSHA", "EVAL")
    assert "redis.call" in source
    assert arguments == same


@pytest.mark.parametrize(("heartbeat", "told"), [(900, 900), (None, "")])
async def test_append_sends_values_and_entries_and_returns_the_last_id(heartbeat: int | None, told: Any) -> None:
    redis = Answering([b"ok", b"12-0"])
    changes = [Change("11-1", "code", 2, "number"), Change("11-2", "code", 3, removed=True), Change("12-0")]
    assert await cache_on(redis).append(3, "10-0", changes, [VALUE], heartbeat) == "12-0"
    ((_, _, *rest),) = redis.calls
    keys = [4, "changes:v1:3", "feed:v1:3", "epoch:v1", "a key"]
    entries = ["11-1", "code", 2, "number", "", "11-2", "code", 3, "", 1, "12-0", "", 0, "", ""]
    assert rest == [*keys, "10-0", 3, told, STREAM_LENGTH, 1, 3, 500, b"body", 86_400, *entries]


async def test_append_that_redis_did_not_take_says_why() -> None:
    with pytest.raises(StreamMovedError) as moved:
        await cache_on(Answering([b"moved", b"13-0"])).append(1, "", [], [], None)
    assert moved.value.last == "13-0"
    with pytest.raises(EntryTooSmallError, match="11-1"):
        await cache_on(Answering([b"too small", b"11-1"])).append(1, "", [], [], None)


async def test_spending_adds_up_by_name() -> None:
    redis = Answering([b"1.5", b"0"])
    assert await cache_on(redis).spend(["a", "b"], [1.0, 0.5, 0.0, 0.25]) == [1.5, 0.0]
    assert redis.calls[0][2:] == (2, "limit:v1:a", "limit:v1:b", 1.0, 0.5, 0.0, 0.25)


# -- the stream ------------------------------------------------------------------------------------------------------

BEAT = (b"12-0", {b"prev": b"11-2", b"at": b"900", b"since": b"10-0"})
BOUND = (b"11-2", {b"prev": b"11-1", b"code": b"code", b"version": b"3", b"number": b"number"})
REMOVED = (b"11-1", {b"prev": b"10-0", b"code": b"code", b"version": b"2", b"removed": b"1"})
HEARD = [
    Heard("12-0", "11-2", at=900, stream_name=b"10-0"),
    Heard("11-2", "11-1", "code", 3, "number"),
    Heard("11-1", "10-0", "code", 2, removed=True),
]


@pytest.mark.parametrize(("after", "asked"), [("10-0", "10-0"), ("", "0-0")])
async def test_follower_reads_entries_in_order_and_waits_for_the_first(after: str, asked: str) -> None:
    redis = Answering([(b"changes:v1:3", [REMOVED, BOUND, BEAT])])
    assert await cache_on(redis).follow(3, after, wait=1.5) == HEARD[::-1]
    assert redis.client.sent == [("xread", ({"changes:v1:3": asked},), {"count": 1000, "block": 1500})]
    assert redis.waited == [1.5]
    assert await cache_on(Answering(None)).follow(3, after, wait=1.5) == []


@pytest.mark.parametrize(("before", "highest"), [("", "+"), ("12-0", "(12-0")])
async def test_entries_before_another_come_last_first(before: str, highest: str) -> None:
    redis = Answering([BEAT, BOUND, REMOVED])
    assert await cache_on(redis).before(3, before, most=7) == HEARD
    assert redis.client.sent == [("xrevrange", ("changes:v1:3",), {"max": highest, "count": 7})]
    assert redis.waited == [0.0]


@pytest.mark.parametrize(("entries", "last"), [([BEAT], "12-0"), ([], "")])
async def test_end_of_the_stream_is_its_last_id(entries: list[Any], last: str) -> None:
    redis = Answering(entries)
    assert await cache_on(redis).stream_end(3) == last
    assert redis.client.sent == [("xrevrange", ("changes:v1:3",), {"count": 1})]


@pytest.mark.parametrize(("entries", "last"), [([BEAT], "12-0"), ([], "")])
async def test_end_and_feed_are_read_at_one_moment(entries: list[Any], last: str) -> None:
    redis = Answering([entries, b"900 10-0"])
    assert await cache_on(redis).join(3) == StreamEnd(last, 900, b"10-0")
    assert redis.client.sent == [
        ("pipeline", (), {"transaction": True}),
        ("xrevrange", ("changes:v1:3",), {"count": 1}),
        ("get", ("feed:v1:3",), {}),
        ("execute", (), {}),
    ]


@pytest.mark.parametrize(("value", "epoch"), [(b"3", 3), (None, None)])
async def test_epoch_is_none_before_the_first_delivery(value: bytes | None, epoch: int | None) -> None:
    redis = Answering(value)
    assert await cache_on(redis).epoch() == epoch
    assert redis.client.sent == [("get", ("epoch:v1",), {})]


async def test_single_keys_and_ping() -> None:
    redis = Answering(1, 77, True)
    cache = cache_on(redis)
    await cache.forget("a key")
    assert await cache.time_to_live("a key") == 77
    await cache.ping()
    assert redis.client.sent == [("delete", ("a key",), {}), ("ttl", ("a key",), {}), ("ping", (), {})]
    assert redis.waited == [0.0, 0.0, 0.0]

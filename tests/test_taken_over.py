"""What an attacker reaches who controls one process, and what not: each attack is tried, on both sides of the wall.

docs/threat-model.md says in words what is shown here.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions

from lookup.cache import EPOCH_KEY, dossier_key, feed_key, number_key, stream_key
from ops.local.valkey import ValkeyServer
from tests.conftest import Database
from tests.house import House, open_house, until

RECORD, NUMBER, STREAM, FEED = dossier_key(1, "code"), number_key(1, "1"), stream_key(1), feed_key(1)


@pytest.fixture
async def own_users(database: Database, redis_urls: dict[str, str]) -> AsyncIterator[House]:
    """Everything running, each process as its own user of Redis."""
    async with open_house(database, redis_urls["lookup"], relay_redis_url=redis_urls["relay"]) as house:
        yield house


def client(url: str) -> Any:
    return redis.asyncio.Redis.from_url(url, protocol=2)


# -- users of Redis ----------------------------------------------------------------------------------------


async def test_each_process_does_its_work_as_its_own_user_and_is_refused_nothing(
    own_users: House, redis_server: ValkeyServer, redis_urls: dict[str, str]
) -> None:
    async with client(redis_server.url) as admin:
        await admin.acl_log_reset()
        receipt = await own_users.receive()
        path = f"/api/v1/dossiers/{receipt['code']}"
        assert (await own_users.lookup(path))[0] == 200
        await own_users.move(receipt["code"], "processing")

        async def sees_it() -> bool:
            return bool((await own_users.lookup(path))[1]["status"] == "processing")

        await until(sees_it)
        assert await admin.exists(dossier_key(1, receipt["code"]))
        assert await admin.acl_log() == []


ALLOWED = [
    ("lookup", ("SET", RECORD, "1")),
    ("lookup", ("SET", NUMBER, "1")),
    ("lookup", ("SET", "limit:v1:name", "1", "PX", "100")),
    ("lookup", ("GET", EPOCH_KEY)),
    ("lookup", ("XREVRANGE", STREAM, "+", "-")),
    ("relay", ("SET", FEED, "1 -")),
    ("relay", ("XADD", STREAM, "1-1", "prev", "")),
    ("operator", ("DEL", STREAM)),
    ("operator", ("CONFIG", "GET", "maxmemory")),
]
REFUSED = [
    *(("lookup", ("SET", key, "1")) for key in (FEED, STREAM, EPOCH_KEY, "other")),
    ("lookup", ("XADD", STREAM, "1-1", "prev", "")),
    ("lookup", ("XADD", RECORD, "1-1", "prev", "")),
    ("lookup", ("XTRIM", STREAM, "MAXLEN", "0")),
    ("lookup", ("DEL", STREAM)),
    ("lookup", ("EVAL", "return redis.call('SET', ARGV[1], '1')", "0", FEED)),
    ("lookup", ("EVAL", "return redis.call('XADD', ARGV[1], '9-9', 'prev', '')", "0", STREAM)),
    ("relay", ("SET", "limit:v1:name", "1")),
    ("relay", ("DEL", STREAM)),
    ("operator", ("SET", "other", "1")),
    *(
        (user, words)
        for user in ("lookup", "relay", "operator")
        for words in (
            ("PUBLISH", "__sentinel__:hello", "x"),
            ("SUBSCRIBE", "__sentinel__:hello"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("ACL", "SETUSER", user, "nopass"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("REPLICAOF", "127.0.0.1", "1"),
            ("SHUTDOWN",),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("MONITOR",),
        )
    ),
]


@pytest.mark.parametrize(("user", "words"), ALLOWED)
async def test_user_of_redis_may(redis_urls: dict[str, str], user: str, words: tuple[str, ...]) -> None:
    async with client(redis_urls[user]) as mine:
        await mine.execute_command(*words)


@pytest.mark.parametrize(("user", "words"), REFUSED)
async def test_user_of_redis_may_not(redis_urls: dict[str, str], user: str, words: tuple[str, ...]) -> None:
    async with client(redis_urls[user]) as mine:
        with pytest.raises(redis.exceptions.ResponseError, match=r"permission|ACL failure"):
            await mine.execute_command(*words)

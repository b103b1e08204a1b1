"""A new epoch after a restore: where partners that follow the log go on, and that their books are right again."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from intake.books import new_epoch
from intake.books.new_epoch import NewEpoch
from intake.settings import RenewSettings
from ops.settings import Secret
from tests.books import append, receive, utc
from tests.conftest import Database
from tests.house import intake_at, intake_settings, new_client, until
from tests.intake.test_lost_tail import FORGET, TAKE_BACK
from tests.intake.test_relay import Stream, relay_on

ROOT = Path(__file__).resolve().parents[2]
KEPT, CHANGED, LOST, LATE = (f"G99.01.01-261130-000{n}" for n in range(1, 5))


def settings(database: Database, redis_url: str | None) -> RenewSettings:
    redis = None if redis_url is None else Secret(redis_url)
    return RenewSettings(owner_url=Secret(database.owner_url), redis_url=redis)


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[Stream]:
    stream = Stream(redis_url)
    yield stream
    await stream.close()


async def delivered(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    """Three dossiers, of which one is moved at last, delivered by the relay."""
    async with relay_on(database, redis_url):
        await until(stream.entries)
        for code in (KEPT, CHANGED):
            await receive(writer, code)
        await append(writer, KEPT, status=4)
        await receive(writer, LOST)
        await append(writer, CHANGED, status=4)

        async def are_there() -> bool:
            return len(await stream.changes()) == 5

        await until(are_there)


async def go_back(owner: Any, writer: Any) -> None:
    """What a restore does: the last two changes are gone, and two others are written before the epoch is renewed."""
    await owner.execute(FORGET, CHANGED, 2)
    await owner.execute(TAKE_BACK, CHANGED)
    await owner.execute(FORGET, LOST, 1)
    await owner.execute("DELETE FROM dossier WHERE code = $1", LOST)
    await receive(writer, LATE)


async def row(owner: Any, number: int) -> tuple[Any, ...]:
    found = await owner.fetchrow("SELECT resume_xid, resume_seq, lost_since FROM epoch WHERE number = $1", number)
    return tuple(found)


async def test_last_common_change_is_the_newest_that_stream_and_log_have(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    await delivered(database, redis_url, stream, writer)
    common = await owner.fetchrow("SELECT xid, seq, recorded_at FROM event WHERE code = $1 AND version = 2", KEPT)
    await go_back(owner, writer)
    begun = await new_epoch.begin(settings(database, redis_url), "restored")
    lost_since = common["recorded_at"] - timedelta(seconds=10)
    assert begun == NewEpoch(2, lost_since)
    assert await row(owner, 2) == (common["xid"], common["seq"], lost_since)
    # Another one, because Redis has an epoch that the database lost: nothing of that one is left.
    assert await new_epoch.begin(settings(database, redis_url), "again") == NewEpoch(3, lost_since)
    assert await row(owner, 3) == await row(owner, 2)


async def test_change_that_was_kept_beside_a_lost_one_is_not_where_to_go_on(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    """Transactions end in another order than they begin: what has the higher id may be kept and the other one lost."""
    await delivered(database, redis_url, stream, writer)
    common = await owner.fetchrow("SELECT xid, seq FROM event WHERE code = $1 AND version = 2", KEPT)
    await owner.execute(FORGET, LOST, 1)
    await new_epoch.begin(settings(database, redis_url), "restored")
    assert (await row(owner, 2))[:2] == tuple(common)


async def test_without_a_loss_the_last_delivered_change_is_common(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    await delivered(database, redis_url, stream, writer)
    await receive(writer, LATE)
    last = await owner.fetchrow("SELECT xid, seq FROM event WHERE code = $1 AND version = 2", CHANGED)
    await new_epoch.begin(settings(database, redis_url), "a lookup was taken over")
    assert (await row(owner, 2))[:2] == tuple(last)


async def test_epoch_begins_without_redis_and_says_that_something_is_not_known(
    database: Database, redis_url: str, writer: Any, owner: Any
) -> None:
    await receive(writer, KEPT)
    nobody = "redis://127.0.0.1:1/0"
    for n, url in enumerate((None, nobody, redis_url), start=2):
        begun = await new_epoch.begin(settings(database, url), "restored")
        assert (begun.number, begun.lost_since) == (n, None)
        assert "begin anew" in str(begun)
        assert "--lost-since" in str(begun)
        assert await row(owner, n) == (None, None, None)
    told = await new_epoch.begin(settings(database, nobody), "restored", utc("2026-12-01T03:00:00"))
    assert await row(owner, 5) == (None, None, utc("2026-12-01T02:59:50"))
    assert "2026-12-01 09:59:50" in str(told)


# -- the follower of docs/changes.md ---------------------------------------------------------------------------------


def follower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, token: str) -> SimpleNamespace:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "changes.md").read_text("utf-8"), re.DOTALL)
    for name, value in (("INTAKE", url), ("TOKEN", token), ("FOLLOWED", str(tmp_path / "followed.json"))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("time.sleep", lambda _: None)
    names: dict[str, Any] = {"__name__": "follower"}
    exec(compile(source, "docs/changes.md", "exec"), names)  # noqa: S102 - what the page shows
    return SimpleNamespace(**names)


async def books(owner: Any) -> dict[str, tuple[str, str]]:
    """Code → status and agency, as the database has them."""
    found = await owner.fetch("SELECT code, s.slug, agency FROM dossier JOIN status AS s ON s.number = dossier.status")
    return {code: (slug, agency) for code, slug, agency in found}


@pytest.mark.filterwarnings("ignore:unclosed")  # thirty lines close no file
async def test_follower_of_the_docs_has_the_books_again_after_a_restore(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    token = await new_client(database, "follower", "G99", ["follow", "read"])
    async with intake_at(intake_settings(database.writer_url)) as url:
        followed = follower(monkeypatch, tmp_path, url, token)

        def known() -> dict[str, tuple[str, str]]:
            return {code: (each["status"], each["agency"]) for code, each in followed.known["dossiers"].items()}

        async def step(times: int = 1) -> None:
            for _ in range(times):
                await asyncio.to_thread(followed.step, 0)

        await step()
        await delivered(database, redis_url, stream, writer)
        await step()
        assert known() == await books(owner)
        place = followed.known["place"]

        await go_back(owner, writer)
        await step(3)  # 503 feed_halted: nothing is passed over, whatever is written meanwhile
        assert followed.known["place"] == place
        assert LOST in known()

        await new_epoch.begin(settings(database, redis_url), "restored")
        await append(writer, CHANGED, status=5)
        await step()  # 410
        assert followed.known["place"] != place
        assert LOST not in known()
        await step(2)
        assert known().keys() == (await books(owner)).keys()
        await owner.execute("UPDATE epoch SET started_at = now() - interval '12 s' WHERE number = 2")
        await step()
        assert known() == await books(owner)
        again = follower(monkeypatch, tmp_path, url, token)
        assert again.known == followed.known  # after a stop it goes on where it was

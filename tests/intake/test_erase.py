"""Erasing: what was written about people is gone, the leaves stay, and nobody else's event is touched."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from intake.books import erase as erasing
from intake.books.erase import NotRemoved, erase
from intake.books.seal import CONTENT_COLUMNS, HASHED_COLUMNS, event_leaf_hash
from tests.conftest import Database
from tests.intake.written import KEYS, Written

EVENTS = f"SELECT {', '.join(HASHED_COLUMNS)}, salt, erased, seal FROM event WHERE code = $1 ORDER BY version"


@pytest.fixture
async def archivist(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.archivist_url)
    yield connection
    await connection.close()


async def leaves(owner: Any, code: str) -> list[bytes]:
    return [
        event_leaf_hash([event[name] for name in HASHED_COLUMNS], event["salt"], event["erased"])
        for event in await owner.fetch(EVENTS, code)
    ]


async def test_removed_dossier_is_erased_and_its_leaves_and_seals_stay(owner: Any, writer: Any, archivist: Any) -> None:
    written = Written(writer)
    code, other = await written.life(number="1/2026/99901"), await written.life()
    await written.remove(code)
    before, untouched = await leaves(owner, code), await owner.fetch(EVENTS, other)
    assert await erase(archivist, code) == 7
    assert await leaves(owner, code) == before
    assert await owner.fetch(EVENTS, other) == untouched
    for leaf, event in zip(before, await owner.fetch(EVENTS, code), strict=True):
        assert [event[name] for name in (*CONTENT_COLUMNS, "salt")] == [None] * 6
        assert KEYS.sealed_by(leaf, event["seal"]) == "t1"
    assert await erase(archivist, code) == 0


async def test_dossier_in_use_is_not_erased(owner: Any, writer: Any, archivist: Any) -> None:
    code = await Written(writer).life()
    before = await owner.fetch(EVENTS, code)
    with pytest.raises(NotRemoved, match=f"^{code} is not removed: its events are still needed. Remove"):
        await erase(archivist, code)
    with pytest.raises(NotRemoved, match=r"^There is no dossier G99-261130-0001\.$"):
        await erase(archivist, "G99-261130-0001")
    assert await owner.fetch(EVENTS, code) == before


async def test_erasure_that_is_refused_on_the_way_erases_nothing(
    owner: Any, writer: Any, archivist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(writer)
    code = await written.life()
    await written.remove(code)
    before = await owner.fetch(EVENTS, code)
    half = erasing.ERASE.replace("erased = $4", "erased = CASE WHEN $2 = 4 THEN '' ELSE $4::bytea END")
    assert half != erasing.ERASE
    monkeypatch.setattr(erasing, "ERASE", half)
    with pytest.raises(asyncpg.CheckViolationError):
        await erase(archivist, code)
    assert await owner.fetch(EVENTS, code) == before

"""A lookup key for who has none, a new owner, and the removal of a dossier: what citizens and the log see."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from intake import operator
from intake.books.erase import EVENTS
from intake.books.seal import HASHED_COLUMNS, SealKeys, event_leaf_hash
from intake.clients import ClientRefused
from intake.refusals import KeysUsedUp, ReasonRequired, UnknownDossier
from lookup import code as codes
from lookup.lookup_key import KeyRing
from ops.errors import Unavailable
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.house import House, new_client, until

KEYS, SEALS = KeyRing.from_text(KEY_SECRETS), SealKeys.from_text(SEAL_KEYS)
NOBODYS = codes.parse("G99.01.01-260101-0001")
REASON = "Hết thời hạn lưu trữ (ví dụ)."


@pytest.fixture
async def archivist(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.archivist_url)
    yield connection
    await connection.close()


async def answer(house: House, code: str, key: str) -> tuple[int, Any]:
    """Status, and error code or version, of a holder's look-up."""
    status, body = await house.lookup(f"/api/v1/dossiers/{code.replace('/', '-')}", **{"Hoso24-Key": key})
    return status, body.get("code") if status >= 400 else body["version"]


async def reads(owner: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.fetch("SELECT reader, client, code, screen FROM personal_read")]


async def test_key_is_the_one_on_the_receipt_and_its_read_is_logged(house: House, writer: Any, owner: Any) -> None:
    received = await house.receive()
    code = codes.parse(received["code"])
    assert await operator.lookup_key(writer, KEYS, code, by="an") == received["lookup_key"]
    assert await reads(owner) == [("an", "operator", code.text, "key")]
    assert await owner.fetchval("SELECT count(*) FROM event") == 1


async def test_new_key_opens_the_dossier_and_the_one_before_does_not(house: House, writer: Any, owner: Any) -> None:
    received = await house.receive()
    code = codes.parse(received["code"])
    assert await answer(house, code.text, received["lookup_key"]) == (200, 1)  # it is in the caches
    new = await operator.new_lookup_key(writer, KEYS, SEALS, code, by="an", reason="Mất giấy (ví dụ).")
    assert new != received["lookup_key"]

    async def changed_over() -> bool:
        return await answer(house, code.text, new) == (200, 2)

    await until(changed_over)
    assert (await answer(house, code.text, received["lookup_key"]))[0] == 404
    event = await owner.fetchrow("SELECT kind, key_serial, source, actor, note FROM event WHERE version = 2")
    assert tuple(event) == ("key_reissued", 1, "operator", "an", "Mất giấy (ví dụ).")
    assert await reads(owner) == [("an", "operator", code.text, "key")]


async def test_no_key_is_given_that_is_not_logged(house: House, writer: Any, owner: Any) -> None:
    code = codes.parse((await house.receive())["code"])
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    with pytest.raises(Unavailable):
        await operator.lookup_key(writer, KEYS, code, by="an")
    with pytest.raises(Unavailable):
        await operator.new_lookup_key(writer, KEYS, SEALS, code, by="an", reason=None)
    assert await owner.fetchval("SELECT max(version) FROM event") == 1


async def test_keys_are_used_up_after_thirty_one_and_the_last_one_stays(house: House, writer: Any, owner: Any) -> None:
    code = codes.parse((await house.receive())["code"])
    for _ in range(31):
        last = await operator.new_lookup_key(writer, KEYS, SEALS, code, by="an", reason=None)
    with pytest.raises(KeysUsedUp):
        await operator.new_lookup_key(writer, KEYS, SEALS, code, by="an", reason=None)
    assert await operator.lookup_key(writer, KEYS, code, by="an") == last


async def test_owner_is_changed_by_a_sealed_event_and_the_row_follows(
    house: House, database: Database, writer: Any, owner: Any
) -> None:
    received = await house.receive()
    code = codes.parse(received["code"])
    await new_client(database, "so-mau", actions=("sync",))

    async def owns(client: str | None) -> int:
        return await operator.change_owner(writer, SEALS, code, client, by="an", reason="Chuyển hệ thống (ví dụ).")

    assert [await owns("so-mau"), await owns("so-mau"), await owns(None), await owns(None)] == [2, 2, 3, 3]
    assert await owns("so-mau") == 4
    events = "SELECT version, owner, source, actor, note FROM event WHERE kind = 'owner_changed' ORDER BY version"
    said = ("operator", "an", "Chuyển hệ thống (ví dụ).")
    told = [tuple(row) for row in await owner.fetch(events)]
    assert told == [(2, "so-mau", *said), (3, None, *said), (4, "so-mau", *said)]
    assert tuple(await owner.fetchrow("SELECT owner, version FROM dossier")) == ("so-mau", 4)
    for row in await owner.fetch("SELECT * FROM event"):
        leaf = event_leaf_hash([row[name] for name in HASHED_COLUMNS], row["salt"])
        assert SEALS.sealed_by(leaf, row["seal"]) == "t1"

    async def delivered() -> bool:
        return await answer(house, code.text, received["lookup_key"]) == (200, 4)

    await until(delivered)


@pytest.mark.parametrize(
    ("agency", "actions", "disabled", "sentence"),
    [
        ("G99", ("sync",), True, "Client so-mau is disabled; `hoso24 client enable so-mau` enables it."),
        ("G99", ("move",), False, "Client so-mau may not sync; `hoso24 client scope so-mau --actions …` permits it."),
        ("G99.02", ("sync",), False, "is held by G99.01.01, which is outside it"),
    ],
)
async def test_owner_that_could_not_synchronise_is_refused(
    house: House,
    database: Database,
    writer: Any,
    owner: Any,
    agency: str,
    actions: tuple[str, ...],
    disabled: bool,
    sentence: str,
) -> None:
    code = codes.parse((await house.receive())["code"])
    await new_client(database, "so-mau", agency, actions)
    if disabled:
        await owner.execute("UPDATE client SET disabled_at = now() WHERE id = 'so-mau'")
    with pytest.raises(ClientRefused) as refused:
        await operator.change_owner(writer, SEALS, code, "so-mau", by="an", reason=None)
    assert sentence in str(refused.value)
    with pytest.raises(ClientRefused, match="There is no client 'nobody'"):
        await operator.change_owner(writer, SEALS, code, "nobody", by="an", reason=None)
    for client in (None, "so-mau"):
        with pytest.raises((UnknownDossier, ClientRefused)):
            await operator.change_owner(writer, SEALS, NOBODYS, client, by="an", reason=None)
    assert await owner.fetchval("SELECT max(version) FROM event") == 1


async def test_removed_dossier_is_answered_as_one_there_is_not_and_its_log_says_nothing(
    house: House, writer: Any, owner: Any, archivist: Any
) -> None:
    received = await house.receive()
    code, key = codes.parse(received["code"]), received["lookup_key"]
    await house.move(code.text, "processing", note="Hỏi ông Mẫu (hư cấu).", department="Phòng Chế độ (hư cấu)")
    await house.hand_in("PUT", f"/api/v1/dossiers/{code.path}/official-number", {"number": "54321/2026/99901"})

    async def seen() -> bool:
        return await answer(house, "54321/2026/99901", key) == await answer(house, code.text, key) == (200, 3)

    await until(seen)
    leaves = await owner.fetch("SELECT version, seal FROM event ORDER BY version")
    assert await operator.remove(writer, archivist, SEALS, code, by="an", reason=REASON) == (True, 4)

    async def gone() -> bool:
        return (await answer(house, code.text, key))[0] == 404

    await until(gone)
    unknown = await answer(house, NOBODYS.text, KEYS.key(NOBODYS, 0))
    assert await answer(house, code.text, key) == unknown
    assert await answer(house, "54321/2026/99901", key) == unknown
    assert (await house.lookup(f"/api/v1/dossiers/{code.path}"))[0] == 404
    assert (await house.hand_in("GET", f"/api/v1/dossiers/{code.path}", None))[0] == 404
    said = await owner.fetch("SELECT note, detail, actor, department, official_number, salt FROM event")
    assert {tuple(row) for row in said} == {(None,) * 6}
    assert [tuple(row) for row in await owner.fetch("SELECT version, seal FROM event ORDER BY version")][:3] == [
        tuple(row) for row in leaves
    ]


async def test_removal_that_was_interrupted_before_the_erasure_goes_on(
    house: House, writer: Any, owner: Any, archivist: Any
) -> None:
    code = codes.parse((await house.receive())["code"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await operator.remove(writer, writer, SEALS, code, by="an", reason=REASON)  # the writer erases nothing
    assert len(await owner.fetch(EVENTS, code.text)) == 2
    assert await operator.remove(writer, archivist, SEALS, code, by="an", reason=REASON) == (False, 2)
    assert await operator.remove(writer, archivist, SEALS, code, by="an", reason=REASON) == (False, 0)
    assert await owner.fetchval("SELECT count(*) FROM event") == 2


async def test_dossier_there_is_not_is_refused(house: House, writer: Any, owner: Any, archivist: Any) -> None:
    with pytest.raises(UnknownDossier):
        await operator.lookup_key(writer, KEYS, NOBODYS, by="an")
    with pytest.raises(UnknownDossier):
        await operator.new_lookup_key(writer, KEYS, SEALS, NOBODYS, by="an", reason=None)
    with pytest.raises(UnknownDossier):
        await operator.remove(writer, archivist, SEALS, NOBODYS, by="an", reason=REASON)
    code = codes.parse((await house.receive())["code"])
    with pytest.raises(ReasonRequired):
        await operator.remove(writer, archivist, SEALS, code, by="an", reason=" ")
    await operator.remove(writer, archivist, SEALS, code, by="an", reason=REASON)
    with pytest.raises(UnknownDossier):
        await operator.lookup_key(writer, KEYS, code, by="an")
    assert await reads(owner) == []

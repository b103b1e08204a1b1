"""Verify finds nothing in an honest log, beside whatever is written meanwhile, and names what is not as it was.

Each manipulation that we know of is in test_manipulations.py.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from intake.books import verify as verifying
from intake.books import walk
from intake.books.checkpoint import Signer
from intake.books.erase import erase
from intake.books.published import CannotRead, books_at
from intake.books.verify import Verified, verify
from intake.books.walk import CannotVerify, Kept
from tests.conftest import Database
from tests.intake.written import KEYS, START, Entered, Written

OLD = START - timedelta(hours=1)
"""So old that the notary should have entered it."""


@pytest.fixture
async def auditor(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.auditor_url)
    yield connection
    await connection.close()


@pytest.fixture
def written(writer: Any) -> Written:
    return Written(writer)


@pytest.fixture
def entered(owner: Any, tmp_path: Path) -> Entered:
    return Entered(tmp_path, owner)


async def verified(
    auditor: Any, entered: Entered | None = None, *kept: bytes, since: bytes | None = None
) -> tuple[list[str], Verified]:
    """The findings, and what was compared."""
    found: list[str] = []
    result = await verify(
        auditor,
        found.append,
        books=books_at(str(entered.directory)) if entered else None,
        key=entered.signer.key if entered else None,
        kept=[Kept(f"kept-{n}", note) for n, note in enumerate(kept, 1)],
        since=None if since is None else Kept("since", since),
    )
    assert result.findings == len(found)
    return found, result


async def many(written: Written, count: int) -> list[str]:
    return [await written.life() for _ in range(count)]


# -- nothing was altered -----------------------------------------------------------------------------------------------


async def test_honest_log_has_no_findings(auditor: Any, written: Written, entered: Entered, database: Database) -> None:
    await many(written, 60)  # more than a tile of events
    code = await written.life(number="1/2026/99901")
    await written.correct_applicant(code, applicant_name='Trần "Thị" Mẫu (hư cấu)')
    await written.follow(code, "corrected", official_number="2/2026/99901", detail="{}")
    first = await entered.enter()
    await written.remove(code)
    archivist = await asyncpg.connect(database.archivist_url)
    assert await erase(archivist, code) == 9
    await archivist.close()
    await written.life()
    await entered.enter()
    await written.receive()
    found, result = await verified(auditor, entered, first)
    assert found == []
    assert result.sentence().startswith(
        "315 events, 63 dossiers, checkpoint of 314 leaves: nothing was altered. "
        "1 event is not in the books yet, the oldest for 0."
    )
    assert result.sentence().endswith(" s. 9 events are erased.")


async def test_empty_log_and_empty_books_have_no_findings(auditor: Any, entered: Entered) -> None:
    found, result = await verified(auditor, entered)
    assert found == []
    assert result.sentence() == "0 events, 0 dossiers, checkpoint of 0 leaves: nothing was altered."


async def test_without_books_it_says_what_is_not_known(auditor: Any, written: Written) -> None:
    await written.life()
    found, result = await verified(auditor)
    assert found == []
    assert result.sentence() == (
        "5 events, 1 dossier: nothing was altered. Without --books only rows were compared with the log; whether the "
        "log was rewritten is not known."
    )
    with pytest.raises(CannotVerify, match="give --books"):
        await verify(auditor, print, kept=[Kept("kept", b"")])


async def test_pages_join_without_a_seam(
    auditor: Any, owner: Any, written: Written, entered: Entered, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = await many(written, 110)  # 550 events: two tiles and a part
    await entered.enter()
    for dossiers, tiles in ((1, 1), (7, 1), (110, 2), (111, 3)):
        monkeypatch.setattr(verifying, "DOSSIERS", dossiers)
        monkeypatch.setattr(walk, "TILES", tiles)
        found, result = await verified(auditor, entered)
        assert (found, result.dossiers, result.events, result.log and result.log.events) == ([], 110, 550, 550)
    await owner.execute("DELETE FROM event WHERE code = $1 AND version > 3", codes[51])  # around leaf 256
    for tiles in (1, 2, 3):
        monkeypatch.setattr(walk, "TILES", tiles)
        found, _ = await verified(auditor, entered)
        assert found[0].startswith("2 entries have no event any more, leaves 258 to 259, recorded after ")
        assert found[1].startswith(f"{codes[51]}: version is 5, the log says 3; status is 10, the log says 5;")
        assert len(found) == 2


# -- checkpoints -------------------------------------------------------------------------------------------------------


async def test_checkpoints_that_were_kept(auditor: Any, written: Written, entered: Entered) -> None:
    kept = [await entered.enter()]
    for _ in range(4):
        await many(written, 20)
        kept.append(await entered.enter())
    assert (await verified(auditor, entered, *kept))[0] == []
    broken = {
        kept[1][:-5]: "kept-1 is no checkpoint of these books: ",
        kept[2].replace(b"\n", b"\r\n"): "kept-1 is no checkpoint of these books: the note has a control character",
        b"": "kept-1 is no checkpoint of these books: the note is cut short",
        Signer("another.example/books", bytes(32)).key.text.encode(): "kept-1 is no checkpoint of these books: ",
    }
    for note, sentence in broken.items():
        found, _ = await verified(auditor, entered, note, kept[3])
        assert len(found) == 1
        assert found[0].startswith(sentence)


async def test_checkpoints_of_other_trees(auditor: Any, written: Written, entered: Entered, tmp_path: Path) -> None:
    await many(written, 60)
    await entered.enter()
    (tmp_path / "other").mkdir()
    other = Entered(tmp_path / "other", entered.connection, Signer("other.example/books", bytes(32)))
    fork = Entered(_made(tmp_path / "fork"), entered.connection)
    found, _ = await verified(auditor, entered, await other.enter())
    assert len(found) == 1
    assert found[0].startswith(
        "kept-1 is no checkpoint of these books: the note is not signed by hoso24.example/books+"
    )
    fork.keys = KEYS.from_text("x:" + "11" * 32)  # its notary refused every event
    found, _ = await verified(auditor, entered, await fork.enter())
    assert found == [
        "The first 300 leaves of the books do not have the root that kept-1 signs: leaves were altered, or it is of "
        "another tree."
    ]
    await many(written, 1)
    ahead = Entered(_made(tmp_path / "ahead"), entered.connection)
    found, _ = await verified(auditor, entered, await ahead.enter())
    assert found == ["kept-1 signs 305 leaves, and the books have only 300: they were set back."]


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.parametrize("place", [(0, 5), (0, 255 * 32), (0, 280 * 32 + 7)])
async def test_one_bit_of_a_leaf(auditor: Any, written: Written, entered: Entered, place: tuple[int, int]) -> None:
    codes = await many(written, 60)
    note = await entered.enter()
    level, at = place
    path = entered.directory / "level" / str(level)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    found, _ = await verified(auditor, entered, note)
    leaf = at // 32
    assert sorted(found) == sorted(
        [
            f"The first 300 leaves of the books do not have the root that {name} signs: leaves were altered, or it is "
            "of another tree."
            for name in (f"the checkpoint in {entered.directory}", "kept-1")
        ]
        + [
            f"event {leaf % 5 + 1} of {codes[leaf // 5]} was altered: the books have another one in its place "
            f"(leaf {leaf})."
        ]
    )


async def test_books_that_are_cut_short_or_not_there_cannot_be_verified(
    auditor: Any, written: Written, entered: Entered, tmp_path: Path
) -> None:
    await many(written, 2)
    await entered.enter()
    path = entered.directory / "level" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CannotRead, match="level/0 is cut short"):
        await verified(auditor, entered)
    (entered.directory / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(CannotVerify, match=r"The checkpoint in .* cannot be used: the note is cut short"):
        await verified(auditor, entered)
    (entered.directory / "checkpoint").unlink()
    with pytest.raises(CannotRead, match=r"cannot be read: checkpoint: No such file or directory\."):
        await verified(auditor, entered)


async def test_index_of_positions_that_is_out_of_order_is_told(
    auditor: Any, written: Written, entered: Entered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "TILES", 1)
    await many(written, 110)
    await entered.enter()
    path = entered.directory / "keys"
    data = path.read_bytes()
    path.write_bytes(data[24:] + data[:24])
    found, _ = await verified(auditor, entered)
    assert any(line.startswith("The file keys is out of order at tile 1") for line in found)


# -- since -------------------------------------------------------------------------------------------------------------


async def test_since_a_checkpoint_only_what_came_later_is_compared(
    auditor: Any, owner: Any, written: Written, entered: Entered
) -> None:
    earlier = await many(written, 60)
    old = await entered.enter()
    later = await many(written, 60)
    newest = await entered.enter()
    found, result = await verified(auditor, entered, old, newest, since=old)
    assert (found, result.log and result.log.start, result.log and result.log.events) == ([], 256, 344)
    assert ", checkpoint of 600 leaves, from leaf 256 on: nothing was altered." in result.sentence()
    await owner.execute("UPDATE event SET note = 'x' WHERE code = ANY ($1) AND version = 2", [earlier[0], later[0]])
    await owner.execute("UPDATE dossier SET due_at = $2 WHERE code = ANY ($1)", [earlier[0], later[1]], START)
    found, _ = await verified(auditor, entered, since=old)
    assert [line.partition(" was")[0].partition(" is")[0] for line in found] == [
        f"{later[1]}: due_at",
        f"event 2 of {later[0]}",
    ]
    with pytest.raises(CannotVerify, match="since is no checkpoint to begin with"):
        await verified(auditor, entered, since=b"")


# -- events that are not in the books ----------------------------------------------------------------------------------


async def test_events_that_the_notary_should_have_taken(auditor: Any, written: Written, entered: Entered) -> None:
    await written.life()
    await entered.enter()
    code = await written.receive(recorded_at=OLD)
    await written.follow(code, status=4)
    found, result = await verified(auditor, entered)
    assert found == [
        f"1 event of more than a minute ago is not in the books, the oldest is event 1 of {code}: does the notary run?"
    ]
    assert result.log
    assert result.log.waiting == 2


async def test_event_behind_an_open_transaction_is_not_due_yet(
    auditor: Any, written: Written, entered: Entered, database: Database
) -> None:
    await entered.enter()
    other = await asyncpg.connect(database.writer_url)
    async with other.transaction():
        await other.fetchval("SELECT pg_current_xact_id()")
        await written.receive(recorded_at=OLD)
        found, result = await verified(auditor, entered)
    await other.close()
    assert (found, result.log and result.log.waiting) == ([], 1)
    assert len((await verified(auditor, entered))[0]) == 1


# -- after a restore ---------------------------------------------------------------------------------------------------


async def test_turn_lists_void_and_late_entries_and_nothing_is_found(
    auditor: Any, owner: Any, written: Written, entered: Entered
) -> None:
    codes = await many(written, 60)
    before = await entered.enter()
    # The database goes back: the last four dossiers are lost, and another one is written before the new epoch.
    await owner.execute("DELETE FROM event WHERE code = ANY ($1)", codes[-4:])
    await owner.execute("DELETE FROM dossier WHERE code = ANY ($1)", codes[-4:])
    lost, _ = await verified(auditor, entered, before)
    assert lost[0].startswith("20 entries have no event any more, leaves 280 to 299, recorded after ")
    late = await written.life()
    await owner.execute("INSERT INTO epoch (number, reason) VALUES (2, 'restored')")
    leaves = [leaf async for leaf in _leaves(owner, late)]
    await entered.turn(2, [(280, 299)], leaves)
    written.epoch = 2
    await written.life()
    await written.follow(codes[0], status=10, outcome="granted")
    newest = await entered.enter()
    found, result = await verified(auditor, entered, before, newest)
    assert found == []
    assert "As the books say of restores, 20 entries are void and 5 came late." in result.sentence()
    assert (await verified(auditor, entered, since=before))[0] == []
    await owner.execute("UPDATE event SET note = 'x' WHERE code = $1 AND version = 2", late)
    found, _ = await verified(auditor, entered, before)
    assert len(found) == 2
    assert found[0].startswith(f"event 2 of {late} is not in the books")
    assert found[1].startswith("1 entry has no event any more, leaf 302")


async def _leaves(owner: Any, code: str) -> AsyncIterator[bytes]:
    from intake.books.seal import HASHED_COLUMNS, event_leaf_hash

    columns = ", ".join(HASHED_COLUMNS)
    for event in await owner.fetch(f"SELECT salt, {columns} FROM event WHERE code = $1 ORDER BY version", code):
        yield event_leaf_hash(tuple(event)[1:], event["salt"])


# -- beside live changes -----------------------------------------------------------------------------------------------


async def test_changes_made_while_it_runs_are_no_findings(
    auditor: Any, written: Written, entered: Entered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "DOSSIERS", 5)
    monkeypatch.setattr(walk, "TILES", 1)
    codes = await many(written, 60)
    await entered.enter()
    done = asyncio.Event()

    async def live() -> None:
        while not done.is_set():
            await written.follow(codes[0], status=10, note="Sửa")
            await written.life()
            await entered.enter()

    changes = asyncio.create_task(live())
    for _ in range(5):
        assert (await verified(auditor, entered))[0] == []
    done.set()
    await changes
    assert written.last[codes[0]].version > 6


# -- what no program of ours writes ------------------------------------------------------------------------------------


async def test_what_only_postgresql_can_read_is_found_and_stops_nothing(
    auditor: Any, owner: Any, written: Written, entered: Entered
) -> None:
    codes = await many(written, 4)
    await entered.enter()
    await owner.execute("UPDATE event SET occurred_at = '20000-01-01Z' WHERE code = $1 AND version = 2", codes[1])
    await owner.execute("UPDATE dossier SET due_at = 'infinity' WHERE code = $1", codes[2])
    await owner.execute('UPDATE dossier SET timeline = \'[{"at": "20000-01-01T00:00:00Z"}]\' WHERE code = $1', codes[3])
    found, _ = await verified(auditor, entered)
    assert found[0].startswith(f"event 2 of {codes[1]} was altered")
    assert found[1].startswith(f"{codes[1]}: its row cannot be made from its events: ")
    assert found[2].startswith(f"{codes[2]}: due_at is nothing, the log says 2026-12-14")
    assert found[3].startswith(f"{codes[3]}: its row cannot be made from its events: ")
    assert len(found) == 4


async def test_many_findings_are_told_before_the_end_and_none_twice(
    auditor: Any, owner: Any, written: Written, entered: Entered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "TILES", 1)
    await many(written, 110)
    await entered.enter()
    await owner.execute("DELETE FROM event WHERE version = 5")
    await owner.execute("UPDATE event SET note = 'x' WHERE version = 2")
    whole = [
        line for line in (await verified(auditor, entered))[0] if "its row" not in line and "version is" not in line
    ]
    monkeypatch.setattr(walk, "MOST_OPEN", 7)
    parts = [
        line for line in (await verified(auditor, entered))[0] if "its row" not in line and "version is" not in line
    ]
    assert len([line for line in whole if line.startswith("1 entry has no event any more, leaf ")]) == 110
    assert len([line for line in whole if line.startswith("event 2 of ") and " was altered: " in line]) == 110
    assert sorted(line.partition(", recorded")[0] for line in parts) == sorted(
        line.partition(", recorded")[0] for line in whole
    )

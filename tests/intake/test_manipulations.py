"""What somebody may do behind the intake's back: prevented, found by verify and with which sentence, or not found.

What is not found stands word for word in README.md and in docs/threat-model.md.
"""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import redis.asyncio

from intake.books.published import books_at
from intake.books.relay import LEADERS_LOCK
from intake.books.seal import HASHED_COLUMNS, SealKeys, event_leaf_hash, jsonb_text
from intake.books.tree_files import Files, SignedTree, Unusable
from intake.books.verify import verify
from intake.books.walk import Kept
from tests.conftest import Database
from tests.intake.test_verify import OLD
from tests.intake.written import KEYS, START, Entered, Written

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = SealKeys.from_text("x1:" + "33" * 32)
"""What somebody makes up who has no seal key."""


@dataclass
class Scene:
    """Three dossiers that are in the books, a connection for each role, and a checkpoint that somebody kept."""

    directory: Path
    roles: dict[str, Any]
    redis_url: str
    written: Written
    entered: Entered
    code: str = ""
    kept: bytes = b""

    @property
    def owner(self) -> Any:
        return self.roles["owner"]

    async def owner_does(self, *statements: str) -> None:
        """Each statement with the dossier's code as $1, if it has one."""
        for statement in statements:
            await self.owner.execute(statement, *([self.code] if "$1" in statement else []))

    async def reseal(self, **changes: Any) -> None:
        """Give every event of the dossier these values, and a seal that fits them."""
        for event in await self.owner.fetch("SELECT * FROM event WHERE code = $1", self.code):
            values = dict(event) | changes
            seal = KEYS.seal(event_leaf_hash([values[name] for name in HASHED_COLUMNS], event["salt"]))
            sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(changes, 4))
            await self.owner.execute(
                f"UPDATE event SET seal = $3, {sets} WHERE code = $1 AND version = $2",
                *(self.code, event["version"], seal, *changes.values()),
            )

    async def findings(self, *kept: bytes) -> list[str]:
        found: list[str] = []
        await verify(
            self.roles["auditor"],
            found.append,
            books=books_at(str(self.entered.directory)),
            key=self.entered.signer.key,
            kept=[Kept(f"kept-{n}", note) for n, note in enumerate(kept, 1)],
        )
        return found


@pytest.fixture
async def scene(database: Database, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    names = ("owner", "writer", "relay", "reader", "notary", "auditor", "archivist", "webhooks")
    roles = {name: await asyncpg.connect(database.url(f"hoso24_{name}")) for name in names}
    written = Written(roles["writer"])
    (tmp_path / "books").mkdir()
    scene = Scene(tmp_path, roles, redis_url, written, Entered(tmp_path / "books", roles["owner"]))
    await written.life()
    scene.code = await written.life(number="1/2026/99901")
    await written.life()
    scene.kept = await scene.entered.enter()
    assert await scene.findings(scene.kept) == []
    yield scene
    for connection in roles.values():
        await connection.close()


# -- the ways it may end -----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """Each pattern is in a finding of verify; CODE is the dossier."""

    patterns: tuple[str, ...]
    kept: bool = False
    """Found only by who kept a checkpoint. Without it: `alone`."""
    alone: str = ""


class NotFound(NamedTuple):
    """Verify finds nothing; the sentence that says so in README and threat model."""

    sentence: str


PREVENTED = "42501"
"""PostgreSQL refuses it to this role."""
VIOLATION = "23000"
"""PostgreSQL refuses it to all roles."""

Does = Callable[[Scene], Awaitable[Any]]


class Row(NamedTuple):
    """One manipulation, by whom, and how it ends."""

    what: str
    who: str
    does: Does
    ends: Found | NotFound | str


def found(*patterns: str) -> Found:
    return Found(patterns)


def by(role: str, statement: str) -> Does:
    """The statement as this role, with the dossier's code as $1 if it has one."""

    async def do(scene: Scene) -> None:
        await scene.roles[role].execute(statement, *([scene.code] if "$1" in statement else []))

    return do


def owner(*statements: str) -> Does:
    return lambda scene: scene.owner_does(*statements)


ALTERED = "^event {} of CODE was altered: the books have another one in its place"
LOST = "^{} no event any more, lea"
DELETE = (
    "DELETE FROM dossier_number WHERE code = $1",
    "DELETE FROM event WHERE code = $1",
    "DELETE FROM dossier WHERE code = $1",
)


async def _swapped(scene: Scene) -> None:
    for old, new in ((4, 99), (2, 4), (99, 2)):
        await scene.owner.execute(
            "UPDATE event SET version = $3 WHERE code = $1 AND version = $2", scene.code, old, new
        )


async def _past_the_intake(scene: Scene) -> None:
    await Written(scene.roles["writer"], keys=FOREIGN).life(code="G99.01.01-261130-7777")


async def _of_an_epoch_that_is_over(scene: Scene) -> None:
    await scene.owner.execute("INSERT INTO epoch (number, reason) VALUES (2, 'a test')")
    await Written(scene.roles["writer"], epoch=1).life(code="G99.01.01-261130-7777")


async def _with_the_seal_key(scene: Scene) -> None:
    await Written(scene.roles["writer"]).life(code="G99.01.01-261130-7777")


async def _move_past_the_intake(scene: Scene) -> None:
    scene.written.keys = FOREIGN
    await scene.written.follow(scene.code, status=4)


async def _without_its_row(scene: Scene) -> None:
    await scene.owner.execute("ALTER TABLE event DISABLE TRIGGER the_row_follows_the_log")
    await Written.follow(scene.written, scene.code, status=4)
    await scene.owner.execute("ALTER TABLE event ENABLE TRIGGER the_row_follows_the_log")


async def _exchanged(scene: Scene) -> None:
    await scene.owner.execute(
        """
        UPDATE event
           SET xid = (SELECT xid FROM event AS other WHERE other.code = $1 AND other.version = 6 - event.version)
         WHERE code = $1 AND version IN (2, 4)
        """,
        scene.code,
    )


async def _forged_erasure(scene: Scene) -> None:
    await scene.roles["archivist"].execute(
        """
        UPDATE event SET note = NULL, detail = NULL, actor = NULL, department = NULL, salt = NULL, erased = sha256('x')
         WHERE code = $1 AND version = 2
        """,
        scene.code,
    )


def flipped(at: int) -> Does:
    async def do(scene: Scene) -> None:
        path = scene.entered.directory / "level" / "0"
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(Unusable, match="do not have the root that was signed"):  # the notary does not start
            SignedTree.open(Files(scene.entered.directory), scene.entered.signer)
        scene.entered.enter = _nothing  # type: ignore[method-assign]

    return do


async def _nothing() -> bytes:
    return b""


async def _set_back(scene: Scene) -> None:
    older = shutil.copytree(scene.entered.directory, scene.directory / "older")
    new = await scene.written.life()
    scene.kept = await scene.entered.enter()
    for statement in DELETE:
        await scene.owner.execute(statement, new)
    scene.entered.directory = older


async def _all_anew(scene: Scene) -> None:
    await scene.reseal(actor="another")
    (scene.directory / "anew").mkdir()
    scene.entered = Entered(scene.directory / "anew", scene.owner)


async def _before_the_leaf(scene: Scene) -> None:
    scene.code = await scene.written.life()
    await scene.owner_does(
        "UPDATE event SET status = 8, note = 'x' WHERE code = $1 AND version = 5",
        "UPDATE dossier SET status = 8, reason = 'x', timeline = jsonb_set(timeline, '{4,status}', '\"suspended\"') "
        "WHERE code = $1",
    )


async def _before_the_leaf_with_the_seal_key(scene: Scene) -> None:
    scene.code = await scene.written.life()
    await scene.reseal(actor="another")


async def _while_the_notary_is_stopped(scene: Scene) -> None:
    await Written(scene.roles["writer"], keys=FOREIGN).receive("G99.01.01-261130-7777", recorded_at=OLD)
    scene.entered.enter = _nothing  # type: ignore[method-assign]


async def _answer_changed(scene: Scene) -> None:
    await scene.owner.execute("INSERT INTO client (id, name, agency, actions) VALUES ('a', 'a', 'G99', '{read}')")
    await scene.owner.execute("INSERT INTO idempotency (client, key, fingerprint, answer) VALUES ('a', 'k', '', '{}')")
    await scene.owner.execute("UPDATE idempotency SET answer = '{\"code\": 1}'")


async def _forged_in_redis(scene: Scene) -> None:
    async with redis.asyncio.Redis.from_url(scene.redis_url, protocol=2) as client:
        await client.set(f"hoso24:{scene.code}", "forged")


_A_TASK = """
INSERT INTO task (code, number, agency, kind, work, state, due_at, opened_at, version)
VALUES ($1, 1, 'G99.01', 'work', 'x', 'open', 'infinity', now(), 1)
"""


def _with_tasks(role: str, statement: str) -> Does:
    """The statement as this role, of an application that another agency is asked about."""

    async def do(scene: Scene) -> None:
        online: dict[str, Any] = {"status": 1, "channel": "online", "received_at": None, "due_at": None, "task": 1}
        scene.code = await scene.written.receive(**online)
        due = START + timedelta(days=4)
        detail = {"kind": "opinion", "work": "Ý kiến", "agency": "G99.01", "after": None, "due_at": due.isoformat()}
        await scene.written.follow(scene.code, "task_opened", task=2, detail=jsonb_text(detail))
        opened = scene.written.last[scene.code].occurred_at
        begun = START + timedelta(hours=1)
        for number, agency, kind, work, due_at, at in (
            (1, "G99.01.01", "decide", "", due, begun),
            (2, "G99.01", "opinion", "Ý kiến", due, opened),
        ):
            await scene.roles["writer"].execute(ADD_TASK, scene.code, number, agency, kind, work, due_at, at)
        assert await scene.findings() == []
        await by(role, statement)(scene)

    return do


ADD_TASK = """
INSERT INTO task (code, number, agency, kind, work, state, due_at, opened_at, version)
VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $2::smallint)
"""

TABLE = [
    Row(
        "a note",
        "owner",
        owner("UPDATE event SET note = 'x' WHERE code = $1 AND version = 2"),
        found(ALTERED.format(2)),
    ),
    Row(
        "the last event is deleted",
        "owner",
        owner("DELETE FROM event WHERE code = $1 AND version = 6"),
        found(LOST.format("1 entry has"), "^CODE: version is 6, the log says 5; status is 10, the log says 9;"),
    ),
    Row("two versions are exchanged", "owner", _swapped, found(ALTERED.format(2), ALTERED.format(4))),
    Row(
        "the last event is deleted, and the row set back",
        "owner",
        owner(
            "DELETE FROM event WHERE code = $1 AND version = 6",
            "UPDATE dossier SET version = 5, status = 9, returned_at = NULL, timeline = timeline - 4 WHERE code = $1",
        ),
        found(LOST.format("1 entry has")),
    ),
    Row("a whole dossier is deleted", "owner", owner(*DELETE), found(LOST.format("6 entries have"))),
    Row(
        "an event in the middle is deleted",
        "owner",
        owner("DELETE FROM event WHERE code = $1 AND version = 3"),
        found(LOST.format("1 entry has"), "^event 3 of CODE is missing from the log"),
    ),
    Row(
        "all events of a dossier are deleted",
        "owner",
        owner("DELETE FROM event WHERE code = $1"),
        found(LOST.format("6 entries have"), "^CODE has no events"),
    ),
    Row(
        "only the row of a dossier is deleted",
        "owner",
        owner(DELETE[0], DELETE[2]),
        found("^CODE has events, and there is no such dossier"),
    ),
    Row(
        "a row without events",
        "writer",
        by(
            "writer",
            """
            INSERT INTO dossier (code, version, status, agency, origin, service, channel, submitted_at, timeline)
            VALUES ('G99.01.01-261130-7777', 1, 2, 'G99.01.01', 'G99.01.01', 'S.004', 'direct', now(), '[]')
            """,
        ),
        found("^G99.01.01-261130-7777 has no events"),
    ),
    Row(
        "a history is rewritten with a stolen seal key",
        "owner",
        lambda scene: scene.reseal(actor="another"),
        found(*(ALTERED.format(version) for version in range(1, 7))),
    ),
    *(
        Row(
            f"{column} in the row",
            "writer",
            by("writer", f"UPDATE dossier SET {column} = {value} WHERE code = $1"),
            PREVENTED,
        )
        for column, value in {
            "due_at": "now()",
            "status": "4",
            "action_needed": "'x'",
            "official_number": "'x'",
            "key_serial": "1",
            "timeline": "'[]'",
            "version": "9",
        }.items()
    ),
    *(
        Row(
            f"{column} in the row",
            "owner",
            owner(f"UPDATE dossier SET {column} = {value} WHERE code = $1"),
            found(f"^CODE: .*{sentence}"),
        )
        for column, value, sentence in [
            ("due_at", "'2026-12-30Z'", "due_at is 2026-12-30 00:00:00.00:00, the log says 2026-12-14"),
            ("status", "4", "status is 4, the log says 10"),
            ("action_needed", "'x'", "action_needed is x, the log says no"),
            ("agency", "'G99.02'", "agency is G99.02, the log says G99.01.01"),
            ("origin", "'G99.02'", "origin is G99.02"),
            ("owner", "'x'", "owner is x, the log says nothing"),
            ("reason", "'x'", "reason is x, the log says nothing"),
            ("outcome", "'refused'", "outcome is refused, the log says granted"),
            ("pauses", "'[{}]'", "pauses is"),
            ("key_serial", "1", "key_serial is 1, the log says 0"),
            ("service", "'S.005'", "service is S.005, the log says"),
            ("channel", "'postal'", "channel is postal, the log says direct"),
            ("supplements", "7", "supplements is 7"),
            ("submitted_at", "'2026-11-01Z'", "submitted_at is 2026-11-01"),
            ("submitted_by", "'x'", "submitted_by is x"),
            (
                "timeline",
                "jsonb_set(timeline, '{1,agency}', '\"G99.02\"')",
                "step 2 of timeline: agency is G99.02, the log",
            ),
            ("timeline", "timeline - 1", "timeline has 4 steps, the log says 5"),
            ("official_number", "'7/2026/99901'", "official_number is 7/2026/99901, the log says 1/2026/99901"),
        ]
    ),
    Row(
        "a number without an event",
        "writer",
        by("writer", "INSERT INTO dossier_number (number, code, version) VALUES ('9/2026/99901', $1, 1)"),
        PREVENTED,
    ),
    Row(
        "a number without an event",
        "owner",
        owner("UPDATE dossier_number SET number = '9/2026/99901' WHERE code = $1"),
        found("^CODE: the number bound to it is 9/2026/99901, the log says 1/2026/99901"),
    ),
    Row("a kept answer is changed", "writer", by("writer", "UPDATE idempotency SET answer = '{}'"), PREVENTED),
    Row(
        "a kept answer is changed",
        "owner",
        _answer_changed,
        NotFound("an answer kept for a repeated request, changed by the owner of the database"),
    ),
    Row(
        "a dossier past the intake",
        "writer",
        _past_the_intake,
        found("^event 1 of G99.01.01-261130-7777 was refused by the notary: no key of the intake sealed it"),
    ),
    Row(
        "a dossier with a stolen seal key",
        "writer",
        _with_the_seal_key,
        NotFound("a dossier or a move made with a stolen seal key, which is how a stolen intake writes"),
    ),
    Row("an event of an epoch that is over, with a stolen seal key", "writer", _of_an_epoch_that_is_over, VIOLATION),
    Row("a move past the intake", "writer", _move_past_the_intake, found("^event 7 of CODE was refused by the notary")),
    Row(
        "a client of its own",
        "writer",
        by("writer", "INSERT INTO client (id, name, agency, actions) VALUES ('x', 'x', 'G99', '{receive}')"),
        PREVENTED,
    ),
    Row(
        "a token of its own",
        "writer",
        by("writer", "INSERT INTO client_token (client, n, token_hash) VALUES ('x', 1, sha256('x'))"),
        PREVENTED,
    ),
    *(
        Row(
            "the applicant's name in the row",
            who,
            by(who, "UPDATE dossier SET applicant_name = 'x' WHERE code = $1"),
            found("^CODE: the applicant is not the one that the log knows"),
        )
        for who in ("writer", "owner")
    ),
    Row(
        "the order of two events", "owner", _exchanged, found("^event [24] of CODE stands in another place of the log")
    ),
    Row(
        "an event without its row",
        "writer with the owner's help",
        _without_its_row,
        found("^CODE: version is 6, the log says 7"),
    ),
    *(
        Row(statement, "notary", by("notary", statement), PREVENTED)
        for statement in (
            "SET TRANSACTION READ WRITE; UPDATE event SET note = 'x'",
            "SET TRANSACTION READ WRITE; DELETE FROM event",
            "SET TRANSACTION READ WRITE; INSERT INTO epoch (number, reason) VALUES (9, 'x')",
            "SELECT code FROM dossier",
            "SELECT client FROM idempotency",
            "SELECT id FROM client",
            "SELECT code FROM personal_read",
        )
    ),
    Row(
        "a note is altered instead of erased",
        "archivist",
        by("archivist", "UPDATE event SET note = 'x' WHERE code = $1 AND version = 2"),
        found(ALTERED.format(2)),
    ),
    Row("an erasure with a false digest", "archivist", _forged_erasure, found(ALTERED.format(2))),
    Row(
        "a bit of a leaf",
        "the notary's host",
        flipped(5 * 32 + 3),
        found("^The first 16 leaves of the books do not have the root", ALTERED.format(1)),
    ),
    Row(
        "a bit of the last leaf",
        "the notary's host",
        flipped(16 * 32 - 1),
        found("^The first 16 leaves of the books do not have the root", "^event 5 of .* was altered"),
    ),
    Row(
        "log and books set back to an older checkpoint",
        "owner and the notary's host",
        _set_back,
        Found(
            ("^kept-1 signs 21 leaves, and the books have only 16: they were set back",),
            kept=True,
            alone="log and books set back together to an older checkpoint, where nobody kept a newer one",
        ),
    ),
    Row(
        "log and books made anew with both keys",
        "owner, intake's and notary's host",
        _all_anew,
        Found(
            ("^The first 16 leaves of the books do not have the root that kept-1 signs",),
            kept=True,
            alone="log and books made anew with both stolen keys, where nobody kept a checkpoint",
        ),
    ),
    Row("a time limit is halved", "writer", by("writer", "UPDATE service_time SET working_hours = 1"), PREVENTED),
    Row(
        "a time limit is halved",
        "owner",
        owner("UPDATE service_time SET working_hours = 1 WHERE working_hours IS NOT NULL"),
        NotFound(
            "a time limit changed in the catalogue by the owner, which makes the due date promised by it the right one"
        ),
    ),
    *(
        Row(
            "a task of a dossier without one", who, by(who, _A_TASK), found("^CODE: task 1 is there, and the log knows")
        )
        for who in ("writer", "owner")
    ),
    *(
        Row(f"a task is {what}", who, _with_tasks(who, statement), found(f"^CODE: {sentence}"))
        for who in ("writer", "owner")
        for what, statement, sentence in [
            (
                "given to another agency",
                "UPDATE task SET agency = 'G99.02' WHERE code = $1 AND number = 2",
                "agency of task 2 is G99.02, the log says G99.01",
            ),
            (
                "ended",
                "UPDATE task SET state = 'done', ended_at = now() WHERE code = $1 AND number = 2",
                "state of task 2 is done, the log says open; ended_at of task 2 is .*, the log says nothing",
            ),
            (
                "due later than it was given",
                "UPDATE task SET due_at = 'infinity' WHERE code = $1 AND number = 2",
                "due_at of task 2 is nothing, the log says 2026-12-04",
            ),
        ]
    ),
    Row("a task is deleted", "writer", by("writer", "DELETE FROM task WHERE code = $1"), PREVENTED),
    Row(
        "a task is deleted",
        "owner",
        _with_tasks("owner", "DELETE FROM task WHERE code = $1 AND number = 2"),
        found("^CODE: task 2, opinion of G99.01, is missing"),
    ),
    *(
        Row(
            "the due date of a decision",
            who,
            _with_tasks(who, "UPDATE task SET due_at = 'infinity' WHERE code = $1 AND number = 1"),
            NotFound(
                "the due date of a task that a calendar counted, changed with the password of the writer or the owner"
            ),
        )
        for who in ("writer", "owner")
    ),
    Row(
        "an event altered before it is in the books",
        "owner",
        _before_the_leaf,
        found("^event 5 of CODE was refused by the notary"),
    ),
    Row(
        "an event altered before its entry, with the seal key",
        "owner",
        _before_the_leaf_with_the_seal_key,
        NotFound("an event altered with a stolen seal key within the second before it is in the books"),
    ),
    Row(
        "a value in Redis, or an answer of a lookup",
        "a lookup taken over",
        _forged_in_redis,
        NotFound("a value in Redis, or an answer of a lookup that was taken over, since the books end at the row"),
    ),
    Row(
        "a dossier while the notary is stopped",
        "writer",
        _while_the_notary_is_stopped,
        found("^1 event of more than a minute ago is not in the books, the oldest is event 1 of G99.01.01-261130-7777"),
    ),
    Row(
        "the leader's lock of the relay",
        "reader",
        by("reader", f"SELECT pg_try_advisory_lock({LEADERS_LOCK})"),
        PREVENTED,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.who}: {row.what}")
async def test_manipulation_is_prevented_or_found_or_known_not_to_be(scene: Scene, row: Row) -> None:
    others = [code for code in scene.written.last if code != scene.code]
    if isinstance(row.ends, str):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await row.does(scene)
        assert refused.value.sqlstate == row.ends
        assert await scene.findings(scene.kept) == []
        return
    await row.does(scene)
    await scene.entered.enter()
    told = await scene.findings()
    if isinstance(row.ends, Found) and row.ends.kept:
        assert told == []
        told = await scene.findings(scene.kept)
    patterns = row.ends.patterns if isinstance(row.ends, Found) else ()
    for pattern in patterns:
        assert any(re.search(pattern.replace("CODE", scene.code), line) for line in told), (pattern, told)
    assert bool(told) is bool(patterns), told
    if row.who != "the notary's host":
        assert not [line for line in told for code in others if code in line]


NOT_FOUND = {
    row.ends.sentence if isinstance(row.ends, NotFound) else row.ends.alone
    for row in TABLE
    if isinstance(row.ends, NotFound) or (isinstance(row.ends, Found) and row.ends.kept)
}


@pytest.mark.parametrize("document", ["README.md", "docs/threat-model.md"])
def test_what_is_not_found_stands_word_for_word_where_people_read_it(document: str) -> None:
    words = " ".join((ROOT / document).read_text("utf-8").split())
    assert len(NOT_FOUND) == 8
    assert [sentence for sentence in NOT_FOUND if sentence not in words] == []

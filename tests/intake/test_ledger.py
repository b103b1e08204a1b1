"""One transaction per change: what is recorded, what is refused without a trace, and what a repeat gets."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from intake.books import ledger as ledgers
from intake.books.ledger import TRY_LOCK, KeyedRequest, Ledger
from intake.books.seal import HASHED_COLUMNS, SealKeys, event_leaf_hash
from intake.clients import ACTIONS, Client, OutOfScope
from intake.refusals import (
    BadDate,
    CannotNumber,
    DatesOutOfOrder,
    KeyReused,
    MoveNotAllowed,
    NumberTaken,
    OutcomeUnknown,
    ReasonRequired,
    StillRunning,
    TargetNotAllowed,
    UnknownAgency,
    UnknownDossier,
    UnknownService,
    VersionMismatch,
)
from intake.rules.requests import (
    CorrectionRequest,
    InvalidContent,
    KeyRequest,
    OfficialNumber,
    Submission,
    Transition,
    fingerprint,
)
from intake.rules.workdays import CALENDAR, due_after
from lookup import code
from lookup.catalogue import Catalogue, load
from lookup.clock import VIETNAM
from lookup.code import Scheme
from lookup.schema import NEW_EPOCH
from lookup.status import MOVES, Status
from ops.errors import Refusal, Unavailable
from ops.stores.postgres import Postgres
from tests.books import receive
from tests.conftest import SEAL_KEYS, Database
from tests.house import REASONS, new_client, submission, until

AGENCIES, SERVICES = load.sample()
SAMPLE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
MONDAY = datetime(2026, 3, 16, 9, 0, tzinfo=VIETNAM)
SEALS = SealKeys.from_text(SEAL_KEYS)
TABLES = ("dossier", "event", "daily_sequence", "idempotency", "dossier_number")


@contextlib.contextmanager
def on_that_day(at: datetime | str | None) -> Iterator[None]:
    """Who says that something was long ago says it at that time, a minute later; the ledger asks PostgreSQL."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    with pytest.MonkeyPatch.context() as patch:
        if moment is not None and moment < datetime.now(UTC) - timedelta(days=1):
            now = f"timestamptz '{moment + timedelta(minutes=1)}'"
            patch.setattr("intake.books.ledger.TRY_LOCK", TRY_LOCK.replace("now()", now))
        yield


@dataclass
class Office:
    """A ledger, and a client that may do everything everywhere; each call under a key of its own unless it is told."""

    ledger: Ledger
    client: Client
    catalogue: Catalogue = SAMPLE

    async def receive(self, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        sent = submission(**fields)
        asked = self.asked(key, "/dossiers", sent)
        with on_that_day(fields.get("submitted_at")):
            return await self.ledger.receive(asked, msgspec.convert(sent, Submission), self.catalogue)

    async def move(self, dossier: str, to: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        sent = {"to": to} | REASONS.get(to, {}) | fields
        asked = self.asked(key, f"{dossier}/transitions", sent)
        with on_that_day(fields.get("at")):
            return await self.ledger.move(asked, code.parse(dossier), msgspec.convert(sent, Transition), self.catalogue)

    async def bind(self, dossier: str, number: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        bound = OfficialNumber(number, **fields)
        asked = self.asked(key, f"{dossier}/official-number", bound)
        return await self.ledger.bind_number(asked, code.parse(dossier), bound, SAMPLE)

    async def correct(self, dossier: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        sent = {"reason": "Ghi nhầm khi tiếp nhận (ví dụ)."} | fields
        asked = self.asked(key, f"{dossier}/corrections", sent)
        return await self.ledger.correct(asked, code.parse(dossier), msgspec.convert(sent, CorrectionRequest), SAMPLE)

    async def key(self, dossier: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        asked = self.asked(key, f"{dossier}/key", fields)
        return await self.ledger.key(asked, code.parse(dossier), msgspec.convert(fields, KeyRequest), SAMPLE)

    def asked(self, key: str | None, path: str, sent: object) -> KeyedRequest:
        return KeyedRequest(self.client, key or str(uuid.uuid4()), fingerprint(path, msgspec.json.encode(sent)))


@contextlib.asynccontextmanager
async def office_of(database: Database, scheme: Scheme = Scheme.B) -> AsyncIterator[Office]:
    """An office on that database."""
    postgres = Postgres("postgres", lambda: database.writer_url, size=16, deadline=20)
    await new_client(database, "desk", "G99")
    ledger = Ledger(postgres, scheme=scheme, seals=SEALS, deadline=60, longest=60, backdating=400)
    yield Office(ledger, Client("desk", "Quầy mẫu", "G99", frozenset(ACTIONS)))
    await ledger.close()
    await postgres.close()


@contextlib.asynccontextmanager
async def in_haste(office: Office) -> AsyncIterator[Office]:
    """The same office, which holds an outcome for unknown after a fifth of a second."""
    ledger = Ledger(office.ledger._postgres, scheme=Scheme.B, seals=SEALS, deadline=0.2)
    yield Office(ledger, office.client)
    await ledger.close()


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    async with office_of(database) as office:
        yield office


async def row(owner: Any, dossier: str) -> Any:
    """The dossier's row."""
    return await owner.fetchrow("SELECT * FROM dossier WHERE code = $1", dossier)


async def written(owner: Any) -> list[Any]:
    """Everything a change may write, to be compared before and after."""
    return [[tuple(r) for r in await owner.fetch(f"SELECT t FROM {table} t ORDER BY t::text")] for table in TABLES]


@contextlib.asynccontextmanager
async def held(database: Database, dossier: str) -> AsyncIterator[None]:
    """Another connection has this dossier's row locked, so that a change of it waits."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM dossier WHERE code = $1 FOR UPDATE", dossier)
            yield
    finally:
        await connection.close()


async def waits(owner: Any) -> bool:
    """Whether a connection waits for a lock."""
    return bool(await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


# -- reception ---------------------------------------------------------------------------------------------


async def test_reception_writes_the_dossier_and_its_first_event_together(office: Office, owner: Any) -> None:
    answer = await office.receive(key="k-1", submitted_at=MONDAY, department="Một cửa", officer="Cán bộ Mẫu")
    stored = await row(owner, answer["code"])
    assert (stored["version"], stored["status"], stored["agency"]) == (1, 2, "G99.01.01")
    assert stored["submitted_at"] == stored["received_at"] == MONDAY
    assert (stored["due_at"], stored["calendar"]) == (due_after(MONDAY, 80), CALENDAR)
    assert msgspec.json.decode(stored["timeline"]) == [
        {"at": "2026-03-16T09:00:00+07:00", "status": "received", "agency": "G99.01.01", "department": "Một cửa"}
    ]
    (event,) = await owner.fetch("SELECT * FROM event WHERE code = $1", answer["code"])
    assert (event["kind"], event["version"], event["status"], event["bulk"]) == ("received", 1, 2, False)
    assert (event["actor"], event["source"], event["source_event_id"]) == ("desk/Cán bộ Mẫu", "desk", "k-1")
    assert event["occurred_at"] == MONDAY


async def test_epoch_that_begins_meanwhile_refuses_a_change_which_may_be_repeated(
    office: Office, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = await office.receive(key="before", submitted_at=MONDAY)
    append, before = ledgers._Scribe.append, await written(owner)

    async def overtaken(*scribe: Any) -> None:
        await owner.fetchval(NEW_EPOCH, "a test")
        await append(*scribe)

    with monkeypatch.context() as patch:
        patch.setattr(ledgers._Scribe, "append", overtaken)
        with pytest.raises(Unavailable, match="an epoch began during the transaction"):
            await office.receive(key="k-1", submitted_at=MONDAY)
    assert await written(owner) == before
    again = await office.receive(key="k-1", submitted_at=MONDAY)
    assert again == await office.receive(key="k-1", submitted_at=MONDAY)
    assert again["code"] != received["code"]
    assert await owner.fetchval("SELECT epoch FROM event WHERE code = $1", again["code"]) == 2


async def test_due_date_is_printed_as_it_is_stored(office: Office, owner: Any) -> None:
    answer = await office.receive(submitted_at=MONDAY)
    assert answer["due_at"] == "2026-03-30T09:00:00+07:00"
    assert (await row(owner, answer["code"]))["due_at"] == datetime(2026, 3, 30, 2, 0, tzinfo=UTC)


async def test_online_dossier_is_submitted_and_due_only_once_received(office: Office, owner: Any) -> None:
    answer = await office.receive(channel="online", submitted_at=MONDAY)
    assert (answer["status"], answer["received_at"], answer["due_at"]) == ("submitted", None, None)
    assert (await row(owner, answer["code"]))["due_at"] is None
    moved = await office.move(answer["code"], "received", at=MONDAY + timedelta(days=1))
    assert moved["due_at"] == "2026-03-31T09:00:00+07:00"
    assert (await row(owner, answer["code"]))["received_at"] == MONDAY + timedelta(days=1)


async def test_supplement_before_acceptance_promises_nothing_either(office: Office, owner: Any) -> None:
    answer = await office.receive(channel="online", submitted_at=MONDAY)
    asked = await office.move(answer["code"], "supplement_required", at=MONDAY + timedelta(hours=1), note="Bản sao")
    assert asked["due_at"] is None
    assert (await row(owner, answer["code"]))["due_at"] is None
    assert (await office.move(answer["code"], "received", at=MONDAY + timedelta(days=1)))["due_at"]


@pytest.mark.usefixtures("one_day")
async def test_codes_of_one_agency_and_day_have_no_gap_and_no_twin(office: Office, owner: Any) -> None:
    answers = await asyncio.gather(*(office.receive() for _ in range(200)))
    codes = sorted(answer["code"] for answer in answers)
    day = codes[0].split("-")[1]
    assert codes == [f"G99.01.01-{day}-{sequence:04d}" for sequence in range(1, 201)]
    assert await owner.fetchval("SELECT count(*) FROM event") == 200


@pytest.mark.usefixtures("one_day")
async def test_agencies_count_apart(office: Office) -> None:
    codes = [(await office.receive(agency=agency))["code"] for agency in ("G99.01.01", "G99.01.02", "G99.01.01")]
    assert [dossier.rpartition("-")[2] for dossier in codes] == ["0001", "0001", "0002"]


@pytest.mark.usefixtures("one_day")
async def test_sequence_goes_on_above_four_digits(office: Office, owner: Any) -> None:
    await office.receive()
    await owner.execute("UPDATE daily_sequence SET last = 9999")
    assert (await office.receive())["code"].endswith("-10000")


@pytest.mark.usefixtures("one_day")
async def test_code_an_import_brought_along_is_passed_over(office: Office, owner: Any) -> None:
    first = (await office.receive())["code"]
    stem = first.removesuffix("1")
    for brought in (f"{stem}2", f"{stem}3"):
        await receive(owner, brought, bulk=True)
    assert [(await office.receive())["code"] for _ in range(2)] == [f"{stem}4", f"{stem}5"]


@pytest.mark.usefixtures("one_day")
async def test_scheme_d_counts_by_year_and_passes_over_numbers_already_bound(database: Database) -> None:
    async with office_of(database, Scheme.D) as office:
        first = (await office.receive(agency="99901"))["code"]
        year = first.split("/")[1]
        assert first == f"00001/{year}/99901"
        await office.bind(first, f"00002/{year}/99901")
        assert (await office.receive(agency="99901"))["code"] == f"00003/{year}/99901"


@pytest.mark.parametrize(
    ("scheme", "agency", "now", "numbered"),
    [
        (Scheme.B, "G99.01.01", "2026-12-30 16:59:59Z", "G99.01.01-261230-0001"),
        (Scheme.B, "G99.01.01", "2026-12-30 17:00:00Z", "G99.01.01-261231-0001"),
        (Scheme.D, "99901", "2026-12-31 16:59:59Z", "00001/2026/99901"),
        (Scheme.D, "99901", "2026-12-31 17:00:00Z", "00001/2027/99901"),
    ],
)
async def test_code_has_the_day_and_year_it_is_in_vietnam(
    database: Database, monkeypatch: pytest.MonkeyPatch, scheme: Scheme, agency: str, now: str, numbered: str
) -> None:
    monkeypatch.setattr("intake.books.ledger.TRY_LOCK", TRY_LOCK.replace("now()", f"timestamptz '{now}'"))
    async with office_of(database, scheme) as office:
        assert (await office.receive(agency=agency))["code"] == numbered


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"agency": "G99.77"}, UnknownAgency),
        ({"agency": "' OR 1=1 --"}, UnknownAgency),
        ({"agency": "H99.15.05"}, OutOfScope),
        ({"agency": "99901"}, CannotNumber),
        ({"service": "S.999"}, UnknownService),
        ({"submitted_at": datetime(1989, 12, 31, 23, 59, tzinfo=UTC)}, BadDate),
        ({"submitted_at": datetime(9999, 1, 1, tzinfo=UTC)}, BadDate),
    ],
)
async def test_refused_reception_leaves_no_trace(
    office: Office, owner: Any, fields: dict[str, Any], refusal: type[Refusal]
) -> None:
    before = await written(owner)
    with pytest.raises(refusal):
        await office.receive(**fields)
    assert await written(owner) == before


# -- moves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", Status)
async def test_every_move_of_the_table_is_made_and_every_other_refused(
    office: Office, owner: Any, before: Status
) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    # Who was accepted is not refused at the door any more: a policy, and not the table of moves.
    ends = (
        "finished_at = now(), returned_at = now(), received_at = CASE WHEN $2::int IN (1, 5) THEN NULL ELSE now() END"
    )
    for after in Status:
        await owner.execute(f"UPDATE dossier SET status = $2::int, {ends} WHERE code = $1", dossier, before.value)
        version = (await row(owner, dossier))["version"]
        if after in MOVES[before]:
            answer = await office.move(dossier, after.slug)
            assert (answer["status"], answer["version"]) == (after.slug, version + 1)
        else:
            with pytest.raises(MoveNotAllowed) as refused:
                await office.move(dossier, after.slug)
            assert refused.value.members["allowed"] == [s.slug for s in Status if s in MOVES[before]]
            assert (await row(owner, dossier))["version"] == version


async def test_move_appends_to_timeline_and_log(office: Office, owner: Any) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    at = MONDAY + timedelta(days=1)
    await office.move(dossier, "processing", at=at, agency="G99.01", department="Phòng Chế độ", note="n", officer="o")
    stored = await row(owner, dossier)
    assert (stored["agency"], stored["version"]) == ("G99.01", 2)
    assert msgspec.json.decode(stored["timeline"])[1] == {
        "at": "2026-03-17T09:00:00+07:00",
        "status": "processing",
        "agency": "G99.01",
        "department": "Phòng Chế độ",
    }
    event = await owner.fetchrow("SELECT * FROM event WHERE code = $1 AND version = 2", dossier)
    assert (event["kind"], event["status"], event["agency"], event["note"]) == ("moved", 4, "G99.01", "n")
    assert (event["actor"], event["occurred_at"]) == ("desk/o", at)
    assert event["came_from"] == "G99.01.01"
    sealed = event_leaf_hash([event[name] for name in HASHED_COLUMNS], event["salt"])
    assert SEALS.sealed_by(sealed, event["seal"]) == "t1"


async def test_what_the_holder_must_do_is_shown_while_it_must_be_done(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    await office.move(dossier, "supplement_required", note="Còn thiếu:", items=["Bản sao", "Ảnh"])
    assert (await row(owner, dossier))["action_needed"] == "Còn thiếu:\n– Bản sao\n– Ảnh"
    await office.move(dossier, "processing", note="Đã đủ")
    assert (await row(owner, dossier))["action_needed"] is None


async def test_clock_starts_anew_after_a_supplement(office: Office) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    asked = await office.move(dossier, "supplement_required", at="2026-03-18T10:00:00+07:00")
    assert asked["due_at"] == "2026-03-30T09:00:00+07:00"
    brought = await office.move(dossier, "processing", at="2026-03-20T14:00:00+07:00")
    assert brought["due_at"] == "2026-04-03T14:00:00+07:00"


@pytest.mark.parametrize("paused", ["suspended", "payment_required"])
async def test_due_date_moves_by_a_pause_that_is_no_supplement(office: Office, owner: Any, paused: str) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    await office.move(dossier, paused, at="2026-03-18T10:00:00+07:00")
    resumed = await office.move(dossier, "processing", at="2026-03-20T14:00:00+07:00")
    assert resumed["due_at"] == "2026-04-01T11:00:00+07:00"
    (pause,) = json.loads((await row(owner, dossier))["pauses"])
    assert (pause["since"], pause["until"]) == ("2026-03-18T10:00:00+07:00", "2026-03-20T14:00:00+07:00")


async def test_pauses_in_a_row_cost_what_both_took(office: Office) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    await office.move(dossier, "payment_required", at="2026-03-18T10:00:00+07:00")
    await office.move(dossier, "suspended", at="2026-03-19T10:00:00+07:00")
    resumed = await office.move(dossier, "processing", at="2026-03-20T10:00:00+07:00")
    assert resumed["due_at"] == "2026-04-01T09:00:00+07:00"


@pytest.mark.parametrize(
    ("policy", "due"),
    [
        ("restart", "2026-04-03T14:00:00+07:00"),
        ("shift", "2026-04-01T11:00:00+07:00"),
        ("none", "2026-03-30T09:00:00+07:00"),
    ],
)
async def test_clock_after_a_pause_follows_the_services_policy(database: Database, policy: str, due: str) -> None:
    service = msgspec.structs.replace(
        SAMPLE.services["S.004"], clock_after_supplement=policy, clock_after_suspension="none"
    )
    changed = Catalogue(SAMPLE.agencies, {"S.004": service})
    async with office_of(database) as office:
        office.catalogue = changed
        dossier = (await office.receive(submitted_at=MONDAY))["code"]
        await office.move(dossier, "supplement_required", at="2026-03-18T10:00:00+07:00")
        answer = await office.move(dossier, "processing", at="2026-03-20T14:00:00+07:00")
    assert answer["due_at"] == due


async def test_the_three_ends_stay_apart(office: Office, owner: Any) -> None:
    dossier = (await office.receive(submitted_at=MONDAY))["code"]
    await office.move(dossier, "completed", at="2026-03-26T10:00:00+07:00")
    stored = await row(owner, dossier)
    assert (stored["finished_at"], stored["returned_at"]) == (datetime(2026, 3, 26, 3, 0, tzinfo=UTC), None)
    answer = await office.move(dossier, "returned", at="2026-04-02T10:00:00+07:00")
    stored = await row(owner, dossier)
    assert stored["finished_at"] == datetime(2026, 3, 26, 3, 0, tzinfo=UTC)
    assert stored["returned_at"] == datetime(2026, 4, 2, 3, 0, tzinfo=UTC)
    assert answer["due_at"] == "2026-03-30T09:00:00+07:00"


async def test_correction_takes_the_finish_back(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    await office.move(dossier, "completed")
    await office.move(dossier, "processing")
    assert (await row(owner, dossier))["finished_at"] is None


@pytest.mark.parametrize("expected", [1, 3, 2**31 - 1])
async def test_move_from_another_version_is_refused(office: Office, owner: Any, expected: int) -> None:
    dossier = (await office.receive())["code"]
    await office.move(dossier, "processing", expected_version=1)
    before = await written(owner)
    with pytest.raises(VersionMismatch) as refused:
        await office.move(dossier, "processing", expected_version=expected)
    assert refused.value.members == {"version": 2, "current": "processing"}
    assert await written(owner) == before


async def test_of_many_moves_from_one_version_one_is_made(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    attempts = [office.move(dossier, "processing", expected_version=1) for _ in range(20)]
    outcomes = Counter(type(each).__name__ for each in await asyncio.gather(*attempts, return_exceptions=True))
    assert outcomes == {"dict": 1, "VersionMismatch": 19}
    assert (await row(owner, dossier))["version"] == 2


async def test_moves_at_once_are_made_one_after_the_other(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    answers = await asyncio.gather(*(office.move(dossier, "processing") for _ in range(20)))
    assert sorted(answer["version"] for answer in answers) == list(range(2, 22))
    assert await owner.fetchval("SELECT count(*) FROM event WHERE code = $1", dossier) == 21


async def test_refused_move_leaves_no_trace(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    final = (await office.receive())["code"]
    await office.move(final, "withdrawn")
    elsewhere = (await office.receive())["code"]
    await owner.execute("UPDATE dossier SET agency = 'H99.15.05', origin = 'H99.15.05' WHERE code = $1", elsewhere)
    before = await written(owner)
    for target, fields, refusal in (
        ("G99.01.01-200101-0001", {"to": "processing"}, UnknownDossier),
        (final, {"to": "processing"}, MoveNotAllowed),
        (dossier, {"to": "returned"}, MoveNotAllowed),
        (dossier, {"to": "processing", "agency": "G99.77"}, UnknownAgency),
        (dossier, {"to": "processing", "at": datetime(1989, 1, 1, tzinfo=UTC)}, BadDate),
        (dossier, {"to": "processing", "at": datetime.now(UTC) + timedelta(hours=1)}, BadDate),
        (dossier, {"to": "processing", "at": datetime.now(UTC) - timedelta(hours=1)}, DatesOutOfOrder),
        (dossier, {"to": "processing", "agency": "H99.15"}, TargetNotAllowed),
        (dossier, {"to": "suspended", "note": None}, ReasonRequired),
        (elsewhere, {"to": "processing"}, UnknownDossier),
    ):
        with pytest.raises(refusal):
            await office.move(target, **fields)
    assert await written(owner) == before


async def test_move_before_the_submission_is_refused_but_for_what_clocks_may_differ(office: Office, owner: Any) -> None:
    dossier = (await office.receive(channel="online", submitted_at=MONDAY))["code"]
    with pytest.raises(DatesOutOfOrder, match="before the dossier's last step"):
        await office.move(dossier, "received", at=MONDAY - timedelta(minutes=6))
    await office.move(dossier, "received", at=MONDAY - timedelta(minutes=4))
    assert (await row(owner, dossier))["received_at"] == MONDAY


async def test_source_whose_clock_runs_ahead_may_still_be_moved_on(office: Office) -> None:
    dossier = (await office.receive(submitted_at=datetime.now(UTC) + timedelta(minutes=4)))["code"]
    assert (await office.move(dossier, "processing"))["version"] == 2


async def test_long_history_is_no_dead_end_and_what_is_kept_of_it_is_bounded(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    for _ in range(90):
        await office.move(dossier, "processing", department="Ệ" * 300)
    crowded = await owner.fetchrow("SELECT pg_column_size(timeline) AS size, timeline FROM dossier")
    steps = json.loads(crowded["timeline"])
    assert len(steps) < 91
    assert crowded["size"] < 64 * 1024
    await office.move(dossier, "completed")
    stored = await row(owner, dossier)
    assert (stored["version"], stored["status"]) == (92, Status.COMPLETED)
    assert [step["status"] for step in json.loads(stored["timeline"])] == [
        "received",
        *["processing"] * (len(steps) - 1),
        "completed",
    ]
    flags = await owner.fetch("SELECT flags FROM event WHERE code = $1 ORDER BY version", dossier)
    assert sum(each["flags"] == ["not_in_timeline"] for each in flags) == 92 - len(steps) - 1


async def test_removed_dossier_is_one_there_is_not(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    assert await office.ledger.remove(code.parse(dossier), actor="test", reason="Hết thời hạn lưu trữ (ví dụ)") == 2
    with pytest.raises(UnknownDossier):
        await office.move(dossier, "processing")
    with pytest.raises(UnknownDossier):
        await office.bind(dossier, "1/2026/99901")
    with pytest.raises(UnknownDossier):
        await office.ledger.officers_view(office.client, code.parse(dossier), SAMPLE)


# -- official numbers --------------------------------------------------------------------------------------


async def test_bound_number_is_an_event_and_a_pointer(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    answer = await office.bind(dossier, "1234-2026-99901")
    assert answer == {"code": dossier, "version": 2, "official_number": "01234/2026/99901"}
    assert tuple(await owner.fetchrow("SELECT number, code, version FROM dossier_number")) == (
        "01234/2026/99901",
        dossier,
        2,
    )
    event = await owner.fetchrow("SELECT * FROM event WHERE code = $1 AND version = 2", dossier)
    assert (event["kind"], event["official_number"], event["status"]) == ("number_bound", "01234/2026/99901", 2)
    stored = await row(owner, dossier)
    assert (stored["official_number"], stored["version"]) == ("01234/2026/99901", 2)
    assert len(msgspec.json.decode(stored["timeline"])) == 1


async def test_binding_the_number_it_has_changes_nothing(office: Office, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    first = await office.bind(dossier, "01234/2026/99901")
    before = (await written(owner))[:3]
    assert await office.bind(dossier, "1234/2026/99901") == first
    assert (await written(owner))[:3] == before


async def test_number_belongs_to_one_dossier_and_a_dossier_has_one_number(office: Office, owner: Any) -> None:
    first, second = [(await office.receive())["code"] for _ in range(2)]
    await office.bind(first, "01234/2026/99901")
    before = await written(owner)
    for target, number, why in (
        (second, "01234/2026/99901", "01234/2026/99901 belongs to another dossier"),
        (first, "04321/2026/99901", "This dossier has the official number 01234/2026/99901 already"),
    ):
        with pytest.raises(NumberTaken, match=why):
            await office.bind(target, number)
    with pytest.raises(VersionMismatch):
        await office.bind(second, "04321/2026/99901", expected_version=2)
    with pytest.raises(code.MalformedCode):
        await office.bind(second, "nonsense")
    with pytest.raises(InvalidContent):
        await office.bind(second, first)
    assert await written(owner) == before


async def test_code_of_a_dossier_is_no_other_dossiers_number(office: Office, owner: Any) -> None:
    """A lookup by that number would be answered with the dossier whose code it is."""
    coded = "01234/2026/99901"
    await receive(owner, coded)
    dossier = (await office.receive())["code"]
    before = await written(owner)
    for target in (dossier, coded):
        with pytest.raises(NumberTaken):
            await office.bind(target, coded)
    assert await written(owner) == before


async def test_of_many_dossiers_that_want_one_number_one_gets_it(office: Office, owner: Any) -> None:
    dossiers = [(await office.receive())["code"] for _ in range(10)]
    attempts = [office.bind(dossier, "01234/2026/99901") for dossier in dossiers]
    outcomes = Counter(type(each).__name__ for each in await asyncio.gather(*attempts, return_exceptions=True))
    assert outcomes == {"dict": 1, "NumberTaken": 9}
    assert await owner.fetchval("SELECT count(*) FROM event WHERE kind = 'number_bound'") == 1


# -- repeats -----------------------------------------------------------------------------------------------


async def test_second_submission_returns_the_first_answer(office: Office, owner: Any) -> None:
    first = await office.receive(key="k-1")
    before = (await written(owner))[:3]
    assert await office.receive(key="k-1") == first
    assert (await written(owner))[:3] == before


async def test_repeat_counts_itself_so_that_it_has_something_to_commit(office: Office, owner: Any) -> None:
    before = REGISTRY.get_sample_value("intake_replays_total") or 0
    for replays in range(3):
        await office.receive(key="k-1")
        assert REGISTRY.get_sample_value("intake_replays_total") == before + replays
        assert await owner.fetchval("SELECT replays FROM idempotency WHERE key = 'k-1'") == replays


async def test_fifty_submissions_under_one_key_are_one_dossier(office: Office, owner: Any) -> None:
    attempts = await asyncio.gather(*(office.receive(key="k-1") for _ in range(50)), return_exceptions=True)
    answers = [each for each in attempts if isinstance(each, dict)]
    assert {type(each).__name__ for each in attempts} <= {"dict", "StillRunning"}
    assert answers
    assert all(answer == answers[0] for answer in answers)
    assert await office.receive(key="k-1") == answers[0]
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 1
    assert await owner.fetchval("SELECT count(*) FROM event") == 1


async def test_key_is_good_for_one_request_only(office: Office, owner: Any) -> None:
    dossier = (await office.receive(key="k-1"))["code"]
    other = (await office.receive())["code"]
    await office.move(dossier, "processing", key="k-2")
    before = await written(owner)
    for reuse in (
        office.receive(key="k-1", service_case="card"),
        office.move(dossier, "processing", key="k-1"),
        office.move(other, "processing", key="k-2"),
        office.move(dossier, "processing", key="k-2", note="another"),
        office.bind(dossier, "1/2026/99901", key="k-2"),
    ):
        with pytest.raises(KeyReused):
            await reuse
    assert await written(owner) == before


async def test_key_is_never_good_again_after_its_answer_has_expired(office: Office, owner: Any) -> None:
    first = (await office.receive(key="k-1"))["code"]
    await office.move(first, "processing", key="k-2")
    await owner.execute("DELETE FROM idempotency")
    before = await written(owner)
    with pytest.raises(KeyReused, match="more than thirty days ago"):
        await office.receive(key="k-1")
    with pytest.raises(KeyReused):
        await office.move(first, "processing", key="k-2")
    assert await written(owner) == before


async def test_repeated_move_gives_the_first_answer_though_the_dossier_has_moved_on(office: Office) -> None:
    dossier = (await office.receive())["code"]
    first = await office.move(dossier, "processing", key="k-1", expected_version=1)
    await office.move(dossier, "completed")
    assert await office.move(dossier, "processing", key="k-1", expected_version=1) == first


async def test_clients_have_their_own_keys(office: Office, database: Database) -> None:
    await new_client(database, "other", "G99")
    neighbour = Office(office.ledger, Client("other", "Quầy khác", "G99", frozenset(ACTIONS)))
    assert (await office.receive(key="k-1"))["code"] != (await neighbour.receive(key="k-1"))["code"]


async def test_refused_request_may_be_repeated_under_its_key_once_it_is_right(office: Office) -> None:
    dossier = (await office.receive())["code"]
    with pytest.raises(MoveNotAllowed):
        await office.move(dossier, "returned", key="k-1")
    await office.move(dossier, "completed")
    assert (await office.move(dossier, "returned", key="k-1"))["version"] == 3


async def test_repeat_of_a_running_request_does_not_wait_for_it(office: Office, database: Database, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    async with held(database, dossier):
        running = asyncio.create_task(office.move(dossier, "processing", key="k-1"))
        await until(lambda: waits(owner))  # or the repeat might be the first
        with pytest.raises(StillRunning) as refusal:
            async with asyncio.timeout(5):
                await office.move(dossier, "processing", key="k-1")
        assert refusal.value.retry_after == 1
        assert not running.done()
    assert (await running)["version"] == 2


# -- when the end is not seen ------------------------------------------------------------------------------


async def test_change_whose_outcome_is_unknown_goes_on_and_a_repeat_learns_it(
    office: Office, database: Database, owner: Any
) -> None:
    dossier = (await office.receive())["code"]
    async with in_haste(office) as hasty:
        async with held(database, dossier):
            with pytest.raises(OutcomeUnknown):
                await hasty.move(dossier, "processing", key="k-1")
            await until(lambda: waits(owner))
            with pytest.raises(StillRunning):
                await office.move(dossier, "processing", key="k-1")
            assert (await row(owner, dossier))["version"] == 1

        async def learns() -> dict[str, Any] | None:
            try:
                return await office.move(dossier, "processing", key="k-1")
            except StillRunning:
                return None

        assert (await until(learns))["version"] == 2
        assert (await row(owner, dossier))["version"] == 2
        assert await owner.fetchval("SELECT count(*) FROM event WHERE code = $1", dossier) == 2


async def test_change_goes_on_when_its_caller_has_gone(office: Office, database: Database, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    async with held(database, dossier):
        caller = asyncio.create_task(office.move(dossier, "processing"))
        await until(lambda: waits(owner))
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    await office.ledger.close()
    assert (await row(owner, dossier))["version"] == 2


async def test_closing_waits_for_what_is_under_way(office: Office, database: Database, owner: Any) -> None:
    dossier = (await office.receive())["code"]
    async with in_haste(office) as hasty:
        async with held(database, dossier):
            with pytest.raises(OutcomeUnknown):
                await hasty.move(dossier, "processing")
            closing = asyncio.create_task(hasty.ledger.close())
            await asyncio.sleep(0)
            assert not closing.done()
        await closing
        assert (await row(owner, dossier))["version"] == 2

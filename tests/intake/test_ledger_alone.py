"""What the ledger writes and answers, over a stand-in for PostgreSQL: tests/intake/test_ledger.py has a real one."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import REGISTRY

from intake.books import ledger as books
from intake.books import reads
from intake.books.ledger import KeyedRequest, Ledger
from intake.books.seal import HASHED_COLUMNS, PERSON_COLUMNS, SealKeys, event_leaf_hash, person_digest
from intake.clients import ACTIONS, Client, OutOfScope
from intake.refusals import (
    DatesOutOfOrder,
    KeyReused,
    MoveNotAllowed,
    NumberTaken,
    OutcomeUnknown,
    ReasonRequired,
    StillRunning,
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
from lookup import code as codes
from lookup.clock import VIETNAM
from lookup.code import Scheme
from ops.errors import Refusal
from ops.stores.postgres import Postgres
from tests.conftest import SEAL_KEYS
from tests.house import REASONS, submission
from tests.intake.alone import NOW, SAMPLE, Books, Broken

SEALS = SealKeys.from_text(SEAL_KEYS)
CLIENT = Client("desk", "Quầy mẫu", "G99", frozenset(ACTIONS))
NUMBER = "01234/2026/99901"


def sealed(event: dict[str, Any]) -> bool:
    """Whether our key has sealed it."""
    leaf = event_leaf_hash([event[name] for name in HASHED_COLUMNS], event["salt"])
    return SEALS.sealed_by(leaf, event["seal"]) == "t1"


@pytest.fixture
def stored() -> Books:
    return Books()


class Office:
    """A client of a ledger over these books."""

    def __init__(self, stored: Books, **options: Any) -> None:
        given: dict[str, Any] = {"scheme": Scheme.B, "seals": SEALS, "deadline": 5.0} | options
        self.ledger = Ledger(cast(Postgres, stored), **given)
        self.client = CLIENT

    async def receive(self, key: str | None = None, **fields: Any) -> dict[str, Any]:
        sent = submission(**fields)
        return await self.ledger.receive(self.asked(key, "/dossiers", sent), msgspec.convert(sent, Submission), SAMPLE)

    async def move(self, code: str, to: str, key: str | None = None, **fields: Any) -> dict[str, Any]:
        sent = {"to": to} | REASONS.get(to, {}) | fields
        asked = self.asked(key, f"{code}/transitions", sent)
        return await self.ledger.move(asked, codes.parse(code), msgspec.convert(sent, Transition), SAMPLE)

    async def bind(self, code: str, number: str = NUMBER, **fields: Any) -> dict[str, Any]:
        asked = self.asked(None, f"{code}/official-number", [number, fields])
        return await self.ledger.bind_number(asked, codes.parse(code), OfficialNumber(number, **fields), SAMPLE)

    async def correct(self, code: str, **fields: Any) -> dict[str, Any]:
        asked = self.asked(None, f"{code}/corrections", fields)
        return await self.ledger.correct(asked, codes.parse(code), msgspec.convert(fields, CorrectionRequest), SAMPLE)

    async def key(self, code: str, **fields: Any) -> dict[str, Any]:
        asked = self.asked(None, f"{code}/key", fields)
        return await self.ledger.key(asked, codes.parse(code), msgspec.convert(fields, KeyRequest), SAMPLE)

    def asked(self, key: str | None, path: str, sent: object) -> KeyedRequest:
        return KeyedRequest(self.client, key or str(uuid.uuid4()), fingerprint(path, msgspec.json.encode(sent)))


@pytest.fixture
def office(stored: Books) -> Office:
    return Office(stored)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_reception_is_a_row_an_event_and_an_answer(office: Office, stored: Books) -> None:
    before = value("intake_dossiers_received_total", channel="direct")
    answer = await office.receive("k-1", department="Một cửa", officer="Cán bộ Mẫu")
    assert answer["code"] == "G99.01.01-261130-0001"
    assert (answer["version"], answer["status"], answer["key_serial"]) == (1, "received", 0)
    now = NOW.astimezone(VIETNAM).isoformat()
    assert answer["submitted_at"] == answer["received_at"] == answer["issued_at"] == now
    row, (event,) = stored.dossiers[answer["code"]], stored.events
    assert (row["version"], row["status"], row["received_at"]) == (1, 2, NOW)
    assert datetime.fromisoformat(answer["due_at"]) == row["due_at"]
    assert (event["epoch"], event["kind"], event["version"]) == (3, "received", 1)
    assert (event["actor"], event["source"], event["source_event_id"]) == ("desk/Cán bộ Mẫu", "desk", "k-1")
    assert value("intake_dossiers_received_total", channel="direct") == before + 1
    assert stored.longest == [10.0]
    online = await office.receive(channel="online")
    assert (online["code"], online["status"], online["received_at"]) == ("G99.01.01-261130-0002", "submitted", None)
    assert stored.events[-1]["actor"] == "desk"


@pytest.mark.parametrize(
    ("fields", "refusal", "told"),
    [
        ({"agency": "G99.77"}, UnknownAgency, "There is no agency G99.77."),
        ({"service": "S.999"}, UnknownService, "There is no service S.999."),
        ({"service_case": "hasty"}, UnknownService, r"Service S.004 has no such case; its cases are: .*default"),
    ],
)
async def test_reception_of_what_there_is_not_is_refused(
    office: Office, stored: Books, fields: dict[str, Any], refusal: type[Refusal], told: str
) -> None:
    with pytest.raises(refusal, match=told):
        await office.receive(**fields)
    assert stored.asked == []


async def test_yearly_numbers_are_of_the_year_and_a_taken_code_is_passed_over(stored: Books) -> None:
    stored.dossiers["00001/2026/99901"] = {}
    answer = await Office(stored, scheme=Scheme.D).receive(agency="99901") if "99901" in SAMPLE.agencies else None
    if answer is not None:
        assert answer["code"] == "00002/2026/99901"
    daily = Office(stored)
    stored.dossiers["G99.01.01-261130-0001"] = {}
    assert (await daily.receive())["code"] == "G99.01.01-261130-0002"


async def test_move_is_a_sealed_event_that_the_row_follows(office: Office, stored: Books) -> None:
    code = (await office.receive())["code"]
    before = value("intake_moves_total", status="supplement_required")
    answer = await office.move(
        code,
        "supplement_required",
        note="Bổ sung",
        items=["Ảnh"],
        officer="Cán bộ Mẫu",
        department="Phòng",
        agency="G99.01",
    )
    row, (_, event) = stored.dossiers[code], stored.events
    assert answer == {"code": code, "version": 2, "status": "supplement_required", "due_at": answer["due_at"]}
    assert datetime.fromisoformat(answer["due_at"]) == row["due_at"]
    assert (row["version"], row["agency"], row["action_needed"]) == (2, "G99.01", "Bổ sung\n– Ảnh")
    (pause,) = msgspec.json.decode(row["pauses"])
    assert (pause["since"], pause["until"]) == (NOW.astimezone(VIETNAM).isoformat(), None)
    assert len(msgspec.json.decode(row["timeline"])) == 2
    assert (event["kind"], event["version"], event["detail"]) == ("moved", 2, '{"items": ["Ảnh"]}')
    assert sealed(event)
    assert (event["department"], event["actor"], event["status"]) == ("Phòng", "desk/Cán bộ Mẫu", row["status"])
    assert value("intake_moves_total", status="supplement_required") == before + 1
    stays = await office.move(code, "processing", expected_version=2)
    assert (stays["version"], stored.dossiers[code]["agency"]) == (3, "G99.01")


@pytest.mark.parametrize(
    ("to", "fields", "refusal", "told"),
    [
        ("returned", {}, MoveNotAllowed, r"A dossier that is received may become: .*processing"),
        ("processing", {"agency": "G99.77"}, UnknownAgency, r"There is no agency G99\.77\."),
        ("processing", {"expected_version": 2}, VersionMismatch, "is at version 1, the request expects version 2"),
    ],
)
async def test_move_that_may_not_be_is_refused_and_writes_nothing(
    office: Office, stored: Books, to: str, fields: dict[str, Any], refusal: type[Refusal], told: str
) -> None:
    code = (await office.receive())["code"]
    with pytest.raises(refusal, match=told) as refused:
        await office.move(code, to, **fields)
    assert (stored.dossiers[code]["version"], len(stored.events)) == (1, 1)
    if refusal is not UnknownAgency:
        assert (refused.value.members["version"], refused.value.members["current"]) == (1, "received")


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("what", ["move", "bind", "view"])
async def test_dossier_that_is_not_there_or_was_removed_is_unknown(
    office: Office, stored: Books, what: str, removed: bool
) -> None:
    code = (await office.receive())["code"]
    stored.dossiers[code]["removed"] = removed
    asked = code if removed else "G99.01.01-261130-0777"
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "move": lambda: office.move(asked, "processing"),
        "bind": lambda: office.bind(asked),
        "view": lambda: office.ledger.officers_view(CLIENT, codes.parse(asked), SAMPLE),
    }
    with pytest.raises(UnknownDossier):
        await ways[what]()
    assert (
        (await office.ledger.officers_view(CLIENT, codes.parse(code), SAMPLE))["code"] == code if not removed else True
    )


@pytest.mark.parametrize(("name", "raised"), [("dossier_number_pkey", NumberTaken), ("another", Broken)])
async def test_number_that_a_race_has_bound_is_told_and_no_other_broken_rule_is_called_that(
    office: Office, stored: Books, name: str, raised: type[Exception]
) -> None:
    code = (await office.receive())["code"]
    stored.refuses = [Broken(name)]
    with pytest.raises(raised):
        await office.bind(code)
    assert len(stored.events) == 1


async def test_row_that_was_waited_for_is_read_again_with_its_log(office: Office, stored: Books) -> None:
    code = (await office.receive())["code"]
    fetchrow, stale = stored.fetchrow, [{"newest": 0, "last_at": NOW - timedelta(days=900)}]

    async def waited(sql: str, *given: Any) -> Any:
        row = await fetchrow(sql, *given)
        return row | stale.pop() if sql == books.LOCK_DOSSIER and stale else row

    stored.fetchrow = waited  # type: ignore[method-assign]
    with pytest.raises(DatesOutOfOrder):
        await office.move(code, "processing", at=NOW - timedelta(hours=1))
    assert [sql for sql, *_ in stored.asked].count(books.LOCK_DOSSIER) == 2


# -- corrections and keys ----------------------------------------------------------------------------------------------


async def test_correction_names_what_it_changed_and_nothing_else(office: Office, stored: Books) -> None:
    code = (await office.receive(subject="Cấp sổ"))["code"]
    asked = {"reason": "Ghi nhầm", "channel": "postal", "agency": "G99.01.01", "applicant": {"name": "Trần Mẫu"}}
    answer = await office.correct(code, **asked, subject="Cấp thẻ", official_number="1/2026/99901")
    corrected = ["channel", "name", "official_number", "subject"]
    assert answer == {"code": code, "version": 2, "status": "received", "corrected": corrected}
    row, event = stored.dossiers[code], stored.events[-1]
    assert (row["channel"], row["applicant_name"], row["subject"]) == ("postal", "Trần Mẫu", "Cấp thẻ")
    assert row["applicant_phone"] == "0000000001"
    assert event["person"] == person_digest(event["salt"], [row[name] for name in PERSON_COLUMNS])
    await office.correct(code, reason="Ghi nhầm", channel="direct")
    assert stored.events[-1]["person"] is None
    with pytest.raises(InvalidContent, match="sequence/year/agency"):
        await office.correct(code, reason="x", official_number=code)


async def test_new_key_is_an_event_and_the_present_one_is_none(office: Office, stored: Books) -> None:
    code = (await office.receive())["code"]
    assert await office.key(code) == {"code": code, "version": 1, "key_serial": 0}
    assert await office.key(code, reissue=True, reason="Mất") == {"code": code, "version": 2, "key_serial": 1}
    assert (stored.events[-1]["kind"], stored.events[-1]["note"]) == ("key_reissued", "Mất")
    assert await office.ledger.reissue_key(codes.parse(code), actor="ops") == 2
    assert (stored.events[-1]["source"], stored.events[-1]["actor"]) == ("operator", "ops")
    assert [given[1:] for sql, *given in stored.asked if sql == reads.NOTE_READ] == [["desk", code, "key"]] * 2


async def test_removed_dossier_is_emptied_by_an_event(office: Office, stored: Books) -> None:
    code = (await office.receive())["code"]
    with pytest.raises(ReasonRequired):
        await office.ledger.remove(codes.parse(code), actor="ops", reason=" ")
    assert await office.ledger.remove(codes.parse(code), actor="ops", reason="Hết hạn") == 2
    assert stored.dossiers[code]["removed"]


@pytest.mark.parametrize("action", ["move", "bind", "correct", "key"])
async def test_dossier_of_others_is_one_there_is_not(stored: Books, action: str) -> None:
    office, others = Office(stored), Office(stored)
    others.client = Client("others", "Nơi khác", "H99", frozenset(ACTIONS))
    code = (await office.receive())["code"]
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "move": lambda: others.move(code, "processing"),
        "bind": lambda: others.bind(code),
        "correct": lambda: others.correct(code, reason="x", channel="postal"),
        "key": lambda: others.key(code),
    }
    with pytest.raises(UnknownDossier):
        await ways[action]()
    others.client = Client("desk", "Quầy mẫu", "G99", frozenset({"read"}))
    with pytest.raises(OutOfScope, match="it may: read"):
        await ways[action]()
    assert len(stored.events) == 1


async def test_whoever_submitted_it_reads_it_wherever_it_is(office: Office, stored: Books) -> None:
    code = codes.parse((await office.receive())["code"])
    for client, may in (("desk", True), ("others", False)):
        asking = Client(client, "Nơi khác", "H99", frozenset(ACTIONS))
        if may:
            assert (await office.ledger.officers_view(asking, code, SAMPLE))["code"] == code.text
        else:
            with pytest.raises(UnknownDossier):
                await office.ledger.officers_view(asking, code, SAMPLE)
    assert [given for sql, *given in stored.asked if sql == reads.NOTE_READ] == [["desk", "desk", code.text, "dossier"]]


# -- official numbers --------------------------------------------------------------------------------------------------


async def test_bound_number_is_a_version_and_an_event_and_binding_it_again_changes_nothing(
    office: Office, stored: Books
) -> None:
    code = (await office.receive())["code"]
    answer = {"code": code, "version": 2, "official_number": NUMBER}
    assert await office.bind(code) == answer
    assert stored.tables["number"] == {NUMBER: [code, 2]}
    row, event = stored.dossiers[code], stored.events[-1]
    assert (row["version"], row["official_number"]) == (2, NUMBER)
    assert (event["kind"], event["version"], event["official_number"]) == ("number_bound", 2, NUMBER)
    assert (event["actor"], event["department"]) == ("desk", None)
    assert await office.bind(code) == answer
    assert len(stored.events) == 2
    assert all(map(sealed, stored.events))


async def test_number_of_another_dossier_and_a_second_number_are_refused(office: Office, stored: Books) -> None:
    one, other = (await office.receive())["code"], (await office.receive())["code"]
    await office.bind(one)
    with pytest.raises(NumberTaken, match=f"has the official number {NUMBER} already"):
        await office.bind(one, "01235/2026/99901")
    with pytest.raises(NumberTaken, match="belongs to another dossier, or is a dossier's code"):
        await office.bind(other)
    stored.tables["number"]["01236/2026/99901"] = [one, 1]
    taken, books_is_taken = stored.fetchval, books.IS_TAKEN

    async def not_seen_yet(sql: str, *given: Any) -> Any:
        return False if sql == books_is_taken else await taken(sql, *given)

    stored.fetchval = not_seen_yet  # type: ignore[method-assign]
    with pytest.raises(NumberTaken, match=r"01236/2026/99901 belongs to another dossier\.$"):
        await office.bind(other, "01236/2026/99901")
    assert stored.dossiers[other]["version"] == 1
    with pytest.raises(InvalidContent, match="sequence/year/agency"):
        await office.bind(other, one)


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_repeat_gets_the_first_answer_and_another_request_with_its_key_is_refused(
    office: Office, stored: Books
) -> None:
    first = await office.receive("k-1")
    before = value("intake_replays_total")
    assert await office.receive("k-1") == first
    assert value("intake_replays_total") == before + 1
    assert len(stored.events) == 1
    with pytest.raises(KeyReused):
        await office.receive("k-1", channel="online")


async def test_repeat_of_a_request_under_way_is_told_to_come_back(office: Office, stored: Books) -> None:
    stored.locked = True
    with pytest.raises(StillRunning) as refusal:
        await office.receive("k-1")
    assert refusal.value.retry_after == 1
    assert stored.events == []


async def test_outcome_is_unknown_at_the_deadline_and_the_transaction_goes_on(
    stored: Books, caplog: pytest.LogCaptureFixture
) -> None:
    office, gate = Office(stored, deadline=0.01, longest=7.0), asyncio.Event()
    fetchrow = stored.fetchrow

    async def slow(sql: str, *given: Any) -> Any:
        await gate.wait()
        return await fetchrow(sql, *given)

    stored.fetchrow = slow  # type: ignore[method-assign]
    before = value("intake_outcomes_unknown_total")
    with pytest.raises(OutcomeUnknown):
        await office.receive("k-1")
    assert value("intake_outcomes_unknown_total") == before + 1
    closing = asyncio.create_task(office.ledger.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert (len(stored.events), stored.longest, office.ledger._unbroken._running) == (1, [7.0], set())
    assert caplog.messages == []


@pytest.mark.parametrize(("error", "logged"), [(ValueError("a bug"), ["A change failed"]), (KeyReused(), [])])
async def test_change_that_fails_is_logged_and_a_refused_one_is_not(
    office: Office, caplog: pytest.LogCaptureFixture, error: Exception, logged: list[str]
) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await office.ledger._settle(fail())
    assert caplog.messages == logged


async def test_dossier_without_a_due_date_is_answered_without_one(office: Office, stored: Books) -> None:
    code = (await office.receive())["code"]
    stored.dossiers[code] |= {"due_at": None, "service": "S.gone"}
    assert (await office.move(code, "processing"))["due_at"] is None

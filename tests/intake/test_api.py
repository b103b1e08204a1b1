"""The intake as a client meets it: tokens and scopes, keys and repeats, and bad input that is never an accident."""

import asyncio
import io
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import pytest
from yarl import URL

from intake.books.ledger import Ledger
from intake.rules.workdays import due_after
from lookup.clock import VIETNAM
from lookup.code import parse
from lookup.lookup_key import KeyRing
from tests.conftest import KEY_SECRETS, Database
from tests.house import REASONS, House, intake_at, intake_settings, new_token, submission, until
from tests.intake.test_ledger import waits
from tests.lookup.views import OFFICER, just_received, only

DOSSIERS = "/api/v1/dossiers"
UNKNOWN = f"{DOSSIERS}/G99.01.01-200101-0001"
TABLES = ("dossier", "event", "daily_sequence", "idempotency", "dossier_number")


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    """The intake alone, and a token that may do everything within G99."""
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, await new_token(database))


async def send(
    house: House, body: Any, path: str = DOSSIERS, *, method: str = "POST", **headers: str
) -> tuple[int, Any, Any]:
    """Status, JSON and headers of one request whose body and path go out as they are."""
    url = URL(house.intake_url + path, encoded=True)
    names = {"Authorization": f"Bearer {house.token}", "Idempotency-Key": str(uuid.uuid4())} | {
        n.replace("_", "-"): v for n, v in headers.items()
    }
    async with house.http.request(method, url, data=body, headers=names) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw else None, response.headers


async def written(owner: Any) -> list[Any]:
    """Everything a request may write, to be compared before and after."""
    return [[tuple(r) for r in await owner.fetch(f"SELECT t FROM {table} t ORDER BY t::text")] for table in TABLES]


def transitions(code: str) -> str:
    return f"{DOSSIERS}/{code}/transitions"


# -- what a receipt says -----------------------------------------------------------------------------------


async def test_receipt_has_everything_the_desk_prints(house: House) -> None:
    accepted = datetime.now(VIETNAM) - timedelta(minutes=1)
    moment = accepted.isoformat()
    status, answer, headers = await send(house, json.dumps(submission(submitted_at=moment)))
    assert status == 201
    assert headers["Location"] == f"{DOSSIERS}/{answer['code']}"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    key = answer["lookup_key"]
    assert KeyRing.from_text(KEY_SECRETS).serial(parse(answer["code"]), key) == 0
    receipt = answer["receipt"]
    assert receipt.pop("issued_at")
    assert receipt == {
        "number": answer["code"],
        "agency": "G99.01.01",
        "service": "S.004",
        "submitted_at": moment,
        "received_at": moment,
        "due_at": due_after(accepted, 80).astimezone(VIETNAM).isoformat(),
        "link": f"http://127.0.0.1:8080/tra-cuu/{answer['code']}?key={key}",
    }
    assert (answer["status"], answer["version"], answer["due_at"]) == ("received", 1, receipt["due_at"])


async def test_officers_view_has_the_applicant_and_the_next_moves(house: House) -> None:
    applicant = {"name": "Trần Thị Hư Cấu", "id": "999000000077", "kind": 2, "email": "mau@vi-du.example"}
    receipt = await house.receive(applicant=applicant, subject="Cấp sổ")
    code = receipt["code"]
    status, view, headers = await send(house, None, f"{DOSSIERS}/{code.lower()}", method="GET")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    step = {"at": receipt["receipt"]["received_at"], "status": "received", "agency": "G99.01.01", "department": None}
    officers = {
        "service": "S.004",
        "service_case": "default",
        "agency": "G99.01.01",
        "origin": "G99.01.01",
        "channel": "direct",
        "outcome": None,
        "reason": None,
        "pauses": [],
        "supplements": 0,
        "reappointments": 0,
        "subject": "Cấp sổ",
        "timeline": [step],
        "applicant": applicant | {"phone": None, "address": None},
        "tasks": [
            {
                "number": 1,
                "agency": "G99.01.01",
                "kind": "work",
                "work": "",
                "state": "open",
                "after": None,
                "due_at": receipt["due_at"],
                "opened_at": receipt["receipt"]["received_at"],
                "ended_at": None,
            }
        ],
        "next": ["processing", "supplement_required", "payment_required", "withdrawn", "suspended", "completed"],
    }
    assert view == only(OFFICER, just_received(receipt) | officers)


async def test_text_is_stored_composed(house: House) -> None:
    code = (await house.receive(applicant={"name": "Nguye\u0302\u0303n"}))["code"]
    _, view, _ = await send(house, None, f"{DOSSIERS}/{code}", method="GET")
    assert view["applicant"]["name"] == "Nguyễn"


# -- who may do what ---------------------------------------------------------------------------------------


async def test_nothing_is_done_without_a_valid_token(house: House, database: Database, owner: Any) -> None:
    code = (await house.receive())["code"]
    expired = await new_token(database, "G99.01")
    await owner.execute("UPDATE client SET disabled_at = now() WHERE agency = 'G99.01'")
    before = await written(owner)
    requests = [
        ("POST", DOSSIERS, submission()),
        ("POST", transitions(code), {"to": "processing"}),
        ("PUT", f"{DOSSIERS}/{code}/official-number", {"number": "1/2026/99901"}),
        ("GET", f"{DOSSIERS}/{code}", None),
        ("POST", DOSSIERS, "not even a submission"),
    ]
    unsent, cut, ended = "Send the header", "not all of one", "Ask the operator"
    says = {"": unsent, "Bearer": unsent, f"Basic {house.token}": unsent, f"Bearer {house.token[:-1]}": cut}
    says |= {f"Bearer {house.token}x": cut, f"Bearer {expired}": ended}
    for authorization in says:
        for method, path, content in requests:
            status, problem = await house.hand_in(method, path, content, Authorization=authorization)
            assert (status, problem["code"]) == (401, "unauthenticated"), (authorization, path)
            assert says[authorization] in problem["detail"]
    _, _, headers = await send(house, b"", Authorization="Bearer x")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert await written(owner) == before


async def test_scope_ends_at_the_agencys_own_subtree(house: House, database: Database, owner: Any) -> None:
    code = (await house.receive(agency="G99.01.01"))["code"]
    above, beside = await new_token(database, "G99.01"), await new_token(database, "G99.02")
    before = await written(owner)
    for method, path, content in (
        ("POST", DOSSIERS, submission(agency="G99.01.01")),
        ("POST", transitions(code), {"to": "processing"}),
        ("PUT", f"{DOSSIERS}/{code}/official-number", {"number": "1/2026/99901"}),
        ("GET", f"{DOSSIERS}/{code}", None),
    ):
        status, problem = await house.hand_in(method, path, content, Authorization=f"Bearer {beside}")
        # An agency that the client names is refused as such; a dossier that is not its business is one there is not.
        hidden = (404, "dossier_not_found") if code in path else (403, "out_of_scope")
        assert (status, problem["code"]) == hidden, path
        assert "applicant" not in problem
        if method != "GET":
            assert await written(owner) == before
        status, _ = await house.hand_in(method, path, content, Authorization=f"Bearer {above}")
        assert status in {200, 201}, path
        before = await written(owner)


async def test_action_that_was_not_granted_is_refused(house: House, database: Database) -> None:
    code = (await house.receive())["code"]
    requests = {
        "receive": ("POST", DOSSIERS, submission()),
        "move": ("POST", transitions(code), {"to": "processing"}),
        "bind": ("PUT", f"{DOSSIERS}/{code}/official-number", {"number": "1/2026/99901"}),
        "read": ("GET", f"{DOSSIERS}/{code}", None),
    }
    for granted in requests:
        token = await new_token(database, "G99", (granted,))
        for action, (method, path, content) in requests.items():
            if action != granted:
                status, problem = await house.hand_in(method, path, content, Authorization=f"Bearer {token}")
                assert (status, problem["code"]) == (403, "out_of_scope"), (granted, action)
        if granted == "move":
            status, _ = await house.hand_in(*requests["move"], Authorization=f"Bearer {token}")
            assert status == 200


async def test_dossier_handed_on_is_read_by_both_and_moved_by_who_has_it(house: House, database: Database) -> None:
    theirs = await new_token(database, "G99.02")
    ours = await new_token(database, "G99.01")
    code = (await house.receive(agency="G99.01.01"))["code"]
    handed_on = {"to": "processing", "agency": "G99.02.01"}
    for key_repeat in range(2):
        status, _ = await house.hand_in(
            "POST", transitions(code), handed_on, Authorization=f"Bearer {ours}", **{"Idempotency-Key": "k-1"}
        )
        assert status == 200, key_repeat
    ways = {token: {"Authorization": f"Bearer {token}"} for token in (ours, theirs)}
    for token, to, expected in (
        (ours, "processing", 404),
        (theirs, "processing", 200),
        (ours, "supplement_required", 200),  # the receiving agency asks for it, and hands the result over
        (ours, "processing", 404),
        (theirs, "processing", 200),
        (theirs, "completed", 200),
        (ours, "returned", 200),
    ):
        status, problem = await house.hand_in(
            "POST", transitions(code), {"to": to} | REASONS.get(to, {}), **ways[token]
        )
        assert status == expected, (to, problem)
    for token in (ours, theirs):
        status, view = await house.hand_in("GET", f"{DOSSIERS}/{code}", None, **ways[token])
        assert (status, view["agency"], view["origin"]) == (200, "G99.02.01", "G99.01.01")


async def test_dossier_is_handed_only_to_whom_it_may_be(house: House) -> None:
    code = (await house.receive(agency="G99.01.01"))["code"]
    for agency in ("H99.15", "H99.15.05"):
        status, problem = await house.hand_in("POST", transitions(code), {"to": "processing", "agency": agency})
        assert (status, problem["code"]) == (422, "target_not_allowed"), agency


# -- corrections, keys and reads ---------------------------------------------------------------------------


async def test_correction_keeps_both_in_the_log_and_no_applicant(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    asked = {
        "reason": "Ghi nhầm (ví dụ)",
        "service_case": "default",
        "channel": "postal",
        "official_number": "1/2026/99901",
        "applicant": {"name": "Trần Thị Hư Cấu", "phone": None},
        "officer": "Cán bộ Mẫu",
    }
    status, answer = await house.hand_in("POST", f"{DOSSIERS}/{code}/corrections", asked)
    assert (status, answer["version"]) == (200, 2)
    assert answer["corrected"] == ["channel", "name", "official_number", "phone"]
    _, view, _ = await send(house, None, f"{DOSSIERS}/{code}", method="GET")
    assert (view["channel"], view["official_number"]) == ("postal", "00001/2026/99901")
    assert (view["applicant"]["name"], view["applicant"]["phone"]) == ("Trần Thị Hư Cấu", None)
    event = await owner.fetchrow("SELECT * FROM event WHERE version = 2")
    assert json.loads(event["detail"]) == {
        "channel": ["direct", "postal"],
        "official_number": [None, "00001/2026/99901"],
        "applicant": ["name", "phone"],
    }
    assert "Trần" not in str(dict(event))
    assert await owner.fetchval("SELECT digest FROM dossier_person") == event["person"]
    # A second correction takes the number's place.
    status, _ = await house.hand_in(
        "POST", f"{DOSSIERS}/{code}/corrections", {"reason": "x", "official_number": "2/2026/99901"}
    )
    assert status == 200
    assert await owner.fetchval("SELECT array_agg(number) FROM dossier_number") == ["00002/2026/99901"]
    for nothing in (
        {"reason": "x"},
        {"reason": "x", "channel": "postal"},
        {"reason": "x", "applicant": {"phone": None}},
    ):
        status, problem = await house.hand_in("POST", f"{DOSSIERS}/{code}/corrections", nothing)
        assert (status, problem["code"]) == (422, "invalid_content"), nothing


async def test_key_is_given_again_and_issued_anew(house: House, owner: Any) -> None:
    received = await house.receive()
    code, path = received["code"], f"{DOSSIERS}/{received['code']}/key"
    status, again = await house.hand_in("POST", path, {})
    assert (status, again["lookup_key"], again["version"]) == (200, received["lookup_key"], 1)
    assert again["link"] == received["receipt"]["link"]
    for serial in range(1, 32):
        status, anew = await house.hand_in("POST", path, {"reissue": True, "reason": "Mất giấy tiếp nhận (ví dụ)"})
        assert (status, anew["version"]) == (200, serial + 1)
        assert KeyRing.from_text(KEY_SECRETS).serial(parse(code), anew["lookup_key"]) == serial
    status, problem = await house.hand_in("POST", path, {"reissue": True})
    assert (status, problem["code"]) == (409, "keys_used_up")
    assert await owner.fetchval("SELECT key_serial FROM dossier") == 31
    assert await owner.fetchval("SELECT count(*) FROM personal_read WHERE screen = 'key'") == 32


async def test_read_is_logged_before_it_is_answered(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    await send(house, None, f"{DOSSIERS}/{code}", method="GET")
    (read,) = await owner.fetch("SELECT * FROM personal_read")
    client = house.token.split("_")[1]
    assert (read["code"], read["screen"], read["reader"], read["client"]) == (code, "dossier", client, client)
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    for method, path in (("GET", f"{DOSSIERS}/{code}"), ("POST", f"{DOSSIERS}/{code}/key")):
        status, problem, _ = await send(house, b"{}", path, method=method)
        assert (status, problem["code"]) == (503, "unavailable")
        assert "applicant" not in problem
        assert "lookup_key" not in problem


# -- moves -------------------------------------------------------------------------------------------------


async def test_dossier_goes_its_way_to_the_end(house: House) -> None:
    code = (await house.receive(channel="online"))["code"]
    path = ["received", "processing", "supplement_required", "processing", "completed", "returned"]
    for version, to in enumerate(path, start=2):
        answer = await house.move(code, to, expected_version=version - 1)
        assert (answer["version"], answer["status"], answer["code"]) == (version, to, code)
    _, view, _ = await send(house, None, f"{DOSSIERS}/{code}", method="GET")
    assert (view["final"], view["next"]) == (True, [])
    assert view["finished_at"]
    assert view["returned_at"]


@pytest.mark.parametrize(
    ("way", "to", "allowed"),
    [
        ([], "returned", "processing supplement_required payment_required withdrawn suspended completed"),
        (["completed"], "withdrawn", "processing returned"),
        (["suspended"], "completed", "processing withdrawn returned"),
        (["withdrawn"], "processing", ""),
        (["completed", "returned"], "processing", ""),
    ],
)
async def test_move_that_is_not_allowed_says_which_are(house: House, way: list[str], to: str, allowed: str) -> None:
    code = (await house.receive())["code"]
    for step in way:
        await house.move(code, step)
    status, problem = await house.hand_in("POST", transitions(code), {"to": to})
    assert (status, problem["code"], problem["status"]) == (409, "move_not_allowed", 409)
    assert problem["current"] == (way or ["received"])[-1]
    assert sorted(problem["allowed"]) == sorted(allowed.split())
    assert problem["version"] == len(way) + 1


async def test_move_from_another_version_is_412_and_says_where_it_stands(house: House) -> None:
    code = (await house.receive())["code"]
    status, problem = await house.hand_in("POST", transitions(code), {"to": "processing", "expected_version": 2})
    assert (status, problem["code"], problem["version"]) == (412, "version_mismatch", 1)
    assert (problem["status"], problem["current"]) == (412, "received")


async def test_unknown_dossier_is_404(house: House) -> None:
    for method, path, content in (
        ("POST", f"{UNKNOWN}/transitions", {"to": "processing"}),
        ("PUT", f"{UNKNOWN}/official-number", {"number": "1/2026/99901"}),
        ("GET", UNKNOWN, None),
    ):
        status, problem = await house.hand_in(method, path, content)
        assert (status, problem["code"]) == (404, "dossier_not_found")


async def test_official_number_is_bound_once_and_for_one_dossier(house: House) -> None:
    first, second = [(await house.receive())["code"] for _ in range(2)]
    for code, number, expected in (
        (first, "1234/2026/99901", 200),
        (first, "01234-2026-99901", 200),
        (second, "01234/2026/99901", 409),
        (first, "4321/2026/99901", 409),
        (second, first, 422),
        (second, "nonsense", 400),
        (second, "4321/2026/99901", 200),
    ):
        status, answer = await house.hand_in("PUT", f"{DOSSIERS}/{code}/official-number", {"number": number})
        assert status == expected, (code, number)
        if status == 409:
            assert answer["code"] == "number_taken"


async def test_dossier_in_scheme_d_is_addressed_in_either_spelling(database: Database) -> None:
    settings = intake_settings(database.writer_url, code_scheme="D")
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        code = (await house.receive(agency="99901"))["code"]
        for spelling in (code.replace("/", "-"), code.replace("/", "%2F"), code.lstrip("0").replace("/", "-")):
            status, answer, _ = await send(house, b'{"to": "processing"}', f"{DOSSIERS}/{spelling}/transitions")
            assert (status, answer["code"]) == (200, code), spelling


# -- repeats -----------------------------------------------------------------------------------------------


async def test_fifty_posts_under_one_key_are_one_dossier(house: House, owner: Any) -> None:
    posts = [send(house, json.dumps(submission()), Idempotency_Key="k-1") for _ in range(50)]
    answers = await asyncio.gather(*posts)
    assert {status for status, _, _ in answers} <= {201, 409}
    assert {answer["code"] for status, answer, _ in answers if status == 409} <= {"still_running"}
    first = [answer for status, answer, _ in answers if status == 201]
    status, later, _ = await send(house, json.dumps(submission()), Idempotency_Key="k-1")
    assert status == 201
    assert all(answer == later for answer in first)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 1
    assert await owner.fetchval("SELECT last FROM daily_sequence") == 1
    assert await owner.fetchval("SELECT replays FROM idempotency WHERE key = 'k-1'") == len(first)


async def test_another_body_under_the_same_key_is_refused(house: House, owner: Any) -> None:
    await send(house, json.dumps(submission()), Idempotency_Key="k-1")
    before = await written(owner)
    for body in (submission(channel="postal"), submission(agency="G99.01.02")):
        status, problem, _ = await send(house, json.dumps(body), Idempotency_Key="k-1")
        assert (status, problem["code"]) == (422, "idempotency_key_reused")
    assert await written(owner) == before


async def test_same_content_in_another_spelling_is_a_repeat(house: House) -> None:
    spellings = (json.dumps(submission()), json.dumps(dict(reversed(submission().items())), indent=3))
    codes = {(await send(house, body, Idempotency_Key="k-1"))[1]["code"] for body in spellings}
    assert len(codes) == 1


async def test_key_may_be_quoted_or_bare(house: House, owner: Any) -> None:
    codes = set()
    for spelling in ("k-1", '"k-1"', '  "k-1" '):
        codes.add((await send(house, json.dumps(submission()), Idempotency_Key=spelling))[1]["code"])
    assert len(codes) == 1
    assert await owner.fetchval("SELECT array_agg(key) FROM idempotency") == ["k-1"]


async def test_unusable_idempotency_key_is_refused(house: House, owner: Any) -> None:
    before = await written(owner)
    for key in ("", '""', "x" * 256, "é"):
        status, problem, _ = await send(house, json.dumps(submission()), Idempotency_Key=key)
        assert (status, problem["code"]) == (422, "invalid_content"), key
    assert await written(owner) == before


async def test_change_without_a_key_is_refused(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    before = await written(owner)
    bare = {"Authorization": f"Bearer {house.token}"}
    for method, path, content in (
        ("POST", DOSSIERS, submission()),
        ("POST", transitions(code), {"to": "processing"}),
        ("PUT", f"{DOSSIERS}/{code}/official-number", {"number": "1/2026/99901"}),
        ("POST", f"{DOSSIERS}/{code}/corrections", {"reason": "x", "channel": "postal"}),
        ("POST", f"{DOSSIERS}/{code}/key", {}),
    ):
        async with house.http.request(method, house.intake_url + path, json=content, headers=bare) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "idempotency_key_required"), path
    assert await written(owner) == before


# -- load --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_day")
async def test_two_hundred_desks_at_once_get_two_hundred_codes_without_a_gap(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger.__init__, "__kwdefaults__", {"longest": 60.0, "backdating": 1})
    patient = intake_settings(
        database.writer_url, intake_deadline=60, pg_deadline=60
    )  # how long they wait is no matter
    async with intake_at(patient) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        answers = await asyncio.gather(*(house.receive() for _ in range(200)))
    assert sorted(int(answer["code"].rpartition("-")[2]) for answer in answers) == list(range(1, 201))
    assert len({answer["lookup_key"] for answer in answers}) == 200


# -- when the end is not seen ------------------------------------------------------------------------------


async def test_outcome_that_is_unknown_is_said_and_a_repeat_tells_it(database: Database) -> None:
    hasty = intake_settings(database.writer_url, intake_deadline=0.3)
    async with (
        intake_at(intake_settings(database.writer_url)) as url,
        intake_at(hasty) as hasty_url,
        aiohttp.ClientSession() as http,
    ):
        house = House("", url, http, await new_token(database))
        code = (await house.receive())["code"]
        move: dict[str, Any] = {"body": b'{"to": "processing"}', "path": transitions(code), "Idempotency_Key": "k-1"}
        holder = await asyncpg.connect(database.owner_url)
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM dossier WHERE code = $1 FOR UPDATE", code)
            status, problem, headers = await send(House("", hasty_url, http, house.token), **move)
            assert (status, problem["code"]) == (503, "outcome_unknown")
            await until(lambda: waits(holder))
            assert int(headers["Retry-After"]) >= 1
            status, problem, headers = await send(house, **move)
            assert (status, problem["code"]) == (409, "still_running")
            assert int(headers["Retry-After"]) >= 1
        await holder.close()

        async def told() -> Any:
            status, answer, _ = await send(house, **move)
            return status == 200 and answer

        assert (await until(told))["version"] == 2
        _, view, _ = await send(house, None, f"{DOSSIERS}/{code}", method="GET")
        assert (view["version"], view["status"]) == (2, "processing")


# -- bad input ---------------------------------------------------------------------------------------------

MALFORMED = {
    "empty": b"",
    "not JSON": b"agency=G99",
    "truncated": b'{"agency": "G99.01.01", "serv',
    "not UTF-8": b'{"agency": "\xff"}',
    "lone surrogate": b'{"agency": "\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"agency": NaN}',
}
MISSHAPEN = {
    "null": b"null",
    "array": b"[]",
    "text": b'"G99"',
    "nothing in it": b"{}",
    "deep array": b"[" * 100_000,
    "deep array inside": b'{"agency": ' + b"[" * 100_000,
    "deep object": b'{"applicant": ' * 50_000,
    "deep unknown": b'{"x": ' * 100_000,
    "NUL": json.dumps(submission(agency="G99\0")).encode(),
    "NUL in a name": json.dumps(submission(applicant={"name": "a\0b"})).encode(),
    "unknown field": json.dumps(submission(code="G99.01.01-261122-0001")).encode(),
    "naive date": json.dumps(submission(submitted_at="2026-03-16T09:00:00")).encode(),
    "impossible date": json.dumps(submission(submitted_at="2026-02-30T09:00:00+07:00")).encode(),
    "status in the middle": json.dumps(submission(status="processing")).encode(),
    "huge number": b'{"agency": ' + b"9" * 5000 + b"}",
}
BAD_DATES = (
    *("2999-01-01T00:00:00+07:00", "1989-12-31T00:00:00+07:00"),
    *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
)
UNKNOWN_WORDS = {
    "unknown_status": submission(status="bogus"),
    "unknown_agency": submission(agency="G99.77"),
    "unknown_service": submission(service="S.999"),
    "agency_cannot_number": submission(agency="99901"),
}


async def test_bad_submission_is_refused_with_a_reason_and_leaves_no_trace(house: House, owner: Any) -> None:
    await house.receive()
    before = await written(owner)
    for name, body in MALFORMED.items():
        status, problem, headers = await send(house, body)
        assert (status, problem["code"]) == (400, "malformed_json"), name
        assert ("The body is empty" in problem["detail"]) == (name == "empty")
        assert headers["Content-Type"] == "application/problem+json", name
    for name, body in MISSHAPEN.items():
        status, problem, _ = await send(house, body)
        assert (status, problem["code"]) == (422, "invalid_content"), name
        assert problem["detail"], name
    for code, content in UNKNOWN_WORDS.items():
        status, problem, _ = await send(house, json.dumps(content))
        assert (status, problem["code"]) == (422, code)
    for moment in BAD_DATES:
        status, problem, _ = await send(house, json.dumps(submission(submitted_at=moment)))
        assert (status, problem["code"]) == (422, "bad_date"), moment
    too_long_ago = (datetime.now(VIETNAM) - timedelta(days=9)).isoformat()
    status, problem, _ = await send(house, json.dumps(submission(submitted_at=too_long_ago)))
    assert (status, problem["code"]) == (422, "backdated_too_far")
    assert await written(owner) == before


async def test_bad_move_is_refused_with_a_reason_and_leaves_no_trace(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    await house.move(code, "processing")
    before = await written(owner)
    for name, body in MALFORMED.items():
        status, problem, _ = await send(house, body, transitions(code))
        assert (status, problem["code"]) == (400, "malformed_json"), name
    for content, expected in (
        ({}, "invalid_content"),
        ({"to": None}, "invalid_content"),
        ({"to": 4}, "invalid_content"),
        ({"to": "processing", "status": "processing"}, "invalid_content"),
        ({"to": "processing", "note": "\0"}, "invalid_content"),
        ({"to": "processing", "expected_version": 0}, "invalid_content"),
        ({"to": "processing", "expected_version": 2**31}, "invalid_content"),
        ({"to": "processing", "at": "2026-03-16T09:00:00"}, "invalid_content"),
        ({"to": "processing", "at": "2026-02-30T09:00:00Z"}, "invalid_content"),
        ({"to": "processing", "at": "1989-12-31T00:00:00Z"}, "bad_date"),
        ({"to": "processing", "at": "2999-01-01T00:00:00Z"}, "bad_date"),
        ({"to": "processing", "at": "2021-01-01T00:00:00Z"}, "dates_out_of_order"),
        ({"to": "suspended"}, "reason_required"),
        ({"to": "supplement_required", "note": "x"}, "reason_required"),
        ({"to": "processing", "items": ["x"]}, "invalid_content"),
        ({"to": "processing", "outcome": "granted"}, "invalid_content"),
        ({"to": "processing", "note": "\u202e"}, "invalid_content"),
        ({"to": "done"}, "unknown_status"),
        ({"to": "done", "expected_version": 9}, "unknown_status"),
        ({"to": "processing", "agency": "G99.77"}, "unknown_agency"),
    ):
        status, problem = await house.hand_in("POST", transitions(code), content)
        assert (status, problem["code"]) == (422, expected), content
    assert await written(owner) == before


async def test_bad_number_is_refused_with_a_reason_and_leaves_no_trace(house: House, owner: Any) -> None:
    path = f"{DOSSIERS}/{(await house.receive())['code']}/official-number"
    before = await written(owner)
    for content, expected in (
        ({}, (422, "invalid_content")),
        ({"number": 1}, (422, "invalid_content")),
        ({"number": ""}, (422, "invalid_content")),
        ({"number": "x" * 65}, (422, "invalid_content")),
        ({"number": "1/2026/99901\0"}, (422, "invalid_content")),
        ({"number": "x"}, (400, "malformed_code")),
        ({"number": "1/2026/99901", "expected_version": 9}, (412, "version_mismatch")),
    ):
        status, problem = await house.hand_in("PUT", path, content)
        assert (status, problem["code"]) == expected, content
    for body in MALFORMED.values():
        status, _, _ = await send(house, body, path, method="PUT")
        assert status in {400, 422}
    assert await written(owner) == before


async def test_what_is_no_code_in_an_address_is_refused(house: House) -> None:
    for typed in ("x", "%00", "%FF", "..%2F..%2Fetc", "G99.01.01-260230-0001", "%27%20OR%201%3D1", "9" * 500):
        for method, path in (("GET", typed), ("POST", f"{typed}/transitions"), ("PUT", f"{typed}/official-number")):
            body = b'{"to": "processing"}' if method == "POST" else b'{"number": "1/2026/99901"}'
            status, problem, _ = await send(house, body, f"{DOSSIERS}/{path}", method=method)
            assert (status, problem["code"]) == (400, "malformed_code"), (method, typed)


async def test_body_of_two_megabytes_is_too_large(house: House, owner: Any) -> None:
    before = await written(owner)
    status, problem, _ = await send(house, io.BytesIO(b" " * 2_000_000))
    assert (status, problem["code"]) == (413, "too_large")
    assert await written(owner) == before


async def test_json_is_json_whatever_it_calls_itself(house: House) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"):
        status, _, _ = await send(house, json.dumps(submission()), Content_Type=kind)
        assert status == 201, kind


async def test_other_paths_and_methods_are_refused_in_our_words(house: House) -> None:
    for method, path, expected in (
        ("GET", DOSSIERS, (405, "method_not_allowed")),
        ("DELETE", UNKNOWN, (405, "method_not_allowed")),
        ("POST", f"{UNKNOWN}/official-number", (405, "method_not_allowed")),
        ("GET", "/", (404, "not_found")),
        ("POST", f"{UNKNOWN}/transitions/", (404, "not_found")),
    ):
        status, problem, _ = await send(house, None, path, method=method)
        assert (status, problem["code"]) == expected, (method, path)


async def test_while_postgres_is_away_a_request_is_put_off_and_never_called_wrong(database: Database) -> None:
    nowhere = "postgresql://writer:x@127.0.0.1:1/nowhere"
    async with intake_at(intake_settings(nowhere)) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        requests = [send(house, json.dumps(submission())), send(house, None, UNKNOWN, method="GET")]
        outcomes = Counter((status, problem["code"]) for status, problem, _ in await asyncio.gather(*requests))
    assert outcomes == {(503, "unavailable"): 2}


@pytest.mark.parametrize("number", ["G99.01.01-261120-0001", "000.00.01.G99-261120-0001"])
async def test_official_number_is_the_agencies_own_form(house: House, number: str) -> None:
    code = (await house.receive())["code"]
    status, problem = await house.hand_in("PUT", f"/api/v1/dossiers/{code}/official-number", {"number": number})
    assert (status, problem["code"]) == (422, "invalid_content")


async def test_case_a_service_does_not_have_is_refused_and_the_cases_are_named(house: House) -> None:
    status, problem = await house.hand_in("POST", "/api/v1/dossiers", submission(service_case="no such case"))
    assert (status, problem["code"]) == (422, "unknown_service")
    assert "default" in problem["detail"]

"""The lookup's JSON as a client sees it: addresses, conditions, views, refusals."""

import asyncio
import dataclasses
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from prometheus_client import REGISTRY
from yarl import URL

from lookup import lookup_key
from lookup.code import parse
from lookup.dossier import Shows
from lookup.lookup_key import KeyRing
from lookup.reading.access import DossierNotFound, DossierOrKeyNotFound
from lookup.reading.limits import Rate
from lookup.status import Status
from ops.errors import Malformed, Refusal
from ops.http.problems import HTTP_STATUS
from tests.conftest import KEY_SECRETS, Database
from tests.house import (
    AGENCY,
    SERVICE,
    House,
    intake_at,
    intake_settings,
    lookup_at,
    lookup_settings,
    new_token,
    remove,
    submission,
    until,
)
from tests.lookup.views import ADDED, ANYONE, HOLDER, STALE, just_received, only

UNKNOWN = "G99.01.01-200101-0001"
NOWHERE = "postgresql://reader:x@127.0.0.1:1/nowhere"
SENSITIVE, ORDINARY = "S.008", SERVICE
DIFFER = {"Date", "RateLimit"}
"""Headers in which two answers differ that say the same."""


@dataclass(frozen=True)
class Answer:
    """What came back, read to the end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
async def house(database: Database, redis_url: str) -> AsyncIterator[House]:
    """Lookup and intake; no relay, so that what a test changes behind their back is seen by asking Postgres alone."""
    async with (
        lookup_at(lookup_settings(database.reader_url, redis_url)) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        aiohttp.ClientSession() as http,
    ):
        yield House(lookup_url, intake_url, http, await new_token(database))


async def ask(
    house: House, path: str, method: str = "GET", *, at: str = "", data: Any = None, **headers: str
) -> Answer:
    """One request to the lookup (or to another one, `at` its URL), its path sent as it is spelt."""
    url = URL((at or house.lookup_url) + path, encoded=True)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with house.http.request(method, url, data=data, headers=names, allow_redirects=False) as response:
        return Answer(response.status, response.headers, await response.read())


async def lookups(house: House, *wanted: Any, at: str = "") -> list[dict[str, Any]]:
    """The results of one batch."""
    body = json.dumps({"dossiers": wanted})
    answer = await ask(house, "/api/v1/lookups", "POST", at=at, data=body)
    assert answer.status == 200, answer.body
    return list(answer.json["results"])


def address(code: str) -> str:
    return f"/api/v1/dossiers/{code.replace('/', '-')}"


def limited() -> float:
    """How many answers to wrong keys have been refused so far."""
    return REGISTRY.get_sample_value("lookup_limited_total", {"rate": Rate.WRONG_KEY.allowance.word}) or 0.0


async def received_after_a_guess(house: House, **fields: Any) -> dict[str, Any]:
    """A dossier whose code was guessed and asked for just before it was issued; the public is told that there is none.

    There is no relay, so nothing puts that right before it is too old. A slow machine tries again.
    """
    receipt = await house.receive(**fields)
    while True:
        guessed = re.sub(r"^\d+(?=/)|(?<=-)\d+$", lambda n: f"{int(n[0]) + 1:0{len(n[0])}d}", receipt["code"])
        assert (await ask(house, address(guessed))).status == 404
        receipt = await house.receive(**fields)
        assert receipt["code"] == guessed
        if (await ask(house, address(guessed))).status == 404:
            return receipt


async def received_in_scheme_d(house: House, database: Database) -> dict[str, Any]:
    """A dossier handed in at an intake that numbers like the social-insurance agencies do."""
    async with intake_at(intake_settings(database.writer_url, code_scheme="D")) as url:
        return await dataclasses.replace(house, intake_url=url).receive(agency="99901")


# -- addresses ---------------------------------------------------------------------------------------------


async def test_any_spelling_leads_to_the_canonical_address_whether_or_not_it_exists(house: House) -> None:
    for typed, canonical in {
        "g99.01.01-200101-0001": UNKNOWN,
        "G99.01.01%20200101%200001": UNKNOWN,
        "%20G99.01.01-200101-0001": UNKNOWN,
        "G99.01.01%E2%80%93200101%E2%80%930001": UNKNOWN,
        "G99.01.01-2OO1O1-OOO1": UNKNOWN,
        "01234%2F2026%2F99901": "01234-2026-99901",
        "01234%2f2026%2f99901": "01234-2026-99901",
        "01234/2026/99901": "01234-2026-99901",
        "1234-2026-99901": "01234-2026-99901",
    }.items():
        answer = await ask(house, f"/api/v1/dossiers/{typed}")
        assert (answer.status, answer.headers["Location"]) == (301, f"/api/v1/dossiers/{canonical}"), typed


async def test_redirect_keeps_at_least_and_nothing_else(house: House) -> None:
    answer = await ask(house, "/api/v1/dossiers/g99.01.01-200101-0001?at_least=3&key=secret&x=1")
    assert answer.headers["Location"] == f"{address(UNKNOWN)}?at_least=3"


async def test_what_is_no_code_is_refused_with_a_hint(house: House) -> None:
    for typed in ("x", "%00", "%FF", "..%2f..%2fetc%2fpasswd", "G99.01.01-260230-0001", "9" * 500, "%27%20OR%201%3D1"):
        answer = await ask(house, f"/api/v1/dossiers/{typed}")
        assert (answer.status, answer.json["code"]) == (400, "malformed_code"), typed
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_unknown_dossier_is_a_problem_document(house: House) -> None:
    answer = await ask(house, address(UNKNOWN), X_Request_Id="test-1")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert answer.json == {
        "type": "urn:hoso24:problem:dossier_not_found",
        "title": "There is no application with this code in this system yet.",
        "status": 404,
        "code": "dossier_not_found",
        "request_id": "test-1",
    }


async def test_problem_speaks_vietnamese_to_whoever_prefers_it(house: House) -> None:
    answer = await ask(house, address(UNKNOWN), Accept_Language="vi-VN,en;q=0.5")
    assert answer.headers["Content-Language"] == "vi"
    assert answer.json["title"] == "Hệ thống này chưa có hồ sơ mang mã này."


async def test_other_paths_and_methods_are_refused_in_our_words(house: House) -> None:
    assert (await ask(house, "/api/v1/nothing")).json["code"] == "not_found"
    for method, path, allowed in (
        ("PUT", address(UNKNOWN), {"GET", "HEAD"}),
        ("DELETE", address(UNKNOWN), {"GET", "HEAD"}),
        ("GET", "/api/v1/lookups", {"POST"}),
    ):
        answer = await ask(house, path, method)
        assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(",")) == allowed


async def test_dossier_that_was_removed_is_one_there_is_not(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    await remove(owner, code)
    assert (await ask(house, address(code))).status == 404


# -- the anonymous view ------------------------------------------------------------------------------------


async def test_fresh_answer_says_how_fresh_in_headers_and_nothing_of_staleness(house: House) -> None:
    receipt = await house.receive()
    for source in ("hoso24; fwd=miss; stored", "hoso24; hit"):
        answer = await ask(house, address(receipt["code"]))
        assert (answer.status, answer.json) == (200, only(ANYONE, just_received(receipt)))
        assert answer.headers["Cache-Control"] == "public, no-cache"
        assert answer.headers["Vary"] == "Hoso24-Key"
        assert answer.headers["Cache-Status"] == source
        assert int(answer.headers["Age"]) <= 60


async def test_every_answer_carries_the_protective_headers(house: House) -> None:
    code = (await house.receive())["code"]
    for path in (address(code), address(UNKNOWN), address(code.lower()), "/api/v1/statuses", "/nothing"):
        headers = (await ask(house, path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert headers["Server"] == "hoso24", path
        assert headers["X-Request-Id"], path


async def test_head_says_what_get_says_without_the_body(house: House) -> None:
    code = (await house.receive())["code"]
    await ask(house, address(code))
    get, head = await ask(house, address(code)), await ask(house, address(code), "HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Cache-Control", "Vary"):
        assert head.headers[name] == get.headers[name]
    assert (await ask(house, address(UNKNOWN), "HEAD")).status == 404


async def test_client_that_holds_this_version_is_not_sent_it_again(house: House) -> None:
    code = (await house.receive())["code"]
    tag = (await ask(house, address(code))).headers["ETag"]
    for held, status in {
        tag: 304,
        f"W/{tag}": 304,
        f'"other", W/"another", {tag}': 304,
        "*": 304,
        '"other"': 200,
        tag.replace("1-", "2-", 1): 200,
        tag.strip('"'): 200,
        "": 200,
        '"': 200,
    }.items():
        answer = await ask(house, address(code), If_None_Match=held)
        assert answer.status == status, held
        assert answer.headers["ETag"] == tag
        assert answer.headers["Cache-Control"] == "public, no-cache"
        assert bool(answer.body) == (status == 200)


async def test_tag_changes_with_the_version(house: House) -> None:
    code = (await house.receive())["code"]
    before = await ask(house, address(code))
    await house.move(code, "processing")
    after = await ask(house, f"{address(code)}?at_least=2")
    assert after.json["version"] == 2
    assert (await ask(house, address(code), If_None_Match=before.headers["ETag"])).status == 200


async def test_sensitive_service_is_never_anonymous(house: House, database: Database, redis_url: str) -> None:
    sensitive, ordinary = [await house.receive(service=each) for each in (SENSITIVE, ORDINARY)]
    settings = lookup_settings(database.reader_url, redis_url, anonymous_shows=("service", "agency", "dates"))
    async with lookup_at(settings) as talkative:
        shown = (*ANYONE, *ADDED[Shows.DATES], *ADDED[Shows.AGENCY])
        answer = await ask(house, address(ordinary["code"]), at=talkative)
        assert answer.json == only((*shown, *ADDED[Shows.SERVICE]), just_received(ordinary))
        answer = await ask(house, address(sensitive["code"]), at=talkative)
        (batched,) = await lookups(house, {"code": sensitive["code"]}, at=talkative)
        assert answer.json == batched["dossier"] == only(shown, just_received(sensitive))


async def test_applicant_is_in_no_answer(house: House) -> None:
    applicant = {"name": "Trần Thị Hư Cấu", "id": "999000000077", "phone": "0000000077", "address": "Ngõ Không Có"}
    receipt = await house.receive(applicant=applicant, subject="Chuyện riêng", officer="Cán bộ Mẫu")
    anonymous = await ask(house, address(receipt["code"]))
    holder = await ask(house, address(receipt["code"]), Hoso24_Key=receipt["lookup_key"])
    for answer in (anonymous, holder):
        assert answer.status == 200
        text = answer.body.decode()
        assert not [value for value in (*applicant.values(), "Chuyện riêng", "Cán bộ Mẫu") if value in text]


async def test_statuses_are_listed_with_their_moves(house: House) -> None:
    answer = await ask(house, "/api/v1/statuses")
    listed = {each["status"]: each for each in answer.json["statuses"]}
    assert list(listed) == [status.slug for status in Status]
    assert listed["completed"]["next"] == ["processing", "returned"]
    returned = listed["returned"]
    assert (returned["status_number"], returned["final"], returned["completion"], returned["next"]) == (
        10,
        True,
        1.0,
        [],
    )
    assert (returned["name"], returned["name_en"]) == ("Đã trả kết quả", "Result handed over")
    for word in ("explained", "explained_en", "next_step", "next_step_en"):
        assert returned[word]


# -- at_least ----------------------------------------------------------------------------------------------


async def test_at_least_takes_a_positive_version_only(house: House) -> None:
    code = (await house.receive())["code"]
    for text in (
        "",
        "0",
        "-1",
        "1.0",
        "1e3",
        "+1",
        "x",
        "2147483648",
        "9" * 30,
        "00000000001",
        "%D9%A1",
        "1%00",
        "1_0",
    ):
        answer = await ask(house, f"{address(code)}?at_least={text}")
        assert (answer.status, answer.json["code"]) == (400, "malformed"), text


async def test_at_least_is_met_from_postgres_when_the_cache_is_behind(house: House) -> None:
    code = (await house.receive())["code"]
    assert (await ask(house, address(code))).json["version"] == 1
    await house.move(code, "processing")
    answer = await ask(house, f"{address(code)}?at_least=2")
    assert (answer.status, answer.json["version"]) == (200, 2)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


async def test_version_that_is_not_there_yet_is_412_with_the_one_that_is(house: House) -> None:
    code = (await house.receive())["code"]
    answer = await ask(house, f"{address(code)}?at_least=7")
    assert (answer.status, answer.json["code"], answer.json["version"]) == (412, "version_not_reached", 1)
    assert answer.headers["Cache-Control"] == "no-store"
    answer = await ask(house, f"{address(UNKNOWN)}?at_least=1")
    assert (answer.status, answer.json["code"]) == (404, "dossier_not_found")


# -- the holder's view -------------------------------------------------------------------------------------


async def test_key_opens_the_holders_view_and_nothing_may_keep_it(house: House) -> None:
    receipt = await house.receive(department="Một cửa (hư cấu)")
    answer = await ask(house, address(receipt["code"]), Hoso24_Key=receipt["lookup_key"].lower().replace("-", " "))
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "ETag" not in answer.headers
    known = just_received(receipt)
    timeline = [known["timeline"][0] | {"department": "Một cửa (hư cấu)"}]
    assert answer.json == only(HOLDER, known | {"timeline": timeline})


async def test_holder_finds_the_dossier_though_its_code_was_asked_for_before_it_was_issued(house: House) -> None:
    receipt = await received_after_a_guess(house)
    path = address(receipt["code"])
    holder = await ask(house, path, Hoso24_Key=receipt["lookup_key"])
    assert (holder.status, holder.json["receipt"]["number"]) == (200, receipt["code"])
    assert (await ask(house, path)).status == 200


async def test_batch_with_the_key_finds_it_too(house: House) -> None:
    receipt = await received_after_a_guess(house)
    with_key, unknown = await lookups(house, {"code": receipt["code"], "key": receipt["lookup_key"]}, {"code": UNKNOWN})
    assert (with_key["dossier"]["version"], unknown["error"]) == (1, "dossier_not_found")


async def test_whoever_names_the_receipts_version_finds_it_at_once(house: House) -> None:
    receipt = await received_after_a_guess(house)
    assert (await ask(house, f"{address(receipt['code'])}?at_least={receipt['version']}")).status == 200


async def test_both_find_it_in_scheme_d_too(house: House, database: Database) -> None:
    async with intake_at(intake_settings(database.writer_url, code_scheme="D")) as url:
        numbered = dataclasses.replace(house, intake_url=url)
        first, second = [await received_after_a_guess(numbered, agency="99901") for _ in range(2)]
    assert (await ask(house, address(first["code"]), Hoso24_Key=first["lookup_key"])).status == 200
    assert (await ask(house, f"{address(second['code'])}?at_least=1")).status == 200


async def test_right_key_of_a_lost_dossier_is_charged_as_a_missing_code_and_not_as_a_wrong_key(house: House) -> None:
    """After a restore there are receipts of dossiers that no store has any more."""
    key, before = KeyRing.from_text(KEY_SECRETS).key(parse(UNKNOWN)), limited()
    for _ in range(40):  # wrong ones are refused from the thirty-first on
        answer = await ask(house, address(UNKNOWN), Hoso24_Key=key)
        assert (answer.status, answer.json["code"]) == (404, "dossier_or_key_not_found")
    assert limited() == before


async def test_key_in_the_query_opens_nothing(house: House) -> None:
    receipt = await house.receive()
    answer = await ask(house, f"{address(receipt['code'])}?key={receipt['lookup_key']}")
    assert (answer.status, answer.json) == (200, only(ANYONE, just_received(receipt)))


async def test_wrong_key_looks_the_same_for_a_known_and_an_unknown_code(house: House, database: Database) -> None:
    known, other = await house.receive(), await house.receive()
    numbered = await received_in_scheme_d(house, database)
    for code, unknown in ((known["code"], UNKNOWN), (numbered["code"], "77777/2026/99901")):
        answers = [
            await ask(house, address(each), Hoso24_Key=other["lookup_key"], X_Request_Id="same")
            for each in (code, unknown)
        ]
        first, second = [
            (a.status, sorted(h for h in a.headers.items() if h[0] not in DIFFER), a.body) for a in answers
        ]
        assert first == second
        assert (answers[0].status, answers[0].json["code"]) == (404, "dossier_or_key_not_found")


async def test_dossier_numbered_in_scheme_d_opens_with_its_own_key(house: House, database: Database) -> None:
    receipt = await received_in_scheme_d(house, database)
    answer = await ask(house, address(receipt["code"]), Hoso24_Key=receipt["lookup_key"])
    assert (answer.status, answer.json["code"]) == (200, receipt["code"])
    assert receipt["receipt"]["link"].partition("?")[0].endswith(f"/tra-cuu/{receipt['code'].replace('/', '-')}")


async def test_mistyped_key_is_told_from_a_wrong_one(house: House) -> None:
    receipt = await house.receive()
    for key in ("", "x", receipt["lookup_key"][:-1] + "Z" if receipt["lookup_key"][-1] != "Z" else "0" * 15):
        answer = await ask(house, address(receipt["code"]), Hoso24_Key=key)
        assert (answer.status, answer.json["code"]) == (400, "malformed_key")


async def test_superseded_key_is_refused_and_the_new_one_opens(database: Database, redis_url: str, owner: Any) -> None:
    settings = lookup_settings(database.reader_url, redis_url, soft_age=0.2)
    async with (
        lookup_at(settings) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        aiohttp.ClientSession() as http,
    ):
        house = House(lookup_url, intake_url, http, await new_token(database))
        receipt = await house.receive()
        path, old = address(receipt["code"]), receipt["lookup_key"]
        assert (await ask(house, path, Hoso24_Key=old)).status == 200
        await owner.execute("UPDATE dossier SET key_serial = 1 WHERE code = $1", receipt["code"])

        async def refused() -> bool:
            answer = await ask(house, path, Hoso24_Key=old)
            return answer.status == 404 and answer.json["code"] == "dossier_or_key_not_found"

        await until(refused)
        new = KeyRing.from_text(KEY_SECRETS).key(parse(receipt["code"]), 1)
        assert (await ask(house, path, Hoso24_Key=new)).status == 200


async def test_official_number_answers_in_place_and_names_the_canonical_address(house: House) -> None:
    receipt = await house.receive()
    status, _ = await house.hand_in("PUT", f"{address(receipt['code'])}/official-number", {"number": "4321/2026/99901"})
    assert status == 200
    for headers in ({}, {"Hoso24_Key": receipt["lookup_key"]}):
        answer = await ask(house, "/api/v1/dossiers/04321-2026-99901", **headers)
        assert (answer.status, answer.json["code"]) == (200, receipt["code"])
        assert answer.headers["Link"] == f'<{address(receipt["code"])}>; rel="canonical"'
    wrong = (await house.receive())["lookup_key"]
    assert (await ask(house, "/api/v1/dossiers/04321-2026-99901", Hoso24_Key=wrong)).status == 404


# -- batches -----------------------------------------------------------------------------------------------


def malformed(read: Any, text: str) -> Refusal:
    """How this text is refused where it is read."""
    with pytest.raises(Malformed) as refusal:
        read(text)
    return refusal.value


def refused(code: str, refusal: Refusal) -> dict[str, Any]:
    """A refused item of a batch: what the single lookup would have said."""
    told = {"code": code, "error": refusal.code, "status": HTTP_STATUS[refusal.kind], "title": refusal.title}
    return told | ({"detail": refusal.detail} if refusal.detail else {})


async def test_batch_answers_each_item_in_the_order_asked(house: House) -> None:
    first, second = await house.receive(), await house.receive()
    results = await lookups(
        house,
        {"code": second["code"].lower()},
        {"code": UNKNOWN},
        {"code": "nonsense"},
        {"code": first["code"], "key": first["lookup_key"]},
        {"code": first["code"], "key": second["lookup_key"]},
        {"code": first["code"], "key": "short"},
        {"code": first["code"], "key": None},
        {"code": second["code"]},
    )
    assert results == [
        {"code": second["code"].lower(), "dossier": only(ANYONE, just_received(second))},
        refused(UNKNOWN, DossierNotFound()),
        refused("nonsense", malformed(parse, "nonsense")),
        {"code": first["code"], "dossier": only(HOLDER, just_received(first))},
        refused(first["code"], DossierOrKeyNotFound()),
        refused(first["code"], malformed(lookup_key.canonical, "short")),
        {"code": first["code"], "dossier": only(ANYONE, just_received(first))},
        {"code": second["code"], "dossier": only(ANYONE, just_received(second))},
    ]


async def test_hundred_dossiers_are_one_batch_and_one_more_is_refused(house: House) -> None:
    code = (await house.receive())["code"]
    hundred = [{"code": code}] * 100
    assert len(await lookups(house, *hundred)) == 100
    for wanted in ([], [*hundred, {"code": code}]):
        answer = await ask(house, "/api/v1/lookups", "POST", data=json.dumps({"dossiers": wanted}))
        assert (answer.status, answer.json["code"]) == (400, "malformed_lookups")


async def test_malformed_batch_is_refused_and_never_an_accident(house: House) -> None:
    bodies: list[bytes] = [
        b"",
        b"not json",
        b'{"dossiers":',
        b"[]",
        b"null",
        b"{}",
        b'{"dossiers": null}',
        b'{"dossiers": {"code": "x"}}',
        b'{"dossiers": ["G99.01.01-200101-0001"]}',
        b'{"dossiers": [{"code": 1}]}',
        b'{"dossiers": [{"key": "x"}]}',
        b'{"dossiers": [{"code": "x", "key": 1}]}',
        b'{"dossiers": [{"code": "x", "secret": 1}]}',
        b'{"dossiers": [{"code": "x"}], "page": 1}',
        b'{"dossiers": [{"code": "\xff"}]}',
        b'{"dossiers": [{"code": "\\ud800"}]}',
        b"[" * 100_000,
        b'{"dossiers":' + b"[" * 100_000,
        b'{"x":' * 100_000,
        b"\xef\xbb\xbf{}",
    ]
    for body in bodies:
        answer = await ask(house, "/api/v1/lookups", "POST", data=body)
        assert (answer.status, answer.json["code"]) == (400, "malformed_lookups"), body[:40]
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_body_of_two_megabytes_is_too_large(house: House) -> None:
    answer = await ask(house, "/api/v1/lookups", "POST", data=io.BytesIO(b" " * 2_000_000))
    assert (answer.status, answer.json["code"]) == (413, "too_large")


async def test_batch_may_not_be_kept(house: House) -> None:
    answer = await ask(house, "/api/v1/lookups", "POST", data=json.dumps({"dossiers": [{"code": UNKNOWN}]}))
    assert answer.headers["Cache-Control"] == "no-store"


# -- when Postgres is away ---------------------------------------------------------------------------------


async def test_old_copy_goes_out_marked_and_may_not_be_kept(house: House, redis_url: str) -> None:
    before = datetime.now(UTC)
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    assert (await ask(house, address(code))).status == 200
    after = datetime.now(UTC)
    async with lookup_at(lookup_settings(NOWHERE, redis_url, soft_age=0.01)) as cut_off:

        async def marked() -> Answer | None:
            answer = await ask(house, address(code), at=cut_off)
            return answer if "stale" in answer.json else None

        answer = await until(marked)
        holder = await ask(house, address(code), at=cut_off, Hoso24_Key=key)
        batched = await lookups(house, {"code": code}, {"code": code, "key": key}, at=cut_off)
        conditional = await ask(house, address(code), at=cut_off, If_None_Match="*")
    as_of = answer.json["as_of"]
    assert as_of.endswith("+07:00")
    assert before <= datetime.fromisoformat(as_of) <= after
    # The catalogue is in PostgreSQL, which this lookup has never reached: codes stand alone.
    service, agency = [{"code": code, "name": None, "name_en": None} for code in (SERVICE, AGENCY)]
    known = just_received(receipt, agency, service=service, stale=True, as_of=as_of)
    anyones, holders = only((*ANYONE, *STALE), known), only((*HOLDER, *STALE), known)
    assert answer.json == conditional.json == anyones
    assert holder.json == holders
    assert batched == [{"code": code, "dossier": anyones}, {"code": code, "dossier": holders}]
    assert answer.status == conditional.status == holder.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert holder.headers["Cache-Control"] == "private, no-store"


async def test_unknown_code_is_503_and_never_a_false_404(house: House, redis_url: str) -> None:
    async with lookup_at(lookup_settings(NOWHERE, redis_url)) as cut_off:
        for path in (address(UNKNOWN), "/api/v1/dossiers/01234-2026-99901"):
            answer = await ask(house, path, at=cut_off)
            assert (answer.status, answer.json["code"]) == (503, "status_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        (batched,) = await lookups(house, {"code": UNKNOWN}, at=cut_off)
        assert batched["error"] == "status_unavailable"


async def test_wrong_key_is_refused_though_nothing_can_be_read(house: House, redis_url: str) -> None:
    key = (await house.receive())["lookup_key"]
    async with lookup_at(lookup_settings(NOWHERE, redis_url)) as cut_off:
        assert (await ask(house, address(UNKNOWN), at=cut_off, Hoso24_Key=key)).status == 404


# -- load --------------------------------------------------------------------------------------------------


async def test_many_lookups_at_once_each_get_their_own_dossier(house: House) -> None:
    codes = [(await house.receive())["code"] for _ in range(20)]
    answers = await asyncio.gather(*(ask(house, address(code)) for code in codes * 5))
    assert [answer.json["code"] for answer in answers] == codes * 5
    assert submission()["applicant"]["id"].encode() not in b"".join(answer.body for answer in answers)

"""Papers over HTTP: which change issues which, under what number, with what content and stamp; and what issues none."""

import asyncio
import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest

from intake.books.paper_rows import content_of
from intake.books.verify import verify
from intake.papers import keys
from intake.rules.papers import Content
from lookup.paper_stamp import PublicKeys
from tests.conftest import Database
from tests.house import ADD_SANDBOX, AGENCY, House, intake_at, intake_settings, new_client, new_token, submission

PAPERS = """
SELECT p.*, p.content::text AS content, e.kind, e.paper AS sealed
  FROM paper AS p
  JOIN event AS e ON (e.code, e.version) = (p.code, p.version)
 ORDER BY e.recorded_at, p.version
"""
AT_ONCE = """
INSERT INTO service_time (service, service_case, channel, valid_from, at_once)
VALUES ('S.004', 'now', 'direct', '2020-01-01', true)
"""
YEAR = date.today().year
ISSUER = "BHXH Xứ Mẫu (hư cấu)"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A key that stamps papers, and the file of public keys."""
    key_file, public_keys = tmp_path / "paper-key.pem", tmp_path / "paper-keys.json"
    assert keys.make(key_file, public_keys, issuer=ISSUER, since=date(2026, 12, 1)) == 1
    return key_file, public_keys


@pytest.fixture
async def house(database: Database, files: tuple[Path, Path]) -> AsyncIterator[House]:
    """The intake alone, with a key for papers."""
    key_file, public_keys = files
    settings = intake_settings(database.writer_url, paper_key_file=key_file, paper_public_keys=public_keys)
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, await new_token(database))


async def papers(owner: Any) -> list[Any]:
    """All papers that were issued, in order, with their events: each fits its own and has its digest."""
    rows: list[Any] = await owner.fetch(PAPERS)
    for row in rows:
        assert row["sealed"] == row["digest"] == hashlib.sha256(row["content"].encode()).digest()
    return rows


async def only_paper(owner: Any) -> Content:
    """What the one paper says that was issued."""
    (row,) = await papers(owner)
    content = content_of(row)
    assert content is not None
    return content


def named(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """The forms and numbers of the papers in an answer."""
    assert all(each["year"] == YEAR for each in answer["papers"])
    return [(each["form"], each["number"]) for each in answer["papers"]]


async def post(house: House, code: str, path: str, content: Any, **headers: str) -> tuple[int, Any]:
    return await house.hand_in("POST", f"/api/v1/dossiers/{code}/{path}", content, **headers)


# -- which change issues which -----------------------------------------------------------------------------


async def test_reception_at_the_counter_issues_a_receipt_with_everything_on_it(house: House, owner: Any) -> None:
    on_receipt = {
        "documents": [{"name": "Sổ BHXH (ví dụ)", "copies": "01 bản chính"}],
        "sets": 1,
        "result_by": "post",
        "representative": {"name": "Trần Văn Được (hư cấu)", "authority": "Giấy ủy quyền (ví dụ)"},
    }
    person = {"name": "Nguye\u0302\u0303n Thị Mẫu", "id": "999000000077", "address": "Thôn Mẫu"}
    answer = await house.receive(applicant=person, subject="Cấp sổ", officer="Bình", on_receipt=on_receipt)
    assert named(answer) == [("receipt", 1)]
    said = await only_paper(owner)
    assert (said.format, said.form, said.number, said.year, said.version) == ("hoso24/paper-1", "receipt", 1, YEAR, 1)
    assert (said.code, said.service, said.officer, said.subject) == (answer["code"], "S.004", "Bình", "Cấp sổ")
    assert (said.applicant.name, said.applicant.id) == ("Nguyễn Thị Mẫu", "999000000077")
    assert (said.agency.code, said.office) == (AGENCY, None)
    assert said.agency.above
    assert said.received_at is not None
    assert (said.received_at.isoformat(), said.due_at and said.due_at.isoformat()) == (
        answer["receipt"]["received_at"],
        answer["due_at"],
    )
    assert said.limit is not None
    assert said.limit.working_hours == 80
    assert list(msgspec.to_builtins(said.documents)) == on_receipt["documents"]
    assert (said.sets, said.result_by) == (1, "post")
    assert said.representative is not None
    assert said.representative.name == "Trần Văn Được (hư cấu)"


async def test_online_application_has_its_receipt_with_the_acceptance_only(house: House, owner: Any) -> None:
    submitted = await house.receive(channel="online")
    assert "papers" not in submitted
    assert await papers(owner) == []
    answer = await house.move(submitted["code"], "received", on_receipt={"result_by": "electronic"})
    assert named(answer) == [("receipt", 1)]
    said = await only_paper(owner)
    assert (said.version, said.result_by) == (2, "electronic")
    assert said.documents[0].name == "Tờ khai theo mẫu"  # as the catalogue asks for
    assert "papers" not in await house.move(submitted["code"], "processing")


@pytest.mark.parametrize(
    ("channel", "to", "form"),
    [
        ("online", "rejected", "refusal"),
        ("online", "supplement_required", "supplement"),
        ("online", "withdrawn", "stop"),
    ],
)
async def test_move_before_acceptance_issues_its_paper(
    house: House, owner: Any, channel: str, to: str, form: str
) -> None:
    code = (await house.receive(channel=channel))["code"]
    answer = await house.move(code, to, note="Thiếu tờ khai (ví dụ).", officer="Bình")
    assert named(answer) == [(form, 1)]
    said = await only_paper(owner)
    assert (said.form, said.reason, said.received_at, said.due_at) == (form, "Thiếu tờ khai (ví dụ).", None, None)
    assert said.items == (("Bản sao sổ bảo hiểm (ví dụ)",) if form == "supplement" else ())


async def test_each_form_is_numbered_by_itself_and_each_agency_too(house: House, owner: Any) -> None:
    one = await house.receive()
    two = await house.receive()
    far = await house.receive(agency="G99.02")
    assert [named(each) for each in (one, two, far)] == [[("receipt", 1)], [("receipt", 2)], [("receipt", 1)]]
    assert named(await house.move(one["code"], "supplement_required")) == [("supplement", 1)]
    assert named(await house.move(two["code"], "suspended")) == [("stop", 1)]
    assert named(await house.move(one["code"], "withdrawn")) == [("stop", 2)]
    rows = await papers(owner)
    assert [row["agency"] for row in rows] == [AGENCY, AGENCY, "G99.02", AGENCY, AGENCY, AGENCY]


async def test_new_due_date_issues_an_apology_with_both_dates(house: House, owner: Any) -> None:
    received = await house.receive()
    later = {"due_at": "2027-03-31T16:00:00+07:00", "reason": "Chờ xác minh (ví dụ)."}
    status, answer = await post(house, received["code"], "re-appointments", later)
    assert (status, named(answer)) == (200, [("apology", 1)])
    said = content_of((await papers(owner))[-1])
    assert said is not None
    assert (said.reason, said.due_at and said.due_at.isoformat()) == (later["reason"], later["due_at"])
    assert said.due_before is not None
    assert said.due_before.isoformat() == received["due_at"]


async def test_apology_without_a_date_and_control_slip_are_events_of_their_own(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    assert (await post(house, code, "papers", {"form": "apology"}))[1]["code"] == "reason_required"
    status, apology = await post(house, code, "papers", {"form": "apology", "reason": "Chậm (ví dụ)."})
    assert (status, apology["version"], named(apology)) == (200, 2, [("apology", 1)])
    for to in ("processing", "completed", "returned"):
        await house.move(code, to)
    status, slip = await post(house, code, "papers", {"form": "control", "expected_version": 5})
    assert (status, slip["version"], named(slip)) == (200, 6, [("control", 1)])
    refused = await post(house, code, "papers", {"form": "apology", "reason": "Chậm (ví dụ)."})
    assert (refused[0], refused[1]["code"]) == (409, "move_not_allowed")
    rows = await papers(owner)
    assert [(row["form"], row["kind"]) for row in rows] == [
        ("receipt", "received"),
        ("apology", "paper_issued"),
        ("control", "paper_issued"),
    ]
    said = content_of(rows[-1])
    assert said is not None
    assert [(step.kind, step.state, step.agency) for step in said.steps] == [
        ("work", "done", AGENCY),
        ("hand_over", "done", AGENCY),
    ]
    detail = await owner.fetchval("SELECT detail FROM event WHERE code = $1 AND version = 6", code)
    assert msgspec.json.decode(detail) == {"form": "control", "number": 1}


async def test_corrected_name_issues_the_receipt_anew_and_it_says_which_it_replaces(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    correction = {"reason": "Ghi sai (ví dụ).", "applicant": {"name": "Nguyễn Văn Đúng (hư cấu)"}}
    status, answer = await post(house, code, "corrections", correction)
    assert (status, named(answer)) == (200, [("receipt", 2)])
    said = content_of((await papers(owner))[-1])
    assert said is not None
    assert (said.applicant.name, said.replaces) == ("Nguyễn Văn Đúng (hư cấu)", said.replaces)
    assert said.replaces is not None
    assert (said.replaces.number, said.replaces.year) == (1, YEAR)


async def test_dossier_without_a_receipt_has_none_after_a_correction(house: House, owner: Any) -> None:
    code = (await house.receive(channel="online"))["code"]
    correction = {"reason": "Ghi sai (ví dụ).", "applicant": {"name": "Nguyễn Văn Đúng (hư cấu)"}}
    assert "papers" not in (await post(house, code, "corrections", correction))[1]
    assert await papers(owner) == []


async def test_result_at_once_has_a_receipt_only_where_one_is_wanted(
    database: Database, owner: Any, files: tuple[Path, Path]
) -> None:
    await owner.execute(AT_ONCE)
    key_file, public_keys = files
    settings = intake_settings(database.writer_url, paper_key_file=key_file, paper_public_keys=public_keys)
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        wanted: dict[str, Any] = {"service_case": "now", "result": "at_once"}
        assert "papers" not in await house.receive(**wanted)
        assert named(await house.receive(**wanted, receipt=True)) == [("receipt", 1)]
    said = await only_paper(owner)
    assert said.limit is not None
    assert said.limit.at_once


async def test_sandbox_has_no_papers(database: Database, owner: Any, files: tuple[Path, Path]) -> None:
    await owner.execute(ADD_SANDBOX)
    key_file, public_keys = files
    settings = intake_settings(database.writer_url, paper_key_file=key_file, paper_public_keys=public_keys)
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database, "X99"))
        answer = await house.receive(agency="X99.03")
        assert "papers" not in answer
        status, refused = await post(house, answer["code"], "papers", {"form": "control"})
        assert (status, refused["code"]) == (409, "no_papers")
    assert await papers(owner) == []


# -- what a content never has, and how it is spelt ---------------------------------------------------------


async def test_content_has_no_lookup_key_and_is_canonical(house: House, owner: Any) -> None:
    answer = await house.receive(applicant={"name": 'Nguye\u0302\u0303n <script>#read("x") $x$ \\ \u2028'})
    (row,) = await papers(owner)
    assert answer["lookup_key"] not in row["content"]
    assert answer["lookup_key"].replace("-", "") not in row["content"]
    assert "key" not in row["content"]
    assert unicodedata.is_normalized("NFC", row["content"])
    assert not any(isinstance(value, float) for value in msgspec.json.decode(row["content"]).values())


async def test_same_paper_twice_has_another_digest_since_its_nonce_is_random(house: House, owner: Any) -> None:
    for _ in range(2):
        await house.receive()
    first, second = (msgspec.json.decode(row["content"])["nonce"] for row in await papers(owner))
    assert first != second
    assert len(first) == 32


# -- numbers -----------------------------------------------------------------------------------------------


async def test_same_key_again_gives_the_same_number(house: House, owner: Any) -> None:
    once = {"Idempotency-Key": "k-1"}
    first = await house.hand_in("POST", "/api/v1/dossiers", submission(), **once)
    again = await house.hand_in("POST", "/api/v1/dossiers", submission(), **once)
    assert first == again
    assert named(again[1]) == [("receipt", 1)]
    assert len(await papers(owner)) == 1


async def test_two_officers_who_decide_at_once_make_one_paper(house: House, owner: Any) -> None:
    code = (await house.receive(channel="online"))["code"]
    decisions = [{"to": "received", "expected_version": 1}, {"to": "rejected", "note": "x", "expected_version": 1}]
    answers = await asyncio.gather(*(post(house, code, "transitions", each) for each in decisions * 3))
    assert sorted(status for status, _ in answers) == [200, 412, 412, 412, 412, 412]
    assert len(await papers(owner)) == 1


async def test_change_that_is_refused_uses_no_number(house: House, owner: Any) -> None:
    online = await house.receive(channel="online")
    refused = await house.hand_in("POST", "/api/v1/dossiers", submission(submitted_at="2019-01-01T09:00:00+07:00"))
    assert refused[0] == 422
    assert (await post(house, online["code"], "transitions", {"to": "completed"}))[0] == 409
    assert named(await house.receive()) == [("receipt", 1)]


async def test_many_at_once_are_numbered_without_a_gap(house: House, owner: Any) -> None:
    answers = await asyncio.gather(*(house.receive() for _ in range(20)))
    assert sorted(named(each)[0][1] for each in answers) == list(range(1, 21))


# -- stamps and the list -----------------------------------------------------------------------------------


async def test_list_has_stamps_that_public_keys_verify_and_is_logged(
    house: House, owner: Any, files: tuple[Path, Path]
) -> None:
    answer = await house.receive()
    await house.move(answer["code"], "supplement_required")
    url = f"{house.intake_url}/api/v1/dossiers/{answer['code']}/papers"
    async with house.http.get(url, headers={"Authorization": f"Bearer {house.token}"}) as response:
        listed = await response.json()
    public = PublicKeys.from_json(files[1].read_bytes())
    receipt, supplement = listed["papers"]
    stamped = public.verified(receipt["stamp"])
    assert (stamped.code.text, stamped.stamp.form, stamped.key.issuer) == (answer["code"], "receipt", ISSUER)
    assert stamped.stamp.digest.hex() == receipt["digest"][:32]
    assert stamped.stamp.due_at is not None
    assert public.verified(supplement["stamp"]).stamp.form == "supplement"
    assert (receipt["form"], receipt["number"], receipt["altered"], receipt["erased"]) == ("receipt", 1, False, False)
    reads = await owner.fetch("SELECT code, screen FROM personal_read")
    assert [tuple(row) for row in reads] == [(answer["code"], "papers")]


async def test_altered_and_erased_content_is_told_and_has_no_stamp(house: House, owner: Any) -> None:
    answer = await house.receive()
    await house.move(answer["code"], "supplement_required")
    await owner.execute("""UPDATE paper SET content = jsonb_set(content, '{due_at}', '"x"') WHERE form = 'receipt'""")
    await owner.execute("UPDATE paper SET content = NULL, erased_at = now() WHERE form = 'supplement'")
    url = f"{house.intake_url}/api/v1/dossiers/{answer['code']}/papers"
    async with house.http.get(url, headers={"Authorization": f"Bearer {house.token}"}) as response:
        receipt, supplement = (await response.json())["papers"]
    assert (receipt["altered"], receipt["erased"], receipt["stamp"]) == (True, False, None)
    assert (supplement["altered"], supplement["erased"], supplement["stamp"]) == (False, True, None)


async def test_papers_of_a_dossier_out_of_scope_are_not_told(house: House, database: Database) -> None:
    code = (await house.receive())["code"]
    token = await new_client(database, "far", "G99.02")
    url = f"{house.intake_url}/api/v1/dossiers/{code}/papers"
    async with house.http.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 404
    assert (await post(house, code, "papers", {"form": "control"}, Authorization=f"Bearer {token}"))[0] == 404


# -- without a key -----------------------------------------------------------------------------------------


async def test_installation_without_a_key_issues_none_and_goes_on(database: Database, owner: Any) -> None:
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        answer = await house.receive()
        assert "papers" not in answer
        assert "receipt" in answer
        status, refused = await post(house, answer["code"], "papers", {"form": "control"})
        assert (status, refused["code"]) == (409, "no_papers")
        assert "papers" not in await house.move(answer["code"], "supplement_required")
    assert await papers(owner) == []


@pytest.mark.parametrize("wrong", ["missing", "no key", "not published"])
async def test_key_that_cannot_be_used_lets_nothing_in_that_needs_a_paper(
    database: Database, owner: Any, files: tuple[Path, Path], wrong: str, tmp_path: Path
) -> None:
    key_file, public_keys = files
    kept = key_file.read_bytes()
    if wrong == "missing":
        key_file.unlink()
    elif wrong == "no key":
        key_file.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    else:
        key_file.unlink()
        keys.make(key_file, tmp_path / "others.json", issuer=ISSUER, since=date(2026, 12, 1))
    settings = intake_settings(database.writer_url, paper_key_file=key_file, paper_public_keys=public_keys)
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, await new_token(database))
        status, refused = await house.hand_in("POST", "/api/v1/dossiers", submission())
        assert (status, refused["code"]) == (503, "unavailable")
        assert str(key_file) not in str(refused)
        assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
        assert await owner.fetchval("SELECT count(*) FROM paper_sequence") == 0
        online = await house.receive(channel="online")  # it needs no paper yet
        assert (await post(house, online["code"], "transitions", {"to": "received"}))[0] == 503
        key_file.write_bytes(kept)
        assert named(await house.move(online["code"], "received")) == [("receipt", 1)]


def test_key_without_the_public_keys_is_a_fault_of_the_settings(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="HOSO24_PAPER_PUBLIC_KEYS"):
        intake_settings("postgresql://x@127.0.0.1/x", paper_key_file=files[0])


def test_key_is_made_once_readable_by_its_owner_only_and_the_next_has_the_next_id(files: tuple[Path, Path]) -> None:
    key_file, public_keys = files
    assert key_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(keys.CannotStamp, match="there already"):
        keys.make(key_file, public_keys, issuer=ISSUER, since=date(2026, 12, 1))
    second = key_file.with_name("second.pem")
    assert keys.make(second, public_keys, issuer=ISSUER, since=date(2027, 12, 1)) == 2
    assert [keys.read_key(each, public_keys).key_id for each in (key_file, second)] == [1, 2]


# -- what the books know of papers -------------------------------------------------------------------------


async def findings(database: Database) -> list[str]:
    auditor = await asyncpg.connect(database.url("hoso24_auditor"))
    found: list[str] = []
    await verify(auditor, found.append)
    await auditor.close()
    return found


COPIED = """
INSERT INTO paper
SELECT agency, 'refusal', year, 7, code, version, form_version, content, digest, stamp, key_id, issued_at, issued_by
  FROM paper
"""


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE paper SET digest = sha256('x')",
            r"receipt 1/\d+ of G99.01.01: event 1 of CODE issued another content",
        ),
        ("DELETE FROM paper", r"event 1 of CODE issued a paper, and there is none"),
        ("UPDATE paper SET version = 9", r"receipt 1/\d+ of G99.01.01: no event of CODE issued it, so it is no paper"),
        (COPIED, r"refusal 7/\d+ of G99.01.01: no event of CODE issued it"),
    ],
)
async def test_forged_papers_are_found_by_the_books(
    house: House, database: Database, owner: Any, statement: str, finding: str
) -> None:
    code = (await house.receive())["code"]
    assert await findings(database) == []
    await owner.execute(statement)
    found = await findings(database)
    assert any(re.match(finding.replace("CODE", re.escape(code)), each) for each in found), found


async def test_papers_of_a_dossier_that_there_is_not_are_none(house: House, database: Database, owner: Any) -> None:
    code = (await house.receive())["code"]
    await house.receive()
    await owner.execute("DELETE FROM event WHERE code = $1", code)
    assert any("is of a dossier without events" in each for each in await findings(database))

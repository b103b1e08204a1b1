"""Papers as PDF: the same bytes from the same content, nothing a name says is taken for markup, and the API."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import hoso24
from intake.books.paper_rows import canonical, digest_of
from intake.papers.rendering import LIMIT, NotOurs, Press, Printing, attached, form_on, forms, rendered_anew
from intake.papers.verifying import check_pdf, check_text
from intake.refusals import PaperNotReady
from intake.rules.papers import Content
from intake.rules.stamps import StampKey
from lookup.code import parse
from lookup.paper_stamp import FORMS, PublicKeys
from tests.conftest import Database
from tests.house import House, new_token
from tests.intake.papers_of_all_forms import OF_ALL_FORMS, PRINTING, text
from tests.lookup.test_paper_stamp import KEYS, NEW, TEXT


def pages(pdf: bytes) -> int:
    return pdf.count(b"/Type/Page\n") + pdf.count(b"/Type/Page/")


def test_every_form_that_is_numbered_has_a_template() -> None:
    assert set(FORMS) <= set(forms())
    assert forms().keys() == OF_ALL_FORMS.keys()
    with pytest.raises(LookupError, match="31/12/2020"):
        form_on("receipt", date(2020, 12, 31))


@pytest.mark.parametrize("form", OF_ALL_FORMS)
def test_same_content_makes_the_same_bytes_and_carries_it(form: str) -> None:
    content = text(form)
    made = rendered_anew(content, PRINTING)
    assert made.startswith(b"%PDF-1.")
    assert rendered_anew(content, PRINTING) == made
    assert attached(made) == (content, PRINTING)
    assert rendered_anew(content, Printing(site=PRINTING.site, again=1)) != made


@pytest.mark.servers
def test_another_process_makes_the_same_bytes() -> None:
    words = "import sys; from tests.intake.papers_of_all_forms import *; "
    words += "sys.stdout.buffer.write(rendered_anew(text('receipt'), PRINTING))"
    made = subprocess.run([sys.executable, "-c", words], check=True, capture_output=True).stdout
    assert made == rendered_anew(text("receipt"), PRINTING)


def test_threads_do_not_get_into_each_others_way() -> None:
    expected = [rendered_anew(text("receipt", number=n), PRINTING) for n in range(1, 9)]
    with ThreadPoolExecutor(4) as threads:
        made = threads.map(lambda n: rendered_anew(text("receipt", number=n), PRINTING), range(1, 9))
    assert list(made) == expected


@pytest.mark.parametrize(
    "name",
    [
        '#read("/etc/passwd")',
        "$x$ @ref *b* _e_ `c` <label> // /* \\ #import",
        "<script>alert(1)</script>",
        "N" * 300,
        "e" + "\N{COMBINING ACUTE ACCENT}" * 150,
        "\0\a\x1b",
        "a\N{RIGHT-TO-LEFT OVERRIDE}nêyugN",
        "\N{SNOWMAN}\N{CJK UNIFIED IDEOGRAPH-4E00}",
    ],
)
def test_name_is_printed_as_text_on_one_page(name: str) -> None:
    applicant = {"name": name, "id": "1", "address": name}
    made = rendered_anew(text("receipt", applicant=applicant), PRINTING)
    assert pages(made) <= 1 + (len(name) > 200)
    assert json.loads(attached(made)[0])["applicant"]["name"] == name


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (1, 1), (40, 3), (400, 18)])
def test_register_goes_on_on_further_pages(rows: int, expected: int) -> None:
    row = OF_ALL_FORMS["register"]["rows"][0]
    assert pages(rendered_anew(text("register", rows=[row] * rows), PRINTING)) in range(expected - 1, expected + 3)


@pytest.mark.parametrize(
    "changes", [{"form": "diploma"}, {"issued_at": "yesterday"}, {"form_version": "1999-01-01"}, {"agency": None}]
)
def test_content_that_is_of_no_form_is_no_paper(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="This content is of no form"):
        rendered_anew(text("receipt", **changes), PRINTING)
    with pytest.raises(ValueError, match="This content is of no form"):
        rendered_anew("[]", PRINTING)


def altered(pdf: bytes) -> dict[str, bytes]:
    middle = len(pdf) // 2
    return {
        "cut off": pdf[:-200],
        "with an update": pdf + b"\n%more\n",
        "a byte less": pdf[:middle] + pdf[middle + 1 :],
        "a bit of a page": pdf[:middle] + bytes([pdf[middle] ^ 1]) + pdf[middle + 1 :],
        "a bit of its head": pdf[:6] + bytes([pdf[6] ^ 1]) + pdf[7:],
        "another attachment": pdf.replace(b"/EmbeddedFile", b"/embeddedFile", 1),
    }


@pytest.mark.parametrize("how", altered(bytes(200)))
def test_pdf_that_was_altered_is_not_the_one_that_its_content_makes(how: str) -> None:
    pdf = rendered_anew(*signed())
    other = altered(pdf)[how]
    assert other != pdf
    found = check_pdf(other, KEYS)
    assert not (found.good and found.anew)


def test_what_is_no_pdf_of_ours_has_no_content() -> None:
    with pytest.raises(NotOurs):
        attached(b"%PDF-1.7\n")


async def test_paper_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    press = Press(limit=0.0)
    with pytest.raises(PaperNotReady):
        await press.paper(text("register", rows=OF_ALL_FORMS["register"]["rows"] * 20), PRINTING)
    press.close()
    assert LIMIT == 2.0


# -- verifying --------------------------------------------------------------------------------------------------------


def signed(form: str = "receipt", **changes: Any) -> tuple[str, Printing]:
    """A paper's canonical content, and its printing with a stamp that KEYS verifies."""
    content = canonical(msgspec.json.decode(text(form, nonce="00", version=1, **changes), type=Content))
    said = msgspec.json.decode(content, type=Content)
    stamp = StampKey(2, NEW).stamp(parse(said.code), form, said.received_at, said.due_at, digest_of(content))
    return content, Printing(site="https://x.example", stamp=stamp.text(parse(said.code)), key="2KQ0F-9D3XZ-7MHWA")


def test_paper_is_stamped_matches_and_shows_what_it_says() -> None:
    content, printing = signed()
    found = check_pdf(rendered_anew(content, printing), KEYS)
    assert (found.good, found.matches, found.anew) == (True, True, True)
    assert found.lines()[0] == "stamped: yes, with key 2 of y: receipt of G99.01.01-261130-0147"
    assert found.lines()[-2:] == ["content matches: yes", "rendering matches: yes"]


def test_stamp_on_another_content_does_not_match() -> None:
    _, printing = signed()
    for changes in ({"due_at": "2027-01-01T09:00:00+07:00"}, {"applicant": {"name": "Somebody else"}}):
        found = check_pdf(rendered_anew(signed(**changes)[0], printing), KEYS)
        assert (found.good, found.matches, found.anew) == (False, False, True)
        assert "content matches: no" in found.lines()[-2]


def test_pages_that_show_something_else_are_told() -> None:
    content, printing = signed()
    pdf = rendered_anew(content, printing)
    found = check_pdf(pdf + b"\n% an update of another hand\n", KEYS)
    assert (found.good, found.anew) == (True, False)
    assert found.lines()[-1].startswith("rendering matches: no")


def test_pdf_of_others_and_nonsense_are_no_papers_of_ours() -> None:
    register = rendered_anew(text("register"), Printing(site="https://x.example"))
    unknown = PublicKeys({1: KEYS.keys[1]})
    assert not check_pdf(rendered_anew(*signed()), unknown).good
    for pdf in (b"", b"%PDF-1.7", register, rendered_anew(text("receipt"), PRINTING)):
        found = check_pdf(pdf, KEYS)
        assert not found.good
        assert found.lines()[0].startswith("stamped: no.")
    assert check_text(f"Mã: {TEXT}", KEYS).good
    assert not check_text(TEXT[:-1], KEYS).good


def test_command_makes_a_key_and_verifies_by_it(tmp_path: Path) -> None:
    key_file, public = tmp_path / "key.pem", tmp_path / "keys.json"
    made = CliRunner().invoke(hoso24.cli, ["paper", "key", str(key_file), "--public", str(public), "--issuer", "x"])
    assert made.exit_code == 0, made.output
    public.write_bytes(KEYS.to_json())
    paper = tmp_path / "paper.pdf"
    paper.write_bytes(rendered_anew(*signed()))
    for asked, status in ((str(paper), 0), (TEXT, 0), (TEXT[:-1], 1), (str(public), 1)):
        ran = CliRunner().invoke(hoso24.cli, ["paper", "verify", asked, "--keys", str(public)])
        assert ran.exit_code == status, ran.output
        assert ran.output.startswith("stamped: yes" if status == 0 else "stamped: no")


# -- the API ---------------------------------------------------------------------------------------------------------


async def ask(house: House, code: str, version: int) -> tuple[int, bytes]:
    url = f"{house.intake_url}/api/v1/dossiers/{code}/papers/{version}.pdf"
    async with house.http.get(url, headers={"Authorization": f"Bearer {house.token}"}) as response:
        return response.status, await response.read()


@pytest.mark.servers
async def test_receipt_is_printed_with_the_key_and_each_print_is_counted(house: House, owner: Any) -> None:
    receipt = await house.receive()
    code, version = receipt["code"], receipt["papers"][0]["version"]
    status, first = await ask(house, code, version)
    assert status == 200
    content, printing = attached(first)
    assert (printing.key, printing.again) == (receipt["lookup_key"], 0)
    assert receipt["lookup_key"] not in content
    assert digest_of(content) == await owner.fetchval("SELECT digest FROM paper")
    assert rendered_anew(content, printing) == first
    _, second = await ask(house, code, version)
    again, printed_again = attached(second)
    assert (again, printed_again.again) == (content, 1)
    assert [row["kind"] for row in await owner.fetch("SELECT kind FROM paper_print ORDER BY at")] == ["first", "again"]
    reads = await owner.fetch("SELECT code, screen FROM personal_read")
    assert {tuple(row) for row in reads} == {(code, "paper")}


@pytest.mark.servers
async def test_key_is_on_the_receipt_only_for_whom_it_is_meant(house: House, database: Database) -> None:
    receipt = await house.receive()
    version = receipt["papers"][0]["version"]
    for actions, has_it in ((("read",), False), (("read", "receive", "move"), False), (("read", "correct"), True)):
        reader = House("", house.intake_url, house.http, await new_token(database, actions=actions))
        status, pdf = await ask(reader, receipt["code"], version)
        assert status == 200
        assert attached(pdf)[1].key == (receipt["lookup_key"] if has_it else None)


@pytest.mark.servers
async def test_two_agencies_papers_of_one_number_are_told_apart(house: House, owner: Any) -> None:
    """As after the receiving agency was merged into another during the year."""
    code = (await house.receive())["code"]
    for _ in range(2):
        assert (await house.hand_in("POST", f"/api/v1/dossiers/{code}/papers", {"form": "control"}))[0] == 200
    await owner.execute("UPDATE paper SET agency = 'G99.02', number = 1 WHERE version = 3")
    said = [msgspec.json.decode(attached((await ask(house, code, version))[1])[0])["version"] for version in (2, 3)]
    assert said == [2, 3]


@pytest.mark.servers
async def test_paper_that_there_is_not_or_that_was_erased_or_altered(house: House, owner: Any) -> None:
    receipt = await house.receive()
    code = receipt["code"]
    for version in (0, 2, 10**30):
        status, body = await ask(house, code, version)
        assert (status, json.loads(body)["code"]) == (404, "paper_not_found")
    await owner.execute("""UPDATE paper SET content = jsonb_set(content, '{number}', '77')""")
    status, body = await ask(house, code, 1)
    assert (status, json.loads(body)["code"]) == (503, "paper_not_ready")
    await owner.execute("UPDATE paper SET content = NULL, erased_at = now()")
    status, body = await ask(house, code, 1)
    assert (status, json.loads(body)["code"]) == (410, "paper_erased")
    assert await owner.fetchval("SELECT count(*) FROM paper_print") == 0

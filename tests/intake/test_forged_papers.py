"""Forged papers: for each forgery what the page says, what the command says, and what a PDF reader shows.

docs/papers.md has this table for people; the last test compares the two.
"""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import hoso24
from intake.papers import rendering
from intake.papers.given import given
from intake.papers.rendering import Printing, rendered_anew
from intake.rules.stamps import StampKey
from lookup import code as codes
from tests.intake.test_paper_forms import signed
from tests.lookup.test_paper_pages import asked
from tests.lookup.test_paper_stamp import KEYS
from tests.programs import program

NAME, OTHER_NAME = "Nguyễn Thị Ánh Tuyết", "Trần Văn Kẻ Gian"
CODE, OTHER_CODE = "G99.01.01-261130-0147", "G99.01.01-261130-0148"
PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)


class Forgery(NamedTuple):
    """A forged paper: its bytes, and the stamp that a telephone reads from it."""

    pdf: bytes
    stamp: str


def genuine() -> Forgery:
    """A paper of ours."""
    content, printing = signed()
    return Forgery(rendered_anew(content, printing), printing.stamp or "")


def altered_pages() -> Forgery:
    """Other words on the page, above the attachments of a paper of ours."""
    content, printing = signed()
    said = msgspec.json.decode(content, type=dict)
    said["applicant"]["name"] = OTHER_NAME
    texts = given(said, site=printing.site, again=0) | rendering._codes_of(said, printing)
    texts["attached"] = [
        {"name": rendering.CONTENT_NAME, "says": "", "data": content},
        {"name": rendering.PRINTING_NAME, "says": "", "data": msgspec.json.encode(printing, order="sorted").decode()},
    ]
    form = f"{said['form']}@{said['form_version']}"
    made = rendering._compiler(form).compile(sys_inputs={"given": json.dumps(texts)}, format="pdf", timestamp=0)
    assert isinstance(made, bytes)
    return Forgery(made, printing.stamp or "")


def another_name() -> Forgery:
    """A paper made by our own program, of a content that nobody stamped, with the stamp of a paper of ours."""
    content, printing = signed()
    return Forgery(rendered_anew(content.replace(NAME, OTHER_NAME), printing), printing.stamp or "")


def another_date() -> Forgery:
    """The same with an earlier due date."""
    content, printing = signed()
    return Forgery(rendered_anew(content.replace("2026-12-07T", "2026-12-01T"), printing), printing.stamp or "")


def another_dossier() -> Forgery:
    """A paper of ours with the code of another dossier, and its stamp."""
    content, printing = signed()
    stamp = (printing.stamp or "").replace(CODE, OTHER_CODE)
    moved = printing.__class__(site=printing.site, stamp=stamp, key=printing.key)
    return Forgery(rendered_anew(content.replace(CODE, OTHER_CODE), moved), stamp)


def own_key() -> Forgery:
    """A paper stamped with a key that the forger made, under the number of ours."""
    content, printing = signed()
    said = msgspec.json.decode(content, type=dict)
    made = StampKey(2, STRANGER).stamp(codes.parse(CODE), said["form"], None, None, bytes(32)).text(codes.parse(CODE))
    return Forgery(rendered_anew(content, Printing(site=printing.site, stamp=made)), made)


def turned_bit() -> Forgery:
    """A stamp of ours with one character changed."""
    content, printing = signed()
    stamp = printing.stamp or ""
    last = "A" if stamp[-3] != "A" else "B"
    stamp = stamp[:-3] + last + stamp[-2:]
    return Forgery(rendered_anew(content, Printing(site=printing.site, stamp=stamp, key=printing.key)), stamp)


def update() -> Forgery:
    """A paper of ours to which something was appended, as an editor saves what it has changed."""
    paper = genuine()
    return Forgery(paper.pdf + b"\n9999 0 obj\n<< /Type /Annot >>\nendobj\n", paper.stamp)


def printed_again() -> Forgery:
    """A paper of ours printed to a file by another program: the pages are the same, nothing is attached."""
    paper = genuine()
    return Forgery(paper.pdf.replace(b"/EmbeddedFile", b"/embeddedFile"), paper.stamp)


COMMAND: dict[str, tuple[int, tuple[str, ...]]] = {
    "good": (0, ("stamped: yes", "content matches: yes", "rendering matches: yes")),
    "pages": (3, ("stamped: yes", "content matches: yes", "rendering matches: no")),
    "content": (1, ("stamped: yes", "content matches: no")),
    "stamp": (1, ("stamped: no",)),
}
TABLE: dict[str, tuple[Callable[[], Forgery], bool, str, str]] = {
    "a paper of ours": (genuine, True, "good", NAME),
    "other words on the page, our attachments": (altered_pages, True, "pages", OTHER_NAME),
    "another name, made by our program, with our stamp": (another_name, True, "content", OTHER_NAME),
    "another due date, likewise": (another_date, True, "content", NAME),
    "the code of another dossier": (another_dossier, False, "stamp", NAME),
    "stamped with a key of the forger's own": (own_key, False, "stamp", NAME),
    "a stamp with one character changed": (turned_bit, False, "stamp", NAME),
    "something appended": (update, True, "pages", NAME),
    "printed to a file by another program": (printed_again, True, "stamp", NAME),
}
"""What was forged → how, whether the page takes its stamp for ours, what the command finds, and the name that a reader
shows. The page knows the stamp alone: it says what was stamped, and asks for a comparison before that.
"""


@pytest.mark.parametrize("forged", TABLE)
async def test_forgery_is_told_by_the_page_as_far_as_a_stamp_tells(forged: str) -> None:
    make, stamped, _, _ = TABLE[forged]
    status, page = await asked(f"/kiem-tra?s={make().stamp}")
    assert status == 200
    assert ("do hệ thống cấp cho" in page) is stamped
    assert OTHER_NAME not in page
    if stamped:
        assert page.index("Vui lòng so") < page.index("do hệ thống cấp cho")


@pytest.mark.parametrize("forged", TABLE)
def test_forgery_is_told_by_the_command(forged: str, tmp_path: Path) -> None:
    make, _, found, _ = TABLE[forged]
    paper, public = tmp_path / "paper.pdf", tmp_path / "keys.json"
    paper.write_bytes(make().pdf)
    public.write_bytes(KEYS.to_json())
    ran = CliRunner().invoke(hoso24.cli, ["paper", "verify", str(paper), "--keys", str(public)])
    status, says = COMMAND[found]
    assert ran.exit_code == status, ran.output
    for words in says:
        assert words in ran.output


@pytest.mark.servers
@pytest.mark.parametrize("forged", TABLE)
def test_pdf_reader_shows_what_the_forger_wrote_and_warns_of_nothing(forged: str, tmp_path: Path) -> None:
    make, _, _, name = TABLE[forged]
    paper = tmp_path / "paper.pdf"
    paper.write_bytes(make().pdf)
    ran = subprocess.run([program("pdftotext"), str(paper), "-"], capture_output=True, check=True)
    assert name in " ".join(ran.stdout.decode().split())


def test_page_about_papers_has_this_table() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (ours|not ours) \| `(\d)` ([^|]+) \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.M)
    words = {
        "good": "all three match",
        "pages": "the pages may show something else",
        "content": "the content is not what was stamped",
        "stamp": "not stamped by us",
    }
    told = {forged: found for forged, *found in rows}
    assert told == {
        forged: [
            "ours" if stamped else "not ours",
            str(COMMAND[found][0]),
            words[found],
            "what is on the page" if name == NAME else "the forger's words",
        ]
        for forged, (_, stamped, found, name) in TABLE.items()
    }

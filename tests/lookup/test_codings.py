"""What is made once is sent in both codings, each under a tag of its own; the holder's page is compressed as it is."""

import gzip
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from lookup.clock import microseconds
from lookup.dossier import Record
from lookup.maintenance import Notice, Part
from lookup.web import layout
from lookup.web.codings import Finished
from lookup.web.form_pages import ADDRESSES, FormPages
from ops.http import finished
from ops.http.finished import takes_gzip
from tests.lookup.alone import lookup_alone
from tests.lookup.offline import Offline

AT = datetime(2026, 11, 20, 2, tzinfo=UTC)
CODE = "G99.01.01-261120-0001"
READY = [*ADDRESSES, layout.static_address("site.css"), layout.static_address("icon.svg")]


@pytest.mark.parametrize(
    ("accepts", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip, deflate, br, zstd", True),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip ; q=0.001", True),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=nonsense", False),
        ("gzipped", False),
    ],
)
def test_gzip_is_sent_to_whom_accepts_it(accepts: str, taken: bool) -> None:
    assert takes_gzip(accepts) is taken


def test_long_list_of_codings_is_neither_read_nor_remembered() -> None:
    finished._takes_gzip.cache_clear()
    assert not takes_gzip("gzip" + ",br" * 84 + " ")
    assert takes_gzip("gzip" + ",br" * 84)
    assert finished._takes_gzip.cache_info().currsize == 1


@pytest.mark.parametrize("path", READY)
async def test_what_is_ready_has_two_codings_and_a_tag_for_each(path: str) -> None:
    async with lookup_alone() as alone:
        plain, packed = await alone.exchange(path), await alone.exchange(path, "Accept-Encoding: br, gzip")
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 1.2
        tags = [each.headers["ETag"] for each in (plain, packed)]
        assert tags[0] == tags[1].replace('.gz"', '"') != tags[1]
        for answer, coding in ((plain, None), (packed, "gzip")):
            assert answer.status == 200
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert answer.headers.get("Content-Encoding") == coding
            head = await alone.exchange(path, f"Accept-Encoding: {coding or 'identity'}", method="HEAD")
            length, tag = head.headers["Content-Length"], head.headers["ETag"]
            assert (head.status, head.body, length, tag) == (200, b"", str(len(answer.body)), answer.headers["ETag"])
        for tag in tags:
            again = await alone.exchange(path, "Accept-Encoding: gzip", f"If-None-Match: {tag}")
            assert again.status == (304 if tag == tags[1] else 200)
            for name in ("Vary", "ETag", "Cache-Control", "Content-Security-Policy"):
                assert again.headers[name] == packed.headers[name]
            assert ("Content-Encoding" in again.headers) is (again.status == 200)


async def test_first_view_of_a_status_fits_into_ten_kilobytes() -> None:
    """Page, style sheet and icon with their heads, as a browser that was never here gets them."""
    async with lookup_alone() as alone:
        code = alone.put(CODE)
        answers = [
            await alone.exchange(path, "Accept-Encoding: gzip") for path in (f"/tra-cuu/{code.path}", *READY[-2:])
        ]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert sum(len(answer.head) + len(answer.body) for answer in answers) <= 10_000


def test_release_of_zlib_is_part_of_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a rollout two processes with other libraries would send other bytes under one tag."""
    before = Finished(b"x", "text/plain", {}).tags
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "another")
    assert Finished(b"x", "text/plain", {}).tags != before


def test_form_announces_a_maintenance_from_the_next_beat_on_under_another_tag() -> None:
    notice = Notice(
        number=1,
        starts_at=AT,
        ends_at=AT + timedelta(hours=2),
        shown_from=AT,
        affects=(Part.LOOKUP,),
        text_vi="Nâng cấp máy chủ.",
        text_en="New servers.",
        announced_at=AT,
    )
    announced: list[tuple[Notice, bool]] = []
    forms = FormPages(lambda: announced[0] if announced else None)
    pages, before = forms.pages, dict(forms.pages)
    forms.refresh()
    assert pages == before
    announced.append((notice, True))
    forms.refresh()
    for address, text in zip(ADDRESSES, ("Nâng cấp", "New servers", "Nâng cấp", "New servers"), strict=True):
        assert text.encode() in pages[address].content
        assert text.encode() not in before[address].content
        assert pages[address].tags != before[address].tags


@pytest.mark.parametrize("form", layout.FORMS.values())
async def test_holders_page_is_compressed_and_repeats_nothing_that_an_outsider_chooses(form: str) -> None:
    """Else its length would tell, guess by guess, what else is in it (BREACH)."""
    record = Record(code=CODE, version=1, status=4, service="S.004", agency="G99.01.01", submitted_at=AT)
    lookup = Offline(record, microseconds(AT))
    cookie = {"Cookie": f"hoso24-key={lookup.key}"}
    guess = "chosen-by-another-site"
    sent = []
    for query, headers in (
        ("", {}),
        (f"?{guess}", {}),
        (f"?ma={guess}", {"X-Request-Id": guess, "Referer": f"https://x/{guess}", "User-Agent": guess}),
    ):
        plain = await lookup.ask(f"{form}/{CODE}{query}", headers=cookie | headers)
        packed = await lookup.ask(f"{form}/{CODE}{query}", headers=cookie | headers | {"Accept-Encoding": "gzip"})
        assert isinstance(packed.body, bytes)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Cache-Control"] == plain.headers["Cache-Control"] == "private, no-store"
        assert gzip.decompress(packed.body) == plain.body
        sent.append(packed.body)
    assert sent[0] == sent[1] == sent[2]

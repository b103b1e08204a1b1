"""A sheet filled in is what the template makes of the words, plain and as gzip; for all words of its widths."""

import gzip
import itertools
import logging
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest import mock

import jinja2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import microseconds
from lookup.dossier import Record, Shows, Step, pack, telling
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.reading.reader import Found
from lookup.situation import Sight, situation
from lookup.status import Status
from lookup.web import sheets
from lookup.web.answers import Answers
from lookup.web.faces import PageFace
from lookup.web.layout import render
from lookup.web.sheets import Sheet, Shelf, WordUsedOtherwise, words
from lookup.web.status_pages import page_context, parts
from tests.lookup.offline import CATALOGUE

MOST_IN_GZIP = 1.15
"""How many times as long as gzip's best a page may be, of a code that is not stored at each place, with no due date."""
LONGEST_IN_ONE_PIECE = len(sheets._NEVER)


def marked(text: str, names: Sequence[str]) -> str:
    """The text with the mark of each word in the place of `{word}`."""
    marks = words(*names)
    return text.format(**{name: mark.__html__() for name, mark in zip(names, marks, strict=True)})


# -- any text and any words --------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Co", "Cc"]), max_size=40)
WORDS = st.binary(max_size=60)


@given(
    st.lists(TEXTS, min_size=1, max_size=12),
    st.data(),
    st.lists(st.tuples(WORDS, st.randoms(use_true_random=False)), min_size=1, max_size=6),
)
def test_filled_in_it_is_the_text_with_the_words_in_both_codings(
    between: list[str], data: st.DataObject, chosen: list[tuple[bytes, Any]]
) -> None:
    order = [data.draw(st.integers(0, len(chosen) - 1)) for _ in between[1:]]
    marks = words(*map(str, range(len(chosen))))
    text = between[0] + "".join(marks[n].__html__() + part for n, part in zip(order, between[1:], strict=True))
    sheet = Sheet(text, [len(word) for word, _ in chosen])
    others = tuple(bytes(random.choices(range(256), k=len(word))) for word, random in chosen)
    for filled in (tuple(word for word, _ in chosen), others):
        page = between[0].encode()
        page += b"".join(filled[n] + part.encode() for n, part in zip(order, between[1:], strict=True))
        assert sheet.plain(filled) == page
        assert unpacked(sheet.gzipped(filled)) == page


def unpacked(packed: bytes) -> bytes:
    """What is in it, if it is exactly one member."""
    unpacker = zlib.decompressobj(wbits=31)
    content = unpacker.decompress(packed)
    assert unpacker.eof
    assert unpacker.unused_data == b""
    return content


def test_words_that_come_often_are_packed_once_and_found_again() -> None:
    text = marked("".join(f"<a href='/{{code}}'>{n}: {{code}}</a>" for n in range(40)), ["code"])
    sheet = Sheet(text, [25])
    assert len(sheet.gzipped((b"G99.01.02-261008-09750000",))) < 350


def test_words_too_long_for_stand_ins_are_stored_each_time() -> None:
    long = bytes(range(65, 65 + 26)) * 3
    sheet = Sheet(marked("<{a}><{b}><{a}><{b}><{a}>", ["a", "b"]), [len(long), 3])
    assert unpacked(sheet.gzipped((long, b"xyz"))) == b"<%b><xyz><%b><xyz><%b>" % (long, long, long)


def test_stand_ins_are_for_words_that_come_again_while_there_are_bytes() -> None:
    most, none = len(sheets._NEVER), frozenset[int]()
    assert sheets._stand_ins([0, 1, 1], [most, most], none) == {1: sheets._NEVER}  # none for a word that comes once
    assert sheets._stand_ins([0, 0], [most + 1], none) == sheets._stand_ins([0, 0], [0], none) == {}
    assert sheets._stand_ins([0, 0, 1, 1], [3, 2], none) == {0: sheets._NEVER[:3], 1: sheets._NEVER[3:5]}
    assert sheets._stand_ins([0, 0, 1, 1], [3, 2], frozenset({0})) == {1: sheets._NEVER[:2]}


def test_bytes_that_stand_in_are_in_no_page() -> None:
    controls = {*range(0x20), 0x7F} - set(sheets._NEVER)
    assert controls == {0, 9, 10, 13, 0x7F}  # U+007F and NUL are left out, the others are blanks
    for each in sheets._NEVER:
        assert each < 0x20 or each not in "".join(map(chr, range(0x80, 0x3000))).encode()
    assert len(set(sheets._NEVER)) == len(sheets._NEVER) == 41


def test_samples_tell_every_word_and_both_samples_apart() -> None:
    """Each of a word's bytes differs from its neighbours', and so do those of words side by side."""
    for sample in (samples := list(sheets._samples([60, 60]))):
        for word in sample:
            assert len(set(word)) == 40
        assert all(one != other for one, other in zip(*sample, strict=True))
    assert len(samples) == 2
    assert not set(samples[0]) & set(samples[1])
    assert all(each.isascii() for sample in samples for each in sample)


def test_mark_above_the_last_word_is_no_word_and_the_last_one_is() -> None:
    assert Sheet(marked("<{a}>{b}", ["a", "b"]), [1, 1]).plain((b"x", b"y")) == b"<x>y"
    with pytest.raises(WordUsedOtherwise):
        Sheet(marked("<{a}>{b}", ["a", "b"]), [1])


def test_packed_sheet_has_the_smallest_head() -> None:
    sheet = Sheet(marked("{a} {a}", ["a"]), [3])
    assert sheet._packed is not None
    assert sheet.gzipped((b"one",))[:10].hex() == "1f8b0800000000000203"


@pytest.mark.parametrize("fails", [1, 2])
def test_what_the_compressor_does_otherwise_is_noticed_when_the_sheet_is_made(
    fails: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = iter([False] * fails + [True] * 9)
    monkeypatch.setattr(sheets, "_is_right", lambda *_: next(tried))
    sheet = Sheet(marked("<{a}> {b} <{a}>", ["a", "b"]), [3, 2])
    assert unpacked(sheet.gzipped((b"one", b"no"))) == b"<one> no <one>"
    assert len(caplog.records) == fails


def test_packing_that_takes_the_word_of_its_making_is_found_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of a sheet sees what it is there to see: a later occurrence that does not follow the first."""
    monkeypatch.setattr(sheets, "_NEVER", b"abc")
    between = [b"<", b"> abc <", b"> abc"]
    packed, plain = sheets._pack(between, [0, 0], [3], frozenset()), sheets._Form(between, [0, 0], 1)
    assert not sheets._is_right(plain, packed, (b"xyz",))
    sheet = Sheet(marked("<{a}> abc <{a}> abc", ["a"]), [3])
    assert unpacked(sheet.gzipped((b"xyz",))) == b"<xyz> abc <xyz> abc"


def test_digest_names_text_widths_and_release_of_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    text = marked("<{a}>", ["a"])
    digests = {Sheet(text, [3]).digest, Sheet(text, [4]).digest, Sheet(text + " ", [3]).digest}
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "another")
    digests |= {Sheet(text, [3]).digest}
    assert len(digests) == 4
    assert {len(each) for each in digests} == {8}


# -- what a template may do with a word ----------------------------------------------------------------------

ENVIRONMENT = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)


@pytest.mark.parametrize(
    "template",
    [
        "{{ code }}",
        '<a href="/{{ code }}">',
        "{% if code %}{{ code }}{% endif %}",
        '{{ "{0}".format(code) }}',
        '{{ ("<b>{0}</b>" | safe).format(code) }}',
        "{% set same = code %}{{ same }}",
        "nothing",
    ],
)
def test_word_can_be_printed(template: str) -> None:
    made = ENVIRONMENT.from_string(template)
    sheet = Sheet(made.render(code=words("code")[0]), [3])
    assert sheet.plain((b"G99",)).decode() == made.render(code="G99")


@pytest.mark.parametrize(
    "template",
    [
        "{{ code[:3] }}",
        '{% if code == "G99" %}x{% endif %}',
        '{% if code != "G99" %}x{% endif %}',
        '{% if "G" in code %}x{% endif %}',
        '{{ {"G99": 1}.get(code) }}',
        '{{ "(" ~ code ~ ")" }}',
        "{{ code | upper }}",
        "{{ code | length }}",
        '{{ code | replace("-", "") }}',
        "{{ code | truncate(9) }}",
        "{{ code | urlencode }}",
        '{{ "%5s" | format(code) }}',
        '{{ "{0:>9}".format(code) }}',
        "{{ code | list }}",
        "{{ code.text }}",
        "{{ code + 1 }}",
        "{{ code | int }}",
        "{% for sign in code %}x{% endfor %}",
    ],
)
def test_word_used_otherwise_is_named(template: str) -> None:
    with pytest.raises(WordUsedOtherwise, match="the code is a word"):
        ENVIRONMENT.from_string(template).render(code=words("the code")[0])


def test_character_of_a_mark_in_the_text_is_no_word() -> None:
    with pytest.raises(WordUsedOtherwise, match="stands for no word"):
        Sheet(marked("<{a}> \ue005", ["a"]), [3])


def test_shelf_is_bounded_and_says_once_what_cannot_be_shared(caplog: pytest.LogCaptureFixture) -> None:
    shelf, made = Shelf(most=3), []

    def text() -> str:
        made.append(1)
        return marked("<{a}>", ["a"])

    def wrong() -> str:
        return str(words("a")[0])

    for shape in range(10):
        for _ in range(3):
            sheet = shelf.sheet(shape, (3,), text)
            assert sheet is not None
            assert len(shelf) <= 3
    assert len(made) == 10
    for _ in range(5):
        assert shelf.sheet("wrong", (3,), wrong) is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# -- the pages themselves --------------------------------------------------------------------------------

NOW = datetime(2026, 11, 30, 11, 19, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2026, 9, 1), datetime(2027, 3, 1)).map(lambda at: at.replace(tzinfo=UTC, microsecond=0))
CODES = st.sampled_from(
    (
        *("G99.01.01-261120-0001", "G99.01.02-261120-0975", "000.00.01.G22-200316-0001", "G99.001.02-261008-990001"),
        *("01234/2026/99901", "1234567/2026/99901", "G99-261008-0975123456", f"{'AAA.' * 8}AAA-261008-0975123456"),
    )
)
STEPS = st.lists(
    st.builds(
        Step,
        at=MOMENTS,
        status=st.sampled_from([each.slug for each in Status]),
        agency=st.just("G99.01.01"),
        department=st.sampled_from([None, "processing", "received", "Phòng completed & suspended"]),
    ),
    max_size=6,
).map(tuple)
NOTICES = st.none() | st.tuples(
    st.builds(
        Notice,
        number=st.just(1),
        starts_at=st.just(NOW - timedelta(hours=1)) | st.just(NOW + timedelta(hours=3)),
        ends_at=st.just(NOW + timedelta(hours=8)),
        shown_from=st.just(NOW - timedelta(days=9)),
        affects=st.lists(st.sampled_from(Part), min_size=1, unique=True).map(tuple),
        text_vi=st.just("Nâng cấp <máy chủ> %d"),
        text_en=st.just("New servers %b"),
        announced_at=st.just(NOW - timedelta(days=9)),
    ),
    st.booleans(),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    return Record(
        code=draw(CODES),
        version=draw(st.integers(1, 40)),
        status=draw(st.integers(1, len(Status))),
        service=draw(st.sampled_from(["S.004", "S.009", "unknown"])),
        agency="G99.01.01",
        submitted_at=datetime(2026, 11, 20, 2, tzinfo=UTC),
        received_at=draw(st.none() | MOMENTS),
        due_at=draw(st.none() | MOMENTS),
        timeline=draw(STEPS),
    )


SLUGS = ("submitted", "received", "processing", "suspended", "completed", "returned")


@pytest.mark.parametrize("status", Status, ids=lambda status: status.slug)
@pytest.mark.parametrize("received_at", [None, NOW], ids=["never received", "received"])
@pytest.mark.parametrize("department", [None, "processing received suspended completed"])
def test_what_is_told_of_the_steps_decides_the_situation_that_anyone_sees(
    status: Status, received_at: datetime | None, department: str | None
) -> None:
    """Dossiers that are told apart by nothing else share what was worked out for the first of them."""
    for passed in (each for length in range(4) for each in itertools.product(SLUGS, repeat=length)):
        steps = [Step(NOW + timedelta(hours=n), slug, "G99.01.01", department) for n, slug in enumerate(passed)]
        for timeline in (steps, steps[::-1]):  # a partner's late steps are appended out of order
            record = Record(
                code="G99.01.01-261120-0001",
                version=1,
                status=status.value,
                service="S.004",
                agency="G99.01.01",
                submitted_at=NOW,
                received_at=received_at,
                timeline=tuple(timeline),
            )
            told, received, slugs = telling(pack(record))
            told_of = tuple(Step(NOW + timedelta(hours=n), slug, "G99.01.01") for n, slug in enumerate(slugs))
            like_it = msgspec.structs.replace(
                record, status=told, received_at=NOW if received else None, timeline=told_of
            )
            assert situation(record, NOW, sight=Sight.NOTHING) == situation(like_it, NOW, sight=Sight.NOTHING), passed


FACES = {
    (lang, shows): PageFace(lang, Answers(lambda: CATALOGUE, frozenset({Shows(shows)} if shows else ()), "https://x"))
    for lang in ("vi", "en")
    for shows in ("", "due")
}


@given(records(), MOMENTS, st.sampled_from(sorted(FACES)), NOTICES, st.sampled_from([None, "00077/2026/99901"]))
def test_page_is_what_the_template_makes_of_the_words(
    record: Record, at: datetime, which: tuple[str, str], notice: Any, number: str | None
) -> None:
    """Out of a record on the normal way, and out of packed bytes on the early way."""
    lang, shows = which
    face = FACES[which]
    face._maintenance = lambda: notice
    face.refresh()
    found = Found(record, microseconds(at) + 17 * SECOND, 0, False, "memory", 3)
    code = codes.parse(number or record.code)
    shape, given_words = parts(face._answers, found, code, lang, maintenance=notice)
    expected = render("status.html", lang, page_context(shape, given_words)).encode()
    plain, packed = (face.late(found, code, held=lambda _: False, gzip=gzip_) for gzip_ in (False, True))
    assert isinstance(plain.body, bytes)
    assert isinstance(packed.body, bytes)
    contact = str(given_words.contact).encode()
    assert plain.body == expected.replace(contact, contact + b" " * (-len(contact) % 64))
    assert unpacked(packed.body) == plain.body
    if number is None and not shows and len(record.code) <= LONGEST_IN_ONE_PIECE:
        assert len(packed.body) <= MOST_IN_GZIP * len(gzip.compress(plain.body, 9))
    if number is None:
        for gzip_, answer in ((False, plain), (True, packed)):
            for held in (b"", answer.headers["ETag"].encode()):
                ready = face.fresh(record.code, 3, record.version, pack(record), found.as_of, held, gzip_)
                assert ready is not None
                assert ready.tag.decode() == answer.headers["ETag"]
                if not held:
                    assert (ready.body, ready.length) == (answer.body, b"%d" % len(ready.body))


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_what_dossiers_share_is_worked_out_once_whatever_the_minutes_they_are_as_of(
    lang: str,
) -> None:
    """While the feed is silent, copies are as of different minutes; a page of each costs the same."""
    face = PageFace(lang, Answers(lambda: CATALOGUE, frozenset(), "https://x"))
    at = microseconds(datetime(2026, 11, 30, 3, 0, tzinfo=UTC))
    pages, learnt = set(), 0
    for n in range(600):
        record = Record(
            code=f"G99.01.01-261120-{n:04d}",
            version=1,
            status=4,
            service="S.004",
            agency="G99.01.01",
            submitted_at=datetime(2026, 11, 20, tzinfo=UTC),
        )
        with mock.patch.object(face, "_learn", wraps=face._learn) as learn:
            ready = face.fresh(record.code, 1, 1, pack(record), at + (n * 7 % 300) * 60 * SECOND, b"", True)
        learnt += learn.call_count
        assert ready is not None
        pages.add(unpacked(ready.body))
        assert len(face._times) <= 256
    assert (learnt, len(pages)) == (1, 600)


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_whom_to_call_changes_at_midnight_in_vietnam_on_both_ways(lang: str) -> None:
    """An agency's last day may be over while no announcement and no load of the catalogue makes anything anew."""
    midnight = datetime(2026, 11, 30, 17, tzinfo=UTC)
    agencies = dict(CATALOGUE.agencies)
    ended, successor = agencies["G99.01.01"], agencies["G99.01.02"]
    agencies[ended.code] = msgspec.structs.replace(
        ended, hotline="024 1111 1111", valid_to=date(2026, 12, 1), successor=successor.code
    )
    agencies[successor.code] = msgspec.structs.replace(successor, hotline="024 2222 2222")
    catalogue = Catalogue(agencies, CATALOGUE.services)
    face = PageFace(lang, Answers(lambda: catalogue, frozenset(), "https://x"))
    face.refresh()
    record = Record(
        code="G99.01.01-261120-0001", version=1, status=4, service="S.004", agency=ended.code, submitted_at=NOW
    )
    for at, shown in ((midnight - timedelta(seconds=1), b"1111"), (midnight, b"2222")):
        as_of = microseconds(at)
        ready = face.fresh(record.code, 1, 1, pack(record), as_of, b"", False)
        normal = face.late(
            Found(record, as_of, 0, False, "memory", 1), codes.parse(record.code), held=lambda _: False, gzip=False
        )
        assert ready is not None
        assert (ready.body, ready.tag.decode()) == (normal.body, normal.headers["ETag"])
        assert b"024 " + shown in ready.body


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_tag_names_all_that_epoch_version_and_minute_do_not(lang: str) -> None:
    """Whom to call stands in the catalogue: another number of the same length is other bytes of the same version."""
    record = Record(
        code="G99.01.01-261120-0001",
        version=1,
        status=4,
        service="S.004",
        agency="G99.01.01",
        submitted_at=datetime(2026, 11, 20, tzinfo=UTC),
    )
    answers = Answers(lambda: CATALOGUE, frozenset(), "https://x")
    face = PageFace(lang, answers)
    given_out = {}
    for contact in ("024 3000 0001", "024 3000 0002"):
        answers.contacts.block = lambda *_, contact=contact: Markup("<b>{}</b>").format(contact)  # type: ignore[method-assign]
        face._known.clear()
        ready = face.fresh(record.code, 1, 1, pack(record), microseconds(NOW), b"", False)
        assert ready is not None
        given_out[ready.tag] = ready.body
    assert all(re.fullmatch(rb'"1\.1\.[0-9]{8}-[0-9a-f]{8}"', tag) for tag in given_out)
    first, second = given_out.values()
    assert len(first) == len(second)
    assert first != second

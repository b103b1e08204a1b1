"""A status as text: short enough for two messages, true, refused in the same way as the page."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from lookup import code as codes
from lookup.clock import microseconds
from lookup.code import parse
from lookup.dossier import Record, Shows, Step
from lookup.lookup_key import KeyRing
from lookup.reading.freshness import SECOND
from lookup.reading.reader import Found
from lookup.situation import CASES
from lookup.status import Status
from lookup.web.answers import Answers
from lookup.web.layout import FORMS
from lookup.web.phrases import PHRASES
from lookup.web.plain_text import LONGEST, lines
from lookup.web.status_pages import parts
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import lookup_alone
from tests.lookup.offline import CATALOGUE, PUBLIC_URL

KNOWN = parse("G99.12.01-260101-0001")
UNKNOWN = parse("G99.12.01-260101-9999")
KEY = KeyRing.from_text(KEY_SECRETS).key(KNOWN)
SEEN = datetime(2026, 11, 30, 11, 19, 40, tzinfo=UTC)
LONG = parse("G99.999.999.999.999.999.999.999.999-261130-9999999999")
NUMBER = parse("1234567/2026/99901")


def records() -> Iterator[Record]:
    """Dossiers of every case there is for anyone, most more than once."""
    base = Record(code=LONG.text, version=1, status=1, service="S.004", agency="G99.01.01", submitted_at=SEEN)
    way = [Step(SEEN, slug, "G99.01.01") for slug in ("submitted", "received", "processing")]
    dues = [None, *(SEEN + timedelta(days=days) for days in (-400, -1, 0, 1, 400))]
    for status, due, steps in itertools.product(Status, dues, ([], way)):
        between = {Status.PROCESSING: ["completed"], Status.RETURNED: ["suspended"]}.get(status, [])
        for slugs in ([status.slug], [*between, status.slug]):
            timeline = (*steps, *(Step(SEEN, slug, "G99.01.01") for slug in slugs))
            given = {
                "status": status.value,
                "due_at": due,
                "timeline": timeline,
                "received_at": SEEN if steps else None,
            }
            yield msgspec.structs.replace(base, **given)
            yield msgspec.structs.replace(base, **given, outcome="refused", reason="Lý do")


def found(record: Record, *, stale: bool) -> Found:
    return Found(record, microseconds(SEEN), 7200 * SECOND if stale else 3 * SECOND, stale, "memory", 1)


@pytest.mark.parametrize("lang", FORMS)
@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
@pytest.mark.parametrize("shows", [(), (Shows.DUE,)], ids=["", "due"])
@pytest.mark.parametrize("code", [LONG, NUMBER], ids=["code", "number"])
def test_no_case_takes_three_hundred_bytes(
    lang: str, stale: bool, shows: tuple[Shows, ...], code: codes.DossierCode
) -> None:
    assert len(LONG.text) == 53  # no spelling of a longer code is taken
    answers = Answers(lambda: CATALOGUE, frozenset(shows), PUBLIC_URL)
    cases, longest = set(), 0
    for record in records():
        shape, words = parts(answers, found(record, stale=stale), code, lang)
        said = lines(shape, words)
        size = len("\n".join([*said, ""]).encode())
        assert size < LONGEST, said
        assert said[0].startswith(PHRASES[lang]["text.status"].partition("{")[0] + code.text)
        as_of = PHRASES[lang]["text.stale" if stale else "text.as_of"]
        assert said[-1] == as_of.format(when=words.as_of)
        cases.add(shape.situation.case)
        longest = max(longest, size)
    by_date = {"2t", "2T", "2o", "4t", "4T", "4o", "4co", "9e"}  # not told of a stale answer, or without dates
    holders = {"2T", "4T", "9r", "9p", "10r", "10p"}  # the hour, and what came of it
    assert cases >= {*CASES} - by_date - holders
    assert cases >= ({*CASES} - holders if shows and not stale else set())
    assert not cases & holders
    assert longest > 150


async def test_text_says_what_the_page_says_and_is_charged_as_it_is() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for lang, form in FORMS.items():
            answer = await alone.ask(f"{form}/{KNOWN.path}.txt")
            said = answer.body.decode()
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.headers["Content-Language"] == lang
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Robots-Tag"] == "noindex"
            assert answer.headers["Link"] == f'<{form}/{KNOWN.path}>; rel="canonical"'
            assert said.endswith("\n")
            t = PHRASES[lang]
            assert said.splitlines()[:2] == [
                t["text.status"].format(code=KNOWN.text, status=t["status.processing.name"]),
                t["case.4.lead"],
            ]
            page = await alone.ask(f"{form}/{KNOWN.path}")
            assert t["case.4.lead"].encode() in page.body
        assert [rate for _, rate in alone.charges.charged] == [None]  # the same dossier for the same address: once


async def test_any_spelling_leads_to_the_one_address() -> None:
    async with lookup_alone() as alone:
        for form in FORMS.values():
            answer = await alone.ask(f"{form}/{KNOWN.path.lower()}.txt")
            assert (answer.status, answer.headers["Location"]) == (301, f"{form}/{KNOWN.path}.txt")


async def test_key_opens_nothing_here() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text, action_needed="Nộp bản sao (ví dụ).")
        plain = await alone.ask(f"/tra-cuu/{KNOWN.path}.txt")
        for path, more in ((f"{KNOWN.path}.txt?key={KEY}", None), (f"{KNOWN.path}.txt", {"Hoso24-Key": KEY})):
            assert (await alone.ask(f"/tra-cuu/{path}", cookie=KEY, more=more)).body == plain.body


@pytest.mark.parametrize("lang", FORMS)
async def test_refusals_are_text_with_the_status_of_the_page(lang: str) -> None:
    form, t = FORMS[lang], PHRASES[lang]
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for name, status, problem in (
            (UNKNOWN.path, 404, "dossier_not_found"),
            ("nonsense", 400, "malformed_code"),
            ("%3Cscript%3E", 400, "malformed_code"),
        ):
            answer, page = await alone.ask(f"{form}/{name}.txt"), await alone.ask(f"{form}/{name}")
            assert answer.status == page.status == status
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.body.decode().splitlines()[0] == t[f"problem.{problem}.title"] + "."
            assert len(answer.body) < LONGEST
            assert b"<" not in answer.body
        assert (await alone.ask(f"{form}/{KNOWN.path}.txt", "POST")).status in {400, 405}
        for n in range(100):
            await alone.ask(f"{form}/G99.12.01-260101-{n + 5000}.txt")
        answer = await alone.ask(f"{form}/{UNKNOWN.path}.txt")
        assert answer.status == 429
        assert answer.body.decode().splitlines()[0] == t["problem.too_many_requests.title"] + "."
        assert int(answer.headers["Retry-After"]) >= 10


async def test_text_when_nothing_can_be_read() -> None:
    async with lookup_alone() as alone:
        alone.store.away = True
        answer = await alone.ask(f"/tra-cuu/{KNOWN.path}.txt")
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert int(answer.headers["Retry-After"]) >= 1


async def test_text_is_refused_without_a_key_where_one_is_required() -> None:
    async with lookup_alone(key_for_any_status=True) as alone:
        alone.put(KNOWN.text)
        assert (await alone.ask(f"/tra-cuu/{KNOWN.path}.txt")).status == 403

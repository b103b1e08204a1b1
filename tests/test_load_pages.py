"""The load tests' judge of pages: it accepts every page of the table of situations, and no spoiled one."""

import asyncio
import gzip
from collections.abc import Mapping
from functools import cache

import pytest
from aiohttp import web

from loadtests import answers, pages
from loadtests.answers import Answer, Status, Wrong
from lookup.web.dates import machine_time
from lookup.web.layout import FORMS, KEY_COOKIE, OWN_LIST, RATING
from tests.lookup.offline import Offline
from tests.pages.situations import Situation, situations

FRESH = {each.name: each for each in situations()}
ASKED_BY_CODE = [each for each in situations() if each.asked_as is None]
GZIP = {"Accept-Encoding": "gzip, deflate, br"}


def answered(lookup: Offline, path: str, headers: Mapping[str, str]) -> Answer:
    response = asyncio.run(lookup.ask(path, headers=headers))
    return sent(response)


def sent(response: web.Response) -> Answer:
    body = response.body
    assert isinstance(body, bytes)
    said = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, {"content-type": f"{response.content_type}; charset=utf-8"} | said, body)


@cache
def known() -> dict[str, Status]:
    return answers.statuses(answered(situations()[0].lookup("fresh"), "/api/v1/statuses", {}))


def page_of(situation: Situation, language: str, *, holder: bool = False, lookup: Offline | None = None) -> Answer:
    lookup = lookup or situation.lookup("fresh")
    cookie = {"Cookie": f"{KEY_COOKIE}={lookup.key}"} if holder else {}
    return answered(lookup, f"{FORMS[language]}/{lookup.code.path}", GZIP | cookie)


def test_addresses_are_the_lookups() -> None:
    assert (pages.FORMS, pages.OWN_LISTS, pages.RATINGS, pages.KEY_COOKIE) == (FORMS, OWN_LIST, RATING, KEY_COOKIE)


@pytest.mark.parametrize("language", FORMS)
@pytest.mark.parametrize("situation", ASKED_BY_CODE, ids=lambda each: each.name)
def test_every_page_of_the_table_says_what_is_true_of_its_dossier(situation: Situation, language: str) -> None:
    dossier = situation.record
    for age in ("fresh", "stale"):
        lookup = situation.lookup(age)
        for holder in (False, True):
            answer = page_of(situation, language, holder=holder, lookup=lookup)
            said = pages.page(answer, dossier.code, language, known(), holder=holder)
            assert (said.status, said.marked) == (situation.status.slug, age == "stale")
            assert (said.etag is not None) is (age == "fresh" and not holder)
            assert said.as_of == situation.seen.replace(second=0, microsecond=0)
            if not holder:
                assert not said.due
                assert not said.dates
            elif dossier.due_at and situation.status.slug in ("received", "processing", "suspended", "completed"):
                assert said.due == machine_time(dossier.due_at)
            else:
                assert said.due in ("", machine_time(dossier.due_at) if dossier.due_at else "")
            assert len(said.linked) == 2


@pytest.fixture
def page() -> Answer:
    """What anyone sees of a dossier that is being processed, in English."""
    return page_of(processing(), "en")


def processing() -> Situation:
    return next(each for each in ASKED_BY_CODE if each.status.slug == "processing")


def spoiled(answer: Answer, before: str, after: str) -> Answer:
    text = gzip.decompress(answer.body).decode()
    assert before in text
    return answer._replace(body=gzip.compress(text.replace(before, after).encode()))


SPOILED = [
    ('<html lang="en">', '<html lang="vi">', "other language"),
    ("</main>", "<script></script></main>", "with a script"),
    (' name="key"', "", "another kind of visitor"),
    ("<span>Being processed</span></span></h1>", "<span>Decided</span></span></h1>", "contradicts itself"),
    ("Being processed", "Underway", "not published"),
    ("Being processed", "Decided", "degree of completion"),
    ("<b>50%</b>", "<b>25%</b>", "degree of completion"),
    ('id="as-of"', 'id="as_of"', "as of when"),
    ('<time id="as-of" datetime="2026-', '<time id="as-of" datetime="2027-', "contradicts itself"),
    ("</article>", '<time datetime="2026-12-09T16:30+07:00">soon</time></article>', "the holder's"),
]


@pytest.mark.parametrize(("before", "after", "why"), SPOILED, ids=[why for _, _, why in SPOILED])
def test_spoiled_page_is_noticed(page: Answer, before: str, after: str, why: str) -> None:
    code = processing().record.code
    pages.page(page, code, "en", known())
    with pytest.raises(Wrong, match=why):
        pages.page(spoiled(page, before, after), code, "en", known())


@pytest.mark.parametrize(
    ("header", "value", "why"),
    [
        ("cache-control", "public, max-age=60", "an edge may store"),
        ("cache-control", "private, max-age=60", "kept longer"),
        ("etag", None, "cannot be asked for again"),
        ("content-encoding", None, "not though asked"),
        ("content-type", "text/plain", "not a page"),
    ],
)
def test_page_with_wrong_headers_is_noticed(page: Answer, header: str, value: str | None, why: str) -> None:
    headers = {name: text for name, text in page.headers.items() if name != header}
    headers |= {header: value} if value else {}
    with pytest.raises(Wrong, match=why):
        pages.page(page._replace(headers=headers), processing().record.code, "en", known())


def test_page_that_ends_in_the_middle_of_gzip_is_noticed(page: Answer) -> None:
    with pytest.raises(Wrong, match="unpacked"):
        pages.page(page._replace(body=page.body[:-9]), processing().record.code, "en", known())


def test_page_that_is_marked_as_of_two_minutes_is_noticed() -> None:
    answer, code = page_of(processing(), "en", lookup=processing().lookup("stale")), processing().record.code
    assert pages.page(answer, code, "en", known()).marked
    with pytest.raises(Wrong, match="contradicts itself"):
        pages.page(spoiled(answer, '<time datetime="2026', '<time datetime="2025'), code, "en", known())


def test_holders_page_with_anothers_history_is_noticed() -> None:
    answer, code = page_of(processing(), "vi", holder=True), processing().record.code
    assert pages.page(answer, code, "vi", known(), holder=True).dates
    last = spoiled(answer, "</time> <b>Đang xử lý</b>", "</time> <b>Đã trả kết quả</b>")
    with pytest.raises(Wrong, match="timeline"):
        pages.page(last, code, "vi", known(), holder=True)
    with pytest.raises(Wrong, match="another kind of visitor"):
        pages.page(answer, code, "vi", known())


def test_answer_to_check_again_is_304_with_the_tag_or_another_page(page: Answer) -> None:
    code, headers = processing().record.code, {"etag": page.headers["etag"]}
    before = pages.page(page, code, "en", known())
    assert pages.again(Answer(304, headers), before, code, "en", known()) == before
    later = page._replace(headers={**page.headers, "etag": '"later"'})
    assert pages.again(later, before, code, "en", known()).etag == '"later"'
    for wrong in (page, Answer(304, headers, b"text"), Answer(304, {"etag": '"later"'}), Answer(304, {})):
        with pytest.raises(Wrong):
            pages.again(wrong, before, code, "en", known())


def test_link_spelled_freely_leads_to_the_one_page(page: Answer) -> None:
    code, where = processing().record.code, f"/en/status/{processing().record.code}"
    assert pages.one_page(page, code, "en", known(), where) is False
    assert pages.one_page(Answer(301, {"location": where}), code, "en", known(), where) is True
    for wrong in (Answer(301, {"location": "/en/status"}), Answer(404, {}), page._replace(body=b"<html lang='en'>")):
        with pytest.raises(Wrong):
            pages.one_page(wrong, code, "en", known(), where)


def test_form_list_and_sheet_are_known_by_what_is_on_them() -> None:
    headers = {"content-type": "text/html", "cache-control": "private, no-cache"}
    lookup, code = situations()[0].lookup("fresh"), situations()[0].record.code
    for language, form in FORMS.items():
        assert len(pages.form(answered(lookup, form, GZIP), language)) == 2
    row = f'<html lang="vi"><h2 id="row-1"><a class="code" href="/">{code}</a></h2>\n<p><b>Đang xử lý.</b> Hồ sơ …</p>'
    listed = Answer(200, headers, row.encode())
    assert pages.own_list(listed, code, "vi", known())
    for before, after in (
        (code, "G99.01.01-261126-0009"),
        ("Đang xử lý", "Đang chờ"),
        ("</h2>", "</h3>"),
        ("class", "id"),
    ):
        with pytest.raises(Wrong):
            pages.own_list(listed._replace(body=row.replace(before, after).encode()), code, "vi", known())
    sheet = Answer(200, {"cache-control": "public, max-age=31536000, immutable"}, b"")
    assert pages.drawn_with(sheet)
    with pytest.raises(Wrong, match="not kept"):
        pages.drawn_with(Answer(200, {"cache-control": "no-store"}, b""))
    with pytest.raises(Wrong, match="without its field"):
        pages.form(Answer(200, headers, b'<html lang="en">'), "en")

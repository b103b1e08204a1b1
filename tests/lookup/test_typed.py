"""What is pasted into the form or an address leads to the one page it means, and what goes wrong says so."""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest

from lookup import code as codes
from lookup.code import Flaw, MalformedCode
from lookup.lookup_key import KeyRing
from lookup.web import typed
from lookup.web.layout import OWN_LIST, RATING
from lookup.web.phrases import PHRASES
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, Answer, lookup_alone

KEYS = KeyRing.from_text(KEY_SECRETS)
CODE = codes.parse("G99.01.01-261120-0001")
KEY = KEYS.key(CODE)
NUMBER = codes.parse("00077/2026/99901")
SITE = "https://tra-cuu.example"
FORMS = {"vi": "/tra-cuu", "en": "/en/status"}


@pytest.fixture
async def alone() -> AsyncIterator[Alone]:
    async with lookup_alone() as running:
        running.put(CODE.text, official_number=NUMBER.text)
        running.store.numbers_of[NUMBER.text] = CODE.text
        yield running


def paths_of(answer: Answer) -> list[str]:
    """Where the answer's cookies are sent."""
    return [re.search("Path=([^;]*)", cookie)[1] for cookie in answer.headers.getall("Set-Cookie", [])]  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "key"), [("", ""), ("!!", ""), ("a", "a"), ("(a!b).", "a!b"), (" \n a\nb\n ", "a\nb"), ("ạ…", "ạ")]
)
def test_key_of_a_link_is_without_the_marks_around_it(value: str, key: str) -> None:
    assert typed.read_address(f"{CODE.path}?{urlencode({'key': value})}") == (CODE, key)


def test_marks_within_a_key_are_read_once_however_many_there_are() -> None:
    """Where each was read again from every one before it, this took minutes, and an address of 8 kB 0.7 s."""
    long = "a" + "!" * 200_000 + "a"
    assert typed.read_address(f"{CODE.path}?key={long}") == (CODE, long)


LINKS = {
    f"{SITE}/tra-cuu/{CODE.path}": None,
    f"{SITE}/en/status/{CODE.path}": None,
    f"{SITE}/tra-cuu/{CODE.path}/": None,
    f"{SITE}/tra-cuu/{CODE.path}.": None,
    f"({SITE}/tra-cuu/{CODE.path}).": None,
    f"{SITE}/tra-cuu/{CODE.path.lower()}": None,
    f"tra-cuu.example/tra-cuu/{CODE.path}": None,
    f"/tra-cuu/{CODE.path}#main": None,
    f"{SITE}/tra-cuu?ma={CODE.path}": None,
    f"{SITE}/en/status?code={quote('g99.01.01 261120 0001')}": None,
    f"{SITE}/api/v1/dossiers/{CODE.path}": None,
    f"{SITE}/tra-cuu/{CODE.path}?key={KEY}": KEY,
    f"{SITE}/en/status/{CODE.path}?utm_source=zalo&key={KEY}": KEY,
    f"Xem tại {SITE}/tra-cuu/{CODE.path}?key={KEY}. Cảm ơn.": KEY,
    f'<a href="{SITE}/tra-cuu/{CODE.path}?key={KEY}">Xem</a>': KEY,
    f"{SITE}/tra-cuu/{CODE.path}%3Fkey%3D{KEY}": KEY,
    f"https://zalo.example/?u={quote(f'{SITE}/tra-cuu/{CODE.path}?key={KEY}', safe='')}": KEY,
    f"{SITE}/tra-cuu/{CODE.path} {SITE}/en/status/{CODE.path}?key={KEY}": KEY,
    f"{SITE}/tra-cuu/{CODE.path}?key=": "",
    f"{SITE}/tra-cuu/{CODE.path}?key=10QSW": "10QSW",
}


@pytest.mark.parametrize(("text", "key"), LINKS.items())
def test_link_of_ours_is_read_wherever_it_stands(text: str, key: str | None) -> None:
    assert typed.read(text) == (CODE, key)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (KEY, Flaw.KEY),
        (KEY.lower().replace("-", " "), Flaw.KEY),
        (f"{SITE}/tra-cuu/{CODE.path} {SITE}/tra-cuu/{CODE.path}2", Flaw.AMBIGUOUS),
        (f"{SITE}/tra-cuu/", Flaw.OTHER),
        (f"{SITE}/tra-cuu/G99.01.01-2611", Flaw.OTHER),
        (f"{SITE}/tra-cuu/{KEY}", Flaw.KEY),
        ("https://evil.example/", Flaw.OTHER),
        ("/tra-cuu/" * 300, Flaw.TOO_LONG),
    ],
)
def test_what_is_no_link_to_one_dossier_says_so(text: str, flaw: Flaw) -> None:
    with pytest.raises(MalformedCode) as refused:
        typed.read(text)
    assert refused.value.flaw is flaw


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_pasted_link_goes_to_its_page_and_its_key_opens_it(alone: Alone, lang: str, form: str) -> None:
    for text, key in LINKS.items():
        answer = await alone.ask(f"{form}?{urlencode({'ma': text})}")
        if key is None:
            assert (answer.status, answer.headers["Location"]) == (301, f"{form}/{CODE.path}"), text
            assert "Set-Cookie" not in answer.headers
        elif key == KEY:
            assert (answer.status, answer.headers["Location"]) == (303, f"{form}/{CODE.path}?details=shown"), text
            assert all(KEY in cookie for cookie in answer.headers.getall("Set-Cookie"))
        else:
            assert answer.status == 400
            assert 'href="#key"' in answer.body.decode()


@pytest.mark.parametrize(
    "path", [f"{CODE.path}/", f"{CODE.path}.", f"{CODE.path}),", f"%22{CODE.path}%22", f"{CODE.path}%0A"]
)
async def test_address_with_what_a_chat_adds_leads_to_the_page(alone: Alone, path: str) -> None:
    for form in FORMS.values():
        answer = await alone.ask(f"{form}/{path}")
        assert (answer.status, answer.headers["Location"]) == (301, f"{form}/{CODE.path}")


async def test_api_takes_a_spelling_and_no_control(alone: Alone) -> None:
    for path in (f"{CODE.path}.", CODE.path.lower(), CODE.path.replace("-", "_"), f"Code:%20{CODE.path}"):
        answer = await alone.ask(f"/api/v1/dossiers/{path}")
        assert (answer.status, answer.headers["Location"]) == (301, f"/api/v1/dossiers/{CODE.path}")
    for path in (
        f"{CODE.path}%0A",
        f"%0D{CODE.path}",
        CODE.path.replace("-", "%09"),
        f"{CODE.path}%00",
        f"{CODE.path}%C2%85",
    ):
        answer = await alone.ask(f"/api/v1/dossiers/{path}")
        assert answer.status == 400, path
        assert b'"malformed_code"' in answer.body


async def test_api_says_what_is_wrong_in_the_language_that_is_preferred(alone: Alone) -> None:
    for accepted, detail in (
        ("vi", "Nhóm 271327 phải là năm, tháng, ngày"),
        ("en", "The group 271327 must be the year"),
    ):
        answer = await alone.ask("/api/v1/dossiers/G99.01.01-271327-0001", more={"Accept-Language": accepted})
        assert detail in answer.body.decode()
        key = await alone.ask(f"/api/v1/dossiers/{KEY}", more={"Accept-Language": accepted})
        assert ("mã tra cứu" if accepted == "vi" else "access key") in key.body.decode()


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_form_says_why_and_keeps_what_was_typed(alone: Alone, lang: str, form: str) -> None:
    for text, flaw in (
        ("G99.01.01-271327-0001", Flaw.DAY),
        ("G99.01.01", Flaw.CUT_OFF),
        ("", Flaw.EMPTY),
        (KEY, Flaw.KEY),
    ):
        said = codes.SENTENCES[flaw][lang == "vi"].format(group="271327")
        for address in (f"{form}?{urlencode({'code': text})}", f"{form}/{quote(text)}" if text else None):
            if address is None:
                continue
            answer = await alone.ask(address)
            page = answer.body.decode()
            assert answer.status == 400
            assert f"<title>{PHRASES[lang]['form.error_prefix']} {said} · " in page
            assert f'<li><a href="#code">{said}</a></li>' in page
            assert page.index("autofocus") < page.index("<h1>")
            assert (f'value="{text}"' in page) is bool(text)
            assert f'class="language" href="{FORMS["en" if lang == "vi" else "vi"]}"' in page


async def test_unknown_code_stays_in_the_field_as_it_is_printed(alone: Alone) -> None:
    page = (await alone.ask("/tra-cuu/01234-2026-99901")).body.decode()
    assert 'value="01234/2026/99901"' in page
    assert "01234/2026/99901." in page
    page = (await alone.ask("/tra-cuu/G99.O1.0I-261120-0001")).body.decode()
    assert f'href="/tra-cuu/{CODE.path}"' in page  # it may be meant: it is offered, not shown
    assert "Đang xử lý" not in page


# -- the holder's view ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [CODE, NUMBER])
@pytest.mark.parametrize("form", FORMS.values())
async def test_key_opens_every_address_of_its_dossier(alone: Alone, form: str, asked: codes.DossierCode) -> None:
    answer = await alone.ask(f"{form}/{asked.path}?key={KEY}")
    assert (answer.status, answer.headers["Location"]) == (303, f"{form}/{asked.path}?details=shown")
    assert set(paths_of(answer)) == {f"{each}/{code.path}" for each in FORMS.values() for code in (CODE, NUMBER)}
    page = (await alone.ask(f"{form}/{asked.path}", cookie=KEY)).body.decode()
    links = re.findall(rf'(?:href|action)="{form}/([^"]*)"', page)
    rating = {address.removeprefix(f"{form}/") for address in RATING.values()}
    assert set(links) - rating == {asked.path}


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_page_says_that_the_browser_kept_no_cookie(alone: Alone, lang: str, form: str) -> None:
    opened = (await alone.ask(f"{form}/{CODE.path}?key={KEY}")).headers["Location"]
    told = PHRASES[lang]["told.shown"]
    without, holder = await alone.ask(opened), await alone.ask(opened, cookie=KEY)
    assert (without.status, holder.status) == (200, 200)
    assert told in without.body.decode()
    assert 'id="told"' not in holder.body.decode()
    assert 'id="told"' not in (await alone.ask(f"{form}/{CODE.path}?details=other")).body.decode()


@pytest.mark.parametrize("asked", [CODE, NUMBER])
@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_details_are_hidden_on_every_address_of_both_languages(
    alone: Alone, lang: str, form: str, asked: codes.DossierCode
) -> None:
    holder = (await alone.ask(f"{form}/{asked.path}", cookie=KEY)).body.decode()
    assert 'name="hide"' in holder
    assert 'name="hide"' not in (await alone.ask(f"{form}/{asked.path}")).body.decode()
    hidden = await alone.ask(f"{form}/{asked.path}", "POST", data="hide=1", cookie=KEY)
    assert (hidden.status, hidden.headers["Location"]) == (303, f"{form}/{asked.path}?details=hidden")
    of_the_dossier = {f"{each}/{code.path}" for each in FORMS.values() for code in (CODE, NUMBER)}
    assert set(paths_of(hidden)) == of_the_dossier | set(OWN_LIST.values())
    assert all(
        "Max-Age=0" in cookie and cookie.startswith(("hoso24-key=;", "hoso24-list=;"))
        for cookie in hidden.headers.getall("Set-Cookie")
    )
    assert PHRASES[lang]["told.hidden"] in (await alone.ask(hidden.headers["Location"])).body.decode()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_sites_form_hides_nothing_and_leaves_the_list(alone: Alone, site: str) -> None:
    address, other = f"/tra-cuu/{CODE.path}", {"Sec-Fetch-Site": site}
    answer = await alone.ask(address, "POST", data="hide=1", cookie=KEY, more=other)
    assert (answer.status, answer.headers["Location"], paths_of(answer)) == (303, address, [])


async def test_details_can_be_hidden_while_nothing_can_be_read(alone: Alone) -> None:
    alone.store.away = True
    hidden = await alone.ask(f"/tra-cuu/{CODE.path}", "POST", data="hide=1", cookie=KEY)
    assert hidden.status == 303
    assert set(paths_of(hidden)) == {f"{form}/{CODE.path}" for form in FORMS.values()} | set(OWN_LIST.values())


# -- ways back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/en/", "/en"),
        ("/tra-cuu/", "/tra-cuu"),
        ("/en/status//", "/en/status"),
        ("/tinh-trang-he-thong/", "/tinh-trang-he-thong"),
        ("/en/service-status/?x=1", "/en/service-status?x=1"),
        ("/api/v1/statuses/", "/api/v1/statuses"),
        (f"/tra-cuu/?ma={CODE.path}&key={KEY}", f"/tra-cuu?ma={CODE.path}&key={KEY}"),
    ],
)
async def test_slash_at_the_end_is_left_away(alone: Alone, path: str, there: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await alone.ask(path, method)
        assert (answer.status, answer.headers["Location"]) == (301, there)
        assert answer.headers["Cache-Control"] == ("no-store" if "?" in there else "public, max-age=86400")


@pytest.mark.parametrize("path", ["/nothing/", "//evil.example/", "/%2F/evil.example/", "/static/none/x/", "///"])
async def test_slash_leads_nowhere_where_nothing_is(alone: Alone, path: str) -> None:
    answer = await alone.ask(path)
    assert answer.status == 404
    assert "Location" not in answer.headers


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_page_of_an_outage_or_a_limit_offers_another_try(alone: Alone, lang: str, form: str) -> None:
    alone.store.away = True
    away = await alone.ask(f"{form}/{CODE.path}")
    alone.store.away = False
    for number in range(1_000):
        limited = await alone.ask(f"{form}/G99.01.01-261120-{number + 1000}")
        if limited.status == 429:
            break
    for answer, status, path in ((away, 503, CODE.path), (limited, 429, f"G99.01.01-261120-{number + 1000}")):
        page = answer.body.decode()
        assert answer.status == status
        assert f'<a class="button" href="{form}/{path}">{PHRASES[lang]["problem.retry"]}</a>' in page
        assert f'href="{form}"' in page
    assert ("không bị giới hạn" if lang == "vi" else "never limited") in limited.body.decode()
    assert f'action="{form}/{path}" method="post"' in limited.body.decode()

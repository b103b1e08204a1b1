"""The person's own list: kept by their browser alone, after a tick, without keys, and away from every lookup."""

import html
import re
from http.cookies import SimpleCookie

import pytest

from lookup.code import parse
from lookup.lookup_key import KeyRing
from lookup.web.layout import FORMS, OWN_LIST
from lookup.web.own_list import listed
from lookup.web.phrases import PHRASES
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, Answer, lookup_alone

CODES = [parse(f"G99.12.01-260101-000{n}") for n in range(1, 8)]
NUMBER = parse("01234/2026/99901")
UNKNOWN = parse("G99.12.01-260101-9999")
KEY = KeyRing.from_text(KEY_SECRETS).key(CODES[0])
OURS = {"Sec-Fetch-Site": "same-origin"}


def cookies(answer: Answer) -> dict[str, tuple[str, dict[str, str]]]:
    """Path → the value set there, and the cookie's other attributes."""
    found = {}
    for header in answer.headers.getall("Set-Cookie", []):
        ((name, morsel),) = SimpleCookie(header).items()
        assert name == "hoso24-list"
        found[morsel["path"]] = (morsel.value, {k: str(v) for k, v in morsel.items() if v and k != "path"})
    return found


async def post(alone: Alone, kept: str = "", address: str = OWN_LIST["vi"], **form: str) -> Answer:
    more = OURS | ({"Cookie": f"hoso24-list={kept}"} if kept else {})
    return await alone.ask(address, "POST", data=form, more=more)


async def show(alone: Alone, kept: str, address: str = OWN_LIST["vi"]) -> str:
    answer = await alone.ask(address, more={"Cookie": f"hoso24-list={kept}"})
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "Set-Cookie" not in answer.headers
    return html.unescape(answer.body.decode())


def shown(page: str) -> list[str]:
    return re.findall(r'<h2 id="row-\d"><a class="code" href="[^"]*">([^<]*)</a>', page)


def value(*wanted: object) -> str:
    return "~".join(str(code).replace("/", "-") for code in wanted)


@pytest.mark.parametrize("address", OWN_LIST.values())
@pytest.mark.parametrize("tls", [True, False])
async def test_tick_keeps_the_code_for_thirty_days_at_this_page_alone(address: str, tls: bool) -> None:
    async with lookup_alone(public_url=f"http{'s' * tls}://tra-cuu.example") as alone:
        answer = await post(alone, address=address, code=CODES[0].text.lower(), remember="1")
        assert (answer.status, answer.headers["Location"]) == (303, address)
        attributes = {"max-age": "2592000", "httponly": "True", "samesite": "Lax"} | ({"secure": "True"} if tls else {})
        assert cookies(answer) == dict.fromkeys(("/ho-so-cua-toi", "/en/my-applications"), (CODES[0].path, attributes))
        for page in FORMS.values():
            assert not page.startswith(tuple(OWN_LIST.values()))


async def test_without_the_tick_nothing_is_kept() -> None:
    async with lookup_alone() as alone:
        for form in ({"code": CODES[0].text}, {"code": CODES[0].text, "remember": ""}, {}, {"unknown": "1"}):
            assert cookies(await post(alone, **form)) == {}


async def test_five_are_kept_the_newest_first_and_each_once() -> None:
    async with lookup_alone() as alone:
        kept = ""
        for code in [*CODES[:6], CODES[3]]:
            ((kept, _), *_) = cookies(await post(alone, kept, code=code.text, remember="1")).values()
        assert kept == value(CODES[3], CODES[5], CODES[4], CODES[2], CODES[1])


async def test_official_number_is_kept_too_and_no_key_is() -> None:
    async with lookup_alone() as alone:
        answer = await post(alone, code=NUMBER.text, remember="1", key=KEY)
        assert [kept for kept, _ in cookies(answer).values()] == [NUMBER.path] * 2
        assert KEY not in str(answer.headers)


async def test_remove_and_clear() -> None:
    async with lookup_alone() as alone:
        kept = value(*CODES[:3])
        ((left, _), *_) = cookies(await post(alone, kept, remove=CODES[1].path)).values()
        assert left == value(CODES[0], CODES[2])
        for answer in (await post(alone, kept, clear="1"), await post(alone, CODES[0].path, remove=CODES[0].path)):
            gone = {path: (kept, attributes["max-age"]) for path, (kept, attributes) in cookies(answer).items()}
            assert gone == dict.fromkeys(OWN_LIST.values(), ("", "0"))


@pytest.mark.parametrize("lang", OWN_LIST)
async def test_list_shows_anyones_view_and_is_charged_as_lookups(lang: str) -> None:
    async with lookup_alone() as alone:
        for code in CODES[:2]:
            alone.put(code.text, action_needed="Nộp bản sao (ví dụ).")
        address, t = OWN_LIST[lang], PHRASES[lang]
        kept = value(CODES[1], UNKNOWN, CODES[0])
        answer = await alone.ask(address, more={"Cookie": f"hoso24-list={kept}; hoso24-key={KEY}"})
        page = html.unescape(answer.body.decode())
        assert shown(page) == [CODES[1].text, UNKNOWN.text, CODES[0].text]
        assert page.count(t["case.4.lead"]) == 2
        assert t["list.missing"] in page
        assert "bản sao" not in page
        assert f'href="{FORMS[lang]}/{CODES[0].path}"' in page
        assert f'href="{OWN_LIST["en" if lang == "vi" else "vi"]}"' in page
        assert len(alone.charges.charged) == 3


async def test_refused_lookups_leave_the_list_readable() -> None:
    async with lookup_alone() as alone:
        alone.store.away = True
        page = await show(alone, value(*CODES[:5]))
        assert page.count(PHRASES["vi"]["list.not_shown"]) == 5
        assert PHRASES["vi"]["list.full"] in page
        assert page.count(PHRASES["vi"]["list.remove"]) == 5
    async with lookup_alone(key_for_any_status=True) as alone:
        alone.put(CODES[0].text)
        assert PHRASES["vi"]["list.not_shown"] in await show(alone, CODES[0].path)


HOSTILE = [
    "",
    "~",
    "~~~~",
    "nonsense",
    "<script>alert(1)</script>",
    "G99.12.01-260101-0001%0d%0aSet-Cookie:x",
    "g99.12.01-260101-0001",  # not as we write it
    "01234/2026/99901",
    "..~/..~//evil.example",
    "x" * 4_000,
    value(*CODES[:5]) + "~" * 500,
    KEY,
    "G99.12.01-260101-0001\u202e",
]


@pytest.mark.parametrize("kept", HOSTILE)
async def test_hostile_cookie_is_ignored_and_overwritten(kept: str) -> None:
    async with lookup_alone() as alone:
        page = await show(alone, kept)
        assert shown(page) == []
        assert PHRASES["vi"]["list.empty"] in page
        assert "<script" not in page
        assert alone.charges.charged == []
        ((written, _), *_) = cookies(await post(alone, kept, code=CODES[0].text, remember="1")).values()
        assert written == CODES[0].path


def test_good_codes_among_hostile_ones_are_kept() -> None:
    assert listed(value(CODES[0], "nonsense", CODES[0], CODES[1], "<b>")) == CODES[:2]
    assert listed(value(*CODES)) == CODES[:5]
    assert listed(value(CODES[0], "x" * 400)) == []  # longer than any of ours
    assert listed(None) == []


@pytest.mark.parametrize("code", ["", "nonsense", "<script>", "x" * 5_000, "\0"])
async def test_what_is_no_code_is_refused(code: str) -> None:
    async with lookup_alone() as alone:
        answer = await post(alone, code=code, remember="1")
        assert answer.status == 400
        assert cookies(answer) == {}
        assert b"<script" not in answer.body


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
async def test_other_sites_form_changes_nothing(site: str) -> None:
    async with lookup_alone() as alone:
        form = {"code": CODES[0].text, "remember": "1"}
        answer = await alone.ask(OWN_LIST["vi"], "POST", data=form, more={"Sec-Fetch-Site": site})
        assert (answer.status, cookies(answer)) == (303, {})
        old = await alone.ask(OWN_LIST["vi"], "POST", data=form)  # a browser that does not say
        assert cookies(old) != {}


@pytest.mark.parametrize("form", FORMS.values())
@pytest.mark.parametrize("cookie", [KEY, None, "nonsense"])
async def test_hiding_the_details_of_a_dossier_clears_the_list_too(form: str, cookie: str | None) -> None:
    async with lookup_alone() as alone:
        alone.put(CODES[0].text)
        answer = await alone.ask(f"{form}/{CODES[0].path}", "POST", data={"hide": "1"}, cookie=cookie)
        assert answer.status == 303
        gone = [header for header in answer.headers.getall("Set-Cookie") if header.startswith("hoso24-list=;")]
        assert len(gone) == 2
        for address, header in zip(OWN_LIST.values(), gone, strict=True):
            assert f"Path={address}; Max-Age=0;" in header


async def test_lists_of_two_people_do_not_meet() -> None:
    async with lookup_alone() as alone:
        for code in CODES[:2]:
            alone.put(code.text)
        assert shown(await show(alone, CODES[0].path)) == [CODES[0].text]
        assert shown(await show(alone, CODES[1].path)) == [CODES[1].text]
        assert shown(await show(alone, "")) == []

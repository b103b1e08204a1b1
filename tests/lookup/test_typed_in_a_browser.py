"""Mistakes and hostile text in a real browser: what has the focus, in which order keys lead on, and what axe finds."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from lookup import code as codes
from lookup.lookup_key import KeyRing
from ops.local.reaper import Reaper
from tests.browser import Browser, chromium, tab
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, lookup_alone
from tests.lookup.test_accessibility import NARROW, assert_readable
from tests.programs import npm_packages

KEYS = KeyRing.from_text(KEY_SECRETS)
CODE, OTHER = codes.parse("G99.01.01-261120-0001"), codes.parse("G99.01.01-261120-0002")
FORMS = {"vi": "/tra-cuu", "en": "/en/status"}

# What it is → the text.
HOSTILE = {
    "markup": "<script>window.hostile = 1</script>\"><img src=x onerror='window.hostile = 1'>",
    "an attribute": '" autofocus onfocus="window.hostile = 1" x=\'',
    "a template": "{{ 7 * 7 }}${7*7}",
    "direction marks": "\u202e\u2066G99.01.01-261120-0001\u2069\u202c\u200f",
    "combining marks": "G\u0301\u0302\u0303" * 60 + "99.01",
    "one long word": "9" * 480,
    "controls": "G99\x00.01\x1b[31m\x85",
    "emoji": "👩‍👩‍👧‍👦" * 20,
}
LONE_SURROGATE = "%ED%A0%80G99.01.01-261120-0001"


@pytest.fixture(scope="module")
def axe() -> str:
    return (npm_packages("pages") / "axe-core/axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module")
def devtools(axe: str, reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


def fill(alone: Alone) -> None:
    alone.put(CODE.text, official_number="00077/2026/99901")
    alone.put(OTHER.text)


WHERE = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
  const at = document.activeElement;
  done(at.id || at.name || at.getAttribute("href") || at.tagName);
})))"""
"""What has the focus, once the page is drawn: a browser gives it to an `autofocus` element then."""


async def press(browser: Browser, key: str) -> None:
    code = {"Tab": 9, "Enter": 13}[key]
    more: dict[str, Any] = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        await browser.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


async def stops(browser: Browser, number: int) -> list[str]:
    """Where the focus is, and after each of so many tabs."""
    found = [await browser.run(WHERE)]
    for _ in range(number):
        await press(browser, "Tab")
        found.append(await browser.run(WHERE))
    return found


@pytest.mark.parametrize("form", FORMS.values())
async def test_mistake_has_the_focus_and_leads_to_its_field(axe: str, devtools: str, form: str) -> None:
    async with lookup_alone(key_for_any_status=False) as alone, tab(devtools) as browser:
        fill(alone)
        pages = {
            f"{form}?ma=G99.01.01-271327-0001": "code",
            f"{form}/nonsense": "code",
            f"{form}/{CODE.path}?key=10QSW": "key",
            f"{form}/{CODE.path}?key={KEYS.key(OTHER)}": "key",
            f"{form}/G99.01.01-261120-0009?key={KEYS.key(OTHER)}": "key",
        }
        for path, field in pages.items():
            await assert_readable(browser, axe, alone.url + path)
            await browser.open(alone.url + path)
            first, second = await stops(browser, 1)
            assert first == "errors", path
            assert second == f"#{field}", path
            assert await browser.run("document.activeElement.getBoundingClientRect().bottom <= innerHeight")
            await press(browser, "Enter")
            assert await browser.run(WHERE) == field, path
            assert await browser.run("document.activeElement.value") != ""
            await press(browser, "Tab")
            assert await browser.run("document.activeElement.type") == "submit", path
            assert await browser.run(f"document.title.startsWith('{'Lỗi: ' if form == '/tra-cuu' else 'Error: '}')")


async def test_page_without_a_mistake_leaves_the_focus_alone(devtools: str) -> None:
    async with lookup_alone() as alone, tab(devtools) as browser:
        fill(alone)
        for path in ("/tra-cuu", f"/tra-cuu/{CODE.path}", "/tra-cuu/G99.01.01-261120-0009"):
            await browser.open(alone.url + path)
            assert await browser.run(WHERE) == "BODY", path


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_text_is_shown_as_text_wherever_it_is_typed(axe: str, devtools: str, text: str) -> None:
    async with lookup_alone() as alone, tab(devtools) as browser:
        fill(alone)
        await browser.be(width=NARROW, scheme="light")
        for form in FORMS.values():
            for path in (
                f"{form}?ma={quote(text)}",
                f"{form}/{quote(text, safe='')}",
                f"{form}/{CODE.path}?key={quote(text)}",
            ):
                await browser.open(alone.url + path)
                assert await browser.run("window.hostile === undefined"), path
                assert await browser.run("document.documentElement.scrollWidth") <= NARROW, path
                assert (
                    await browser.run("document.querySelectorAll('main script, main img, [onfocus], [onerror]').length")
                    == 0
                )
        await assert_readable(browser, axe, f"{alone.url}/tra-cuu?ma={quote(text)}")


async def test_text_that_no_address_can_carry_gets_a_page_with_a_way_back(axe: str, devtools: str) -> None:
    async with lookup_alone() as alone, tab(devtools) as browser:
        fill(alone)
        for form in FORMS.values():
            for path in (f"{form}?ma={'x' * 10_000}", f"{form}?ma={LONE_SURROGATE}", f"{form}/{LONE_SURROGATE}"):
                await assert_readable(browser, axe, alone.url + path)
                assert await browser.run(f"document.querySelector('main a[href=\"{form}\"], main form') !== null"), path


async def test_key_typed_in_the_browser_shows_the_details_until_they_are_hidden(devtools: str) -> None:
    async with lookup_alone() as alone, tab(devtools) as browser:
        fill(alone)
        page, english = f"{alone.url}/tra-cuu/{CODE.path}", f"{alone.url}/en/status/{CODE.path}"

        async def submit(script: str) -> None:
            """Do this in the page, which sends a form, and wait for what comes back."""
            await browser.run(f"setTimeout(() => {{ {script} }}, 0)")
            await browser.loaded()

        await browser.open(page)
        await submit(
            "document.querySelector('#key').value = '10QSW'; document.querySelector('#key').form.requestSubmit()"
        )
        assert await browser.run(WHERE) == "errors"
        assert await browser.run("document.querySelector('#key').value") == "10QSW"
        assert await browser.run("location.href") == page
        key = KEYS.key(CODE)
        await submit(
            f"document.querySelector('#key').value = '{key}'; document.querySelector('#key').form.requestSubmit()"
        )
        assert await browser.run("document.querySelector('#about') !== null")
        assert key not in await browser.run("location.href")
        for address in (english, page, f"{alone.url}/tra-cuu/00077-2026-99901"):
            alone.store.numbers_of["00077/2026/99901"] = CODE.text
            await browser.open(address)
            assert await browser.run("document.querySelector('#about') !== null"), address
        await submit("document.querySelector('[name=hide]').click()")
        assert await browser.run("document.querySelector('#told') !== null")
        for address in (english, page, f"{alone.url}/tra-cuu/00077-2026-99901"):
            await browser.open(address)
            assert await browser.run("document.querySelector('#about') === null"), address


async def test_browser_that_keeps_no_cookies_is_told_so(axe: str, devtools: str) -> None:
    async with lookup_alone() as alone, tab(devtools) as browser:
        fill(alone)
        for form in FORMS.values():
            await browser.open(f"{alone.url}{form}/{CODE.path}?key={KEYS.key(CODE)}")
            assert await browser.run("document.querySelector('#about') !== null")
            opened = await browser.run("location.href")
            await browser.tell("Network.clearBrowserCookies")
            await assert_readable(browser, axe, opened)
            assert await browser.run("document.querySelector('#told') !== null")

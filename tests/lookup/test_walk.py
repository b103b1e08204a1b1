"""A citizen's way through the pages with the keyboard alone, as a screen reader is told of it.

At each step what Chromium's accessibility tree holds of the page's content (headings, messages, fields with their
descriptions, buttons) and what has the focus is compared with the text that has to be there, in both languages.
"""

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from yarl import URL

from lookup.web.layout import FORMS
from ops.local.reaper import Reaper
from tests.browser import Browser, chromium, tab
from tests.house import House, until

NOTE = "Bổ sung bản sao sổ (hư cấu)"
ROLES = {"alert", "button", "checkbox", "heading", "progressbar", "status", "textbox"}
TAB, ENTER, ALL = ("Tab", 9, "", 0), ("Enter", 13, "\r", 0), ("a", 65, "", 2)
"""Key, its number, the text it types, modifiers: the last selects all that is in a field."""
LONG_AGO = """
UPDATE dossier
   SET submitted_at = now() - interval '13 days', received_at = now() - interval '13 days',
       due_at = now() - interval '3 days'
 WHERE code = $1
"""
FAR = 60
"""Stops of the focus after which a control is out of reach."""


class Words(NamedTuple):
    """What a language's pages say on the way, as the tree has it."""

    form: list[str]
    anyone: list[str]
    below: list[str]
    """What follows on everybody's page."""
    wrong: list[str]
    mistake: str
    supplement: list[str]
    supplement_holder: list[str]
    holder: list[str]
    hidden: str
    overdue: list[str]
    titles: dict[str, str]


WORDS = {
    "vi": Words(
        form=[
            "# Tra cứu tình trạng hồ sơ",
            "textbox Mã hồ sơ (Ví dụ: G99.01.02-261008-0975 hoặc 01234/2026/99901. "
            "Chữ hoa hay chữ thường, có hay không có dấu cách đều được.)",
            "button Tra cứu",
            "## Mã hồ sơ ở đâu?",
        ],
        anyone=["# Hồ sơ {code}: Đang xử lý", "## Hướng dẫn"],
        below=[
            "## Xem thông tin chi tiết",
            "textbox Mã tra cứu (Gồm 15 chữ và số, chia ba nhóm, ví dụ 2KQ0F-9D3XZ-7MHWA. "
            "Nếu quét mã QR trên giấy tiếp nhận thì không cần nhập.)",
            "button Xem chi tiết",
        ],
        wrong=[
            "alert Vui lòng kiểm tra lại",
            "## Vui lòng kiểm tra lại",
            "# Hồ sơ {code}: Yêu cầu bổ sung giấy tờ",
        ],
        mistake="Mã tra cứu này không khớp với hồ sơ {code}. "
        "Nếu giấy tiếp nhận đã được cấp lại, vui lòng dùng mã trên bản mới nhất.",
        supplement=["# Hồ sơ {code}: Yêu cầu bổ sung giấy tờ", "## Việc ông/bà cần làm"],
        supplement_holder=[
            "# Hồ sơ {code}: Yêu cầu bổ sung giấy tờ",
            "## Ngày hẹn trước khi tạm dừng",
            "## Việc ông/bà cần làm",
            "### Cơ quan yêu cầu",
        ],
        holder=["## Thông tin hồ sơ", "### Quá trình giải quyết", "button Ẩn thông tin chi tiết"],
        hidden="Đã ẩn thông tin chi tiết trên thiết bị này. Nếu dùng máy chung, vui lòng đóng trình duyệt.",
        overdue=["# Hồ sơ {code}: Đang xử lý", "## Ngày đã hẹn trả kết quả", "## Hướng dẫn"],
        titles={
            "form": "Tra cứu tình trạng hồ sơ · Hồ sơ 24",
            "supplement": "Yêu cầu bổ sung giấy tờ – {code} · Hồ sơ 24",
            "wrong": "Lỗi: {mistake} · Hồ sơ 24",
        },
    ),
    "en": Words(
        form=[
            "# Check the status of an application (hồ sơ)",
            "textbox Application code (mã hồ sơ) (For example: G99.01.02-261008-0975 or 01234/2026/99901. "
            "Capitals and spaces do not matter.)",
            "button Check status",
            "## Where is the code?",
        ],
        anyone=["# Application {code}: Being processed", "## What happens next"],
        below=[
            "## See the details",
            "textbox Access key (mã tra cứu) (15 letters and digits in three groups, for example 2KQ0F-9D3XZ-7MHWA. "
            "If you scan the QR code on the receipt, you need not type it.)",
            "button Show details",
        ],
        wrong=[
            "alert There is a problem",
            "## There is a problem",
            "# Application {code}: More documents required",
        ],
        mistake="This access key does not match application {code}. "
        "If the receipt was issued again, use the newest one.",
        supplement=["# Application {code}: More documents required", "## What you need to do"],
        supplement_holder=[
            "# Application {code}: More documents required",
            "## Due date before the hold",
            "## What you need to do",
            "### What the agency asks for (written by the agency, in Vietnamese)",
        ],
        holder=["## About this application", "### Steps so far", "button Hide details"],
        hidden="The details are hidden on this device. On a shared computer, close the browser as well.",
        overdue=["# Application {code}: Being processed", "## Was due", "## What happens next"],
        titles={
            "form": "Check the status of an application · Hồ sơ 24",
            "supplement": "More documents required – {code} · Hồ sơ 24",
            "wrong": "Error: {mistake} · Hồ sơ 24",
        },
    ),
}


@pytest.fixture(scope="module")
def devtools(reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


class Reader:
    """A person with a keyboard and ears, in a browser."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def press(self, key: tuple[str, int, str, int]) -> None:
        name, number, text, modifiers = key
        more: dict[str, Any] = {"text": text} if text else {"commands": ["selectAll"]} if modifiers else {}
        for kind in ("keyDown", "keyUp"):
            await self.browser.tell(
                "Input.dispatchKeyEvent",
                type=kind, key=name, code=name, windowsVirtualKeyCode=number, modifiers=modifiers, **more,
            )  # fmt: skip
            more = {}

    async def go_on(self) -> None:
        """Enter, where it leads to another page; wait until that is there."""
        await self.press(ENTER)
        await self.browser.loaded()

    async def reach(self, name: str) -> None:
        """Tab on until the focus is on what has this name. AssertionError where it never is."""
        passed = []
        for _ in range(FAR):
            await self.press(TAB)
            passed.append(await self.focus())
            if passed[-1].partition(" ")[2].startswith(name):
                return
        raise AssertionError(f"{name!r} cannot be reached: {passed}")

    async def type(self, text: str) -> None:
        """Into the field that has the focus, in place of what is there."""
        await self.press(ALL)
        await self.browser.tell("Input.insertText", text=text)

    async def focus(self) -> str:
        """Role and name of what has the focus, once the page is drawn."""
        await self.browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        nodes = await self._nodes()
        (focused,) = [node for node in nodes if _property(node, "focused")][-1:]
        return _told(focused)

    async def main(self) -> list[str]:
        """What the page's content holds, in the order in which it is read."""
        return [_line(node) for node in await self._nodes(within="main") if _role(node) in ROLES]

    async def title(self) -> str:
        title: str = await self.browser.run("document.title")
        return title

    async def _nodes(self, within: str = "RootWebArea") -> list[dict[str, Any]]:
        """The tree's nodes below the first of this role, depth first; without what a reader is not told."""
        tree = (await self.browser.tell("Accessibility.getFullAXTree"))["nodes"]
        by_id = {node["nodeId"]: node for node in tree}
        found: list[dict[str, Any]] = []

        def visit(node: dict[str, Any]) -> None:
            if not node.get("ignored"):
                found.append(node)
            for child in node.get("childIds", ()):
                visit(by_id[child])

        visit(next(node for node in tree if _role(node) == within))
        return found


def _role(node: dict[str, Any]) -> str:
    role: str = node["role"]["value"]
    return role


def _property(node: dict[str, Any], name: str) -> Any:
    return next((each["value"]["value"] for each in node.get("properties", ()) if each["name"] == name), None)


def _told(node: dict[str, Any]) -> str:
    name = " ".join(str(node.get("name", {}).get("value", "")).split()).replace(" :", ":")
    return f"{_role(node)} {name}".strip()


def _line(node: dict[str, Any]) -> str:
    if _role(node) == "heading":
        level: int = _property(node, "level")
        return "#" * level + _told(node).removeprefix("heading")
    described = " ".join(str(node.get("description", {}).get("value", "")).split())
    invalid = " !" if _property(node, "invalid") == "true" else ""
    return _told(node) + (f" ({described})" if described else "") + invalid


async def moved(house: House, code: str, to: str, **fields: Any) -> None:
    """Move the dossier on, and wait until the lookup shows it."""
    await house.move(code, to, **fields)

    async def shown() -> bool:
        status, found = await house.lookup(f"/api/v1/dossiers/{code}")
        return status == 200 and found["status"] == to

    await until(shown)


def filled(lines: list[str], code: str) -> list[str]:
    return [line.format(code=code) for line in lines]


def beginning(found: list[str], of: list[str]) -> list[str]:
    """As many of the lines as are expected."""
    return found[: len(of)]


@pytest.fixture
async def reader(devtools: str) -> AsyncIterator[Reader]:
    async with tab(devtools) as browser:
        await browser.be(width=390, scheme="light")
        await browser.tell("Accessibility.enable")
        yield Reader(browser)


@pytest.mark.parametrize("lang", WORDS)
async def test_way_from_the_code_to_the_details_and_back_with_the_keyboard_alone(
    lang: str, reader: Reader, house: House
) -> None:
    words, browser = WORDS[lang], reader.browser
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    other = await house.receive()
    await moved(house, code, "supplement_required", note=NOTE)

    # The form: the first stop leads past the head, the code is typed as someone would.
    await browser.open(house.lookup_url + FORMS[lang])
    assert await reader.title() == words.titles["form"]
    assert await reader.main() == words.form
    await reader.press(TAB)
    assert (await reader.focus()).startswith("link ")
    await reader.press(ENTER)
    assert (await reader.focus()).startswith("main")
    await reader.reach(words.form[1].removeprefix("textbox ").partition(" (")[0])
    await reader.type(f" {code.lower()} ")
    await reader.go_on()
    assert URL(await browser.run("location.href")).path == f"{FORMS[lang]}/{code}"
    assert await reader.title() == words.titles["supplement"].format(code=code)
    page = await reader.main()
    assert beginning(page, words.supplement) == filled(words.supplement, code)
    assert [line for line in page if line in words.below] == words.below
    assert not set(words.holder) & set(page)

    # A key that is another's: the mistake has the focus and leads to the field, which still holds what was typed.
    field = words.below[1].removeprefix("textbox ").partition(" (")[0]
    await reader.reach(field)
    await reader.type(other["lookup_key"])
    await reader.go_on()
    mistake = words.mistake.format(code=code)
    assert await reader.title() == words.titles["wrong"].format(mistake=mistake)
    assert await reader.focus() == words.wrong[0]
    page = await reader.main()
    assert beginning(page, words.wrong) == filled(words.wrong, code)
    (told,) = [line for line in page if line.endswith(" !")]
    assert told.startswith(f"textbox {field}")
    assert mistake in told
    await reader.press(TAB)
    assert await reader.focus() == f"link {mistake}"
    await reader.press(ENTER)
    assert (await reader.focus()).startswith(f"textbox {field}")

    # The right key: the answer first, the details below.
    await reader.type(key.lower())
    await reader.go_on()
    assert await reader.title() == words.titles["supplement"].format(code=code)
    page = await reader.main()
    assert beginning(page, words.supplement_holder) == filled(words.supplement_holder, code)
    assert [line for line in page if line in words.holder] == words.holder
    assert not set(words.below) & set(page)
    assert NOTE in await browser.run("document.querySelector('main').innerText")

    # Hidden again: that is what is told first, and nothing of the details is left.
    await reader.reach(words.holder[-1].removeprefix("button "))
    await reader.go_on()
    assert (await reader.focus()).startswith("status")
    assert await browser.run("document.activeElement.innerText.trim()") == words.hidden
    page = await reader.main()
    assert beginning(page[1:], words.supplement) == filled(words.supplement, code)
    assert not set(words.holder) & set(page)
    assert NOTE not in await browser.run("document.documentElement.innerHTML")


@pytest.mark.parametrize("lang", WORDS)
async def test_overdue_is_told_to_the_holder_alone_and_its_help_is_within_reach(
    lang: str, reader: Reader, house: House, owner: Any
) -> None:
    words, browser = WORDS[lang], reader.browser
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    await owner.execute(LONG_AGO, code)  # before the move, after which no copy of this version is left
    await moved(house, code, "processing")
    await browser.open(f"{house.lookup_url}{FORMS[lang]}/{code}")
    page = await reader.main()
    assert beginning(page, words.anyone) == filled(words.anyone, code)
    await browser.open(f"{house.lookup_url}{FORMS[lang]}/{code}?key={key}")
    page = await reader.main()
    assert beginning(page, words.overdue) == filled(words.overdue, code)
    assert [line for line in page if line in words.holder] == words.holder
    assert await browser.run("document.querySelectorAll('main .overdue').length") == 1
    await reader.reach("1900 0000")  # the telephone of the agency in the code
    assert await browser.run("document.activeElement.protocol") == "tel:"


@pytest.mark.parametrize("lang", WORDS)
async def test_links_of_every_footer_lead_somewhere_and_headings_go_down_one_by_one(
    lang: str, reader: Reader, house: House
) -> None:
    browser, code = reader.browser, (await house.receive())["code"]
    await browser.open(f"{house.lookup_url}{FORMS[lang]}/{code}")
    addresses = await browser.run("[...document.querySelectorAll('footer a, header a')].map(each => each.href)")
    assert len(addresses) == 9
    for address in [f"{house.lookup_url}{FORMS[lang]}/{code}", *addresses]:
        async with house.http.get(address) as answer:
            assert answer.status == 200, address
        await browser.open(address)
        page = await reader.main()
        assert [line for line in page if line.endswith(" !")] == [], address  # nothing is wrong yet
        levels = [len(line) - len(line.lstrip("#")) for line in page if line.startswith("#")]
        assert levels[0] == 1, address
        assert levels.count(1) == 1, address
        assert all(after <= before + 1 for before, after in pairwise(levels)), address
        here = await browser.run("[...document.querySelectorAll('footer a')].map(each => each.href)")
        assert len(here) == 7, address

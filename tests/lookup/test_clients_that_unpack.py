"""Programs that are not ours read a page out of a sheet: a browser, curl, gzip. Made with another dossier's code."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookup.web.phrases import PHRASES
from ops.local.reaper import Reaper
from tests.browser import chromium, tab
from tests.lookup.alone import Alone, lookup_alone
from tests.programs import program

pytestmark = pytest.mark.servers  # it starts programs

MADE_WITH, SHOWN = "G99.01.01-261120-0001", "G99.01.01-261120-7352"
PAGES = {"vi": f"/tra-cuu/{SHOWN}", "en": f"/en/status/{SHOWN}"}
GZIP = "Accept-Encoding: gzip, deflate, br"

every_page = pytest.mark.parametrize(("lang", "path"), PAGES.items(), ids=PAGES)


@pytest.fixture(scope="module")
def devtools(reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


async def in_memory(alone: Alone, path: str) -> bytes:
    """The page as it is, once its sheet was made with another dossier and both are in memory."""
    for code in (MADE_WITH, SHOWN):
        alone.put(code)
        for _ in range(2):
            answer = await alone.exchange(path.replace(SHOWN, code), GZIP)
            assert answer.headers["Content-Encoding"] == "gzip"
    plain = await alone.exchange(path)
    assert plain.early
    assert plain.body.count(SHOWN.encode()) > 3
    assert MADE_WITH.encode() not in plain.body
    return plain.body


@every_page
async def test_browser_shows_all_of_the_page(devtools: str, lang: str, path: str) -> None:
    async with lookup_alone(soft_age=1000.0) as alone, tab(devtools) as browser:
        page = await in_memory(alone, path)
        before = alone.early
        await browser.open(alone.url + path)
        assert alone.early > before
        assert await browser.run("document.contentType") == "text/html"
        shown = await browser.run("document.documentElement.innerText")
        assert await browser.run("document.querySelector('h1 .code').innerText") == SHOWN
        assert SHOWN in await browser.run("document.title")
        assert SHOWN in await browser.run("document.querySelector('form.ask').action")
        assert await browser.run("getComputedStyle(document.body).margin") == "0px"  # its style sheet came, too
        assert MADE_WITH not in shown
        assert PHRASES[lang]["site.safety"] in shown, "the end of the page"
        assert page.decode().count(SHOWN) == (await browser.run("document.documentElement.outerHTML")).count(SHOWN)


@every_page
async def test_curl_reads_the_same_bytes(lang: str, path: str) -> None:
    curl = program("curl")
    async with lookup_alone(soft_age=1000.0) as alone:
        page = await in_memory(alone, path)
        before = alone.early
        command = [curl, "--silent", "--show-error", "--fail", "--compressed", "--noproxy", "*", alone.url + path]
        got = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert (got.returncode, got.stderr) == (0, b"")
        assert alone.early > before
        assert got.stdout == page


@every_page
async def test_gzip_finds_the_file_whole(lang: str, path: str, tmp_path: Path) -> None:
    async with lookup_alone(soft_age=1000.0) as alone:
        page = await in_memory(alone, path)
        answer = await alone.exchange(path, GZIP)
    file = tmp_path / "page.gz"
    file.write_bytes(answer.body)
    for options in (["--test"], ["--decompress", "--stdout"]):
        command = ["gzip", *options, str(file)]
        got = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert (got.returncode, got.stderr) == (0, b"")
        assert got.stdout == (page if "--stdout" in options else b"")

"""Draw the pages of sample dossiers of a running `make up` into docs, for the README: `make screenshots`.

In Vietnamese what a holder sees of a dossier that lacks documents, in English what anyone sees of one being processed,
both down to the end of the progress; and one that is being processed as an officer sees it.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import asyncpg

from intake.desk.sessions import make_link
from intake.local.up import OFFICER
from lookup import code as codes
from ops.local.reaper import Reaper
from tests.browser import Browser, chromium, tab

ROOT = Path(__file__).resolve().parents[2]
UP = ROOT / ".hoso24" / "up.json"
WIDTH, DESK_WIDTH = 430, 1100
END = "document.querySelector('[aria-labelledby=progress]').getBoundingClientRect().bottom + 12"
"""Where the picture ends, in CSS pixels from the top."""
EVENTS = "document.querySelector('#events').offsetTop + 120"
"""The same at the desk."""


OF_THE_OFFICE = """
SELECT code
  FROM dossier
 WHERE origin = 'G99.01.01'
   AND status = 4
   AND NOT removed
 ORDER BY code DESC
 LIMIT 1
"""


def pages(up: dict[str, Any]) -> dict[str, str]:
    """The picture's file → the URL of its page. `up`: the content of up.json."""
    samples = {sample["status"]: sample for sample in up["samples"]}
    lacking, processing = samples["supplement_required"], samples["processing"]
    return {
        "status-vi.png": f"{up['lookup']}/tra-cuu/{codes.parse(lacking['code']).path}?key={lacking['key']}",
        "status-en.png": f"{up['lookup']}/en/status/{codes.parse(processing['code']).path}",
    }


async def desk(browser: Browser, up: dict[str, Any]) -> None:
    """Sign the sample's officer at the counter in by a link of his own, and open a dossier of his office."""
    connection = await asyncpg.connect(up["postgres"]["desk"])
    try:
        link, code = await make_link(connection, OFFICER), await connection.fetchval(OF_THE_OFFICE)
    finally:
        await connection.close()
    await browser.be(width=DESK_WIDTH, scheme="light")
    await browser.open(f"{up['desk']}/dang-nhap/lien-ket?k={link}")
    await browser.press("button.main")
    await browser.open(f"{up['desk']}/quay/ho-so/{codes.parse(code).path}")


async def save(browser: Browser, name: str, width: int, height: int) -> None:
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    drawn = await browser.tell("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    (ROOT / "docs" / name).write_bytes(base64.b64decode(drawn["data"]))


async def draw(devtools: str, up: dict[str, Any]) -> None:
    async with tab(devtools) as browser:
        await browser.be(width=WIDTH, scheme="light")
        for name, url in pages(up).items():
            await browser.open(url)
            await save(browser, name, WIDTH, await browser.run(END))
        await desk(browser, up)
        await save(
            browser, "desk.png", DESK_WIDTH, await browser.run("document.querySelector('#events').offsetTop + 120")
        )


if __name__ == "__main__":
    if not UP.exists():
        raise SystemExit(f"There is no {UP}: run `make up` in another terminal first.")
    with Reaper() as reaper, chromium(reaper) as where:
        asyncio.run(draw(where, json.loads(UP.read_text("utf-8"))))

"""Draw the pages of two sample dossiers of a running `make up` into docs, for the README: `make screenshots`.

In Vietnamese what a holder sees of a dossier that lacks documents, in English what anyone sees of one being processed,
both down to the end of the progress.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from lookup import code as codes
from ops.local.reaper import Reaper
from tests.browser import chromium, tab

ROOT = Path(__file__).resolve().parents[2]
UP = ROOT / ".hoso24" / "up.json"
WIDTH = 430
END = "document.querySelector('[aria-labelledby=progress]').getBoundingClientRect().bottom + 12"
"""Where the picture ends, in CSS pixels from the top."""


def pages(up: dict[str, Any]) -> dict[str, str]:
    """The picture's file → the URL of its page. `up`: the content of up.json."""
    samples = {sample["status"]: sample for sample in up["samples"]}
    lacking, processing = samples["supplement_required"], samples["processing"]
    return {
        "status-vi.png": f"{up['lookup']}/tra-cuu/{codes.parse(lacking['code']).path}?key={lacking['key']}",
        "status-en.png": f"{up['lookup']}/en/status/{codes.parse(processing['code']).path}",
    }


async def draw(devtools: str, up: dict[str, Any]) -> None:
    async with tab(devtools) as browser:
        await browser.be(width=WIDTH, scheme="light")
        for name, url in pages(up).items():
            await browser.open(url)
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": await browser.run(END), "scale": 1}
            drawn = await browser.tell("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            (ROOT / "docs" / name).write_bytes(base64.b64decode(drawn["data"]))


if __name__ == "__main__":
    if not UP.exists():
        raise SystemExit(f"There is no {UP}: run `make up` in another terminal first.")
    with Reaper() as reaper, chromium(reaper) as where:
        asyncio.run(draw(where, json.loads(UP.read_text("utf-8"))))

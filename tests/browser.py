"""Chromium without a window, told what to do over its DevTools protocol.

Where there is none its tests are left out (tests/programs.py).
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from ops.local.reaper import Reaper
from tests.programs import program

PATIENCE = 60.0
"""Seconds until whoever waits for an answer gives up: on a machine that does much else."""


class Browser:
    """One tab. `socket`: the connection to its DevTools."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._events: deque[str] = deque(maxlen=100)

    async def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do as the protocol's method says; its result. AssertionError when it is refused."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._next()).get("id") != number:
            self._events.append(message.get("method", ""))
        assert "error" not in message, message["error"]
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, url: object) -> None:
        """Go there, and wait until all of it is loaded."""
        self._events.clear()
        await self.tell("Page.navigate", url=str(url))
        await self.loaded()

    async def loaded(self) -> None:
        """Wait until a page is loaded that was not when this was called or `open` began."""
        while "Page.loadEventFired" not in self._events:
            self._events.append((await self._next()).get("method", ""))
        self._events.clear()

    async def press(self, selector: str) -> None:
        """Press the first element of this selector, and wait until the page it leads to is loaded."""
        self._events.clear()
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")
        await self.loaded()

    async def run(self, script: str) -> Any:
        """What a script of ours says, once its promise is kept; no policy of the page holds for it."""
        said = await self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def be(self, *, width: int, scheme: str) -> None:
        """A screen so wide, in CSS pixels, whose owner prefers `light` or `dark`."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.tell("Emulation.setEmulatedMedia", features=features)

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=PATIENCE)
        return message


@contextlib.contextmanager
def chromium(reaper: Reaper) -> Iterator[str]:
    """One with a profile of its own, gone at the end; where its DevTools listen."""
    command = [
        program("chromium"),
        "--headless=new",
        "--no-sandbox",  # it opens nothing but pages of ours, and root has no sandbox
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-extensions",
        "--remote-debugging-port=0",
    ]
    with tempfile.TemporaryDirectory(prefix="hoso24-chromium-", ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, f"--user-data-dir={profile}", "about:blank"], stderr=output, start_new_session=True
            )
        reaper.watch(process.pid, signal.SIGKILL)
        try:
            yield f"http://127.0.0.1:{_listening(process, Path(profile), log)}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reaper.forget(process.pid)


def _listening(process: "subprocess.Popen[bytes]", profile: Path, log: Path) -> int:
    """The port, which it writes into its profile once it listens."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if lines := (profile / "DevToolsActivePort").read_text().splitlines():
                return int(lines[0])
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8", "replace"))


@contextlib.asynccontextmanager
async def tab(devtools: str) -> AsyncIterator[Browser]:
    """A new tab of the Chromium whose DevTools listen there, without cookies."""
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{devtools}/json/new?about:blank") as answer:
            opened = await answer.json(content_type=None)
        async with http.ws_connect(opened["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            browser = Browser(socket)
            await browser.tell("Page.enable")
            await browser.tell(
                "Emulation.setFocusEmulationEnabled", enabled=True
            )  # typed into, also behind another tab
            await browser.tell("Network.clearBrowserCookies")
            yield browser
        async with http.get(f"{devtools}/json/close/{opened['id']}"):
            pass

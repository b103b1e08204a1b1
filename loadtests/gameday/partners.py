"""Partners who are told what changes: one reads the feed, one has a webhook. Each keeps books by what it is told alone.

Nothing may be missing there or come before what it follows, and both books have to equal what is expected whenever the
system is well. After a restore a partner reads again what changed since `lost_since`, as GET /api/v1/changes says.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from loadtests.answers import Answer
from loadtests.codes import address
from loadtests.gameday.crowd import Crowd
from loadtests.gameday.expected import Expected
from loadtests.gameday.record import Record, Seen
from loadtests.partners_books import PartnersBooks
from loadtests.system.http_client import LOOPBACK, Client, NoAnswer, is_whole, request
from loadtests.system.stage import StagedSystem
from loadtests.verdict import Row

CHANGES, WEBHOOKS = "/api/v1/changes", "/api/v1/webhooks"
WAIT = 5
"""Seconds of a long-poll."""
PAUSE = 0.5
"""Seconds until what got no answer is asked again."""
EQUAL_SECONDS = 90.0
"""How long a partner may take to be told all, once the system is well: a webhook whose lease could not be given back,
PostgreSQL being away, stays held for a minute."""
POLL_SECONDS = 0.1
TAKEN = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class Partners:
    """The two; both are the client of the stage's token."""

    def __init__(self, stage: StagedSystem, record: Record, expected: Expected) -> None:
        self.books = {"follow": PartnersBooks(), "webhook": PartnersBooks()}
        self._stage, self._record, self._expected = stage, record, expected
        self._secret, self._has_secret = "", asyncio.Event()
        self._rereads: set[asyncio.Task[None]] = set()
        self._next = ""
        """The follower's cursor."""
        self._newest = ""
        """The receiver's: behind the last page that told of something new."""

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Both are told what changes from now on, for as long as the block runs. Raises NoAnswer, KeyError."""
        async with contextlib.AsyncExitStack() as stack:
            server = await asyncio.start_server(self._receive, LOOPBACK, 0)
            stack.callback(server.close)
            url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/webhooks"
            with Client(self._stage.front.intake) as client:
                made = await self._ask(client, WEBHOOKS, json.dumps({"url": url}).encode())
                self._secret = made.json()["secret"]
                self._has_secret.set()
                self._next = (await self._ask(client, f"{CHANGES}?from=now&limit=1")).json()["next"]
            following = asyncio.create_task(self._follow())
            try:
                yield
            finally:
                tasks = [following, *self._rereads]
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, Exception):
                        raise ended

    async def judged(self, crowd: Crowd) -> Row:
        """That both books equal what is expected, once nothing is under way and both were told of it."""
        async with crowd.changes_held():
            differ = self._differ()
            deadline = time.monotonic() + EQUAL_SECONDS
            while any(differ.values()) and time.monotonic() < deadline:
                await asyncio.sleep(POLL_SECONDS)
                differ = self._differ()
        return Row(
            "partners' books",
            "; ".join(_told(name, self.books[name], found) for name, found in differ.items()),
            "equal",
            kept=not any(differ.values()) and all(books.versions for books in self.books.values()),
        )

    def _differ(self) -> dict[str, list[str]]:
        told = {name: {code: at for code, (_, at) in books.versions.items()} for name, books in self.books.items()}
        return {name: self._expected.differs(versions) for name, versions in told.items()}

    # -- the feed ------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        with Client(self._stage.front.intake) as client:
            while True:
                began = time.monotonic()
                answer = await self._ask(client, f"{CHANGES}?after={self._next}&limit=1000&wait={WAIT}")
                if answer.status == 200:
                    page = answer.json()
                    self._take("follow", page["events"], began)
                    self._next = page["next"]
                elif answer.status == 410:
                    self._next = answer.json()["resume"]
                    await self._read_again("follow", answer.json()["lost_since"])
                elif answer.status in (0, 429, 502, 503, 504):
                    await asyncio.sleep(float(answer.headers.get("retry-after", PAUSE)))
                else:
                    self._note("follow", began, f"the feed answered {answer.status} {answer.body[:200]!r}")
                    await asyncio.sleep(PAUSE)

    def _take(self, kind: str, events: list[Mapping[str, Any]], began: float) -> None:
        for event in events:
            if wrong := self.books[kind].take(event):
                self._note(kind, began, wrong)

    def _note(self, kind: str, began: float, wrong: str) -> None:
        self._record.note(Seen(began, time.monotonic() - began, kind, "wrong", wrong))

    async def _read_again(self, kind: str, since: str | None) -> None:
        """Every dossier whose last event was recorded then or later; all, if the moment is not known."""
        books = self.books[kind]
        books.restores += 1
        moment = datetime.fromisoformat(since) if since else None
        lost = [code for code, at in books.recorded.items() if moment is None or at >= moment]
        with Client(self._stage.front.intake) as client:
            for code in lost:
                if had := books.versions.get(code):
                    answer = await self._until(client, f"/api/v1/dossiers/{address(code)}", 200, 404)
                    books.correct(code, had, answer.json()["version"] if answer.status == 200 else 0)

    # -- the webhook ---------------------------------------------------------------------------------------------

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began, received = time.monotonic(), b""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while not is_whole(received):
                if not (more := await reader.read(65536)):
                    return
                received += more
            await self._has_secret.wait()  # the ping may be here before the answer that has it
            self._deliver(received, began)
            writer.write(TAKEN)
            await writer.drain()

    def _deliver(self, received: bytes, began: float) -> None:
        """Take what was delivered; the answer is the same for what is wrong, which is noted."""
        head, _, body = received.partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
        headers = {name.strip().lower(): text.strip() for name, _, text in lines}
        if not _is_signed(self._secret, headers, body):
            self._note("webhook", began, "a delivery whose signature does not verify")
            return
        page, books = json.loads(body), self.books["webhook"]
        events = [event for event in page["events"] if event["type"] != "vn.hoso24.ping"]
        epoch, again = books.epoch, books.again
        self._take("webhook", events, began)
        if epoch and books.epoch > epoch:
            self._rereads.add(asyncio.create_task(self._restored(self._newest)))
        if len(events) > books.again - again:
            self._newest = page["next"]

    async def _restored(self, cursor: str) -> None:
        """An event of a newer epoch was delivered: the feed says of the last cursor before it what may be lost."""
        with Client(self._stage.front.intake) as client:
            answer = await self._until(client, f"{CHANGES}?after={cursor}&limit=1", 200, 410)
        if answer.status == 410:
            await self._read_again("webhook", answer.json()["lost_since"])

    # -- asking --------------------------------------------------------------------------------------------------

    async def _until(self, client: Client, path: str, *statuses: int) -> Answer:
        """The first answer with one of these statuses, asked again until there is one."""
        while (answer := await self._ask(client, path)).status not in statuses:  # noqa: ASYNC110 - others' to do
            await asyncio.sleep(PAUSE)
        return answer

    async def _ask(self, client: Client, path: str, body: bytes = b"") -> Answer:
        """Status 0 for no answer."""
        headers = {"Authorization": f"Bearer {self._stage.token}"}
        try:
            return await client.ask_any(request("POST" if body else "GET", path, headers, body))
        except (NoAnswer, OSError):
            return Answer(0, {})


def _told(name: str, books: PartnersBooks, differ: list[str]) -> str:
    how = f"{len(differ)} differ ({'; '.join(differ[:3])})" if differ else "equal"
    restores = f", read again after {books.restores} restores" if books.restores else ""
    return f"{name}: {how}, {len(books.versions):,} dossiers by {books.events:,} events, {books.again} twice{restores}"


def _is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """As docs/webhooks.md says for v1."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    ours = base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
    return any(hmac.compare_digest(f"v1,{ours}", each) for each in headers["webhook-signature"].split(" "))

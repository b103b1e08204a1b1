"""The whole house in one process, wired by the real builders: lookup, intake and relay on real servers."""

import asyncio
import atexit
import contextlib
import dataclasses
import functools
import itertools
import shutil
import socket
import struct
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from intake import app as intake_app
from intake import clients
from intake.books.ledger import operate
from intake.books.seal import SealKeys
from intake.papers import keys as paper_keys
from intake.rules.changes import Removal
from intake.settings import IntakeSettings, RelaySettings
from lookup import app as lookup_app
from lookup import code as codes
from lookup.settings import LookupSettings
from ops.http import server
from ops.settings import Secret
from tests.conftest import KEY_SECRETS, SEAL_KEYS, WEBHOOK_SECRET, Database

_clients = itertools.count(1)
AGENCY = "G99.01.01"
SERVICE = "S.004"

PATIENT = {"redis_deadline": 5.0, "pg_deadline": 5.0, "lookup_deadline": 20.0}
PATIENT_INTAKE = {"pg_deadline": 10.0, "intake_deadline": 20.0}
"""With which a slow machine is not mistaken for an absent server; who tests what a hanging one costs names his own."""
PATIENT_ENVIRON = {
    "HOSO24_REDIS_DEADLINE": "5",
    "HOSO24_PG_DEADLINE": "10",
    "HOSO24_LOOKUP_DEADLINE": "20",
    "HOSO24_INTAKE_DEADLINE": "20",
}
"""The same for processes."""


REASONS: dict[str, dict[str, Any]] = {
    "rejected": {"note": "Không thuộc thẩm quyền (ví dụ)."},
    "suspended": {"note": "Chờ ý kiến cơ quan khác (ví dụ)."},
    "supplement_required": {
        "note": "Hồ sơ còn thiếu (ví dụ).",
        "items": ["Bản sao sổ bảo hiểm (ví dụ)"],
        "override": "Luật chuyên ngành cho phép bổ sung lần nữa (ví dụ).",
    },
}
"""What a move to such a status must say; a test that is about something else need not."""

ADD_CLIENT = """
INSERT INTO client (id, name, agency, actions, sandbox)
SELECT $1, 'test', code, $3, sandbox
  FROM agency
 WHERE code = $2
"""

ADD_TOKEN = """
INSERT INTO client_token (client, n, token_hash)
VALUES ($1, 1, sha256($2))
"""

ADD_SANDBOX = """
INSERT INTO agency (code, parent, name_vi, name_en, sandbox, sample, valid_from)
VALUES ('X99',    NULL,  'Thử nghiệm (hư cấu)',   'Sandbox (fictitious)',   true, true, '2020-01-01'),
       ('X99.03', 'X99', 'Thử nghiệm 2 (hư cấu)', 'Sandbox 2 (fictitious)', true, true, '2020-01-01'),
       ('G99.77', 'G99', 'Đặt nhầm chỗ (hư cấu)', 'Misplaced (fictitious)', true, true, '2020-01-01')
"""
"""The sandbox, and an agency of it that a catalogue has put below a real one."""


async def new_client(
    database: Database, client_id: str, agency: str = "G99", actions: Sequence[str] = clients.ACTIONS
) -> str:
    """A client of that scope in this database, of the sandbox if the agency is; its token."""
    token = clients.new_token(client_id)
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(ADD_CLIENT, client_id, agency, list(actions))
        await connection.execute(ADD_TOKEN, client_id, token.encode())
    finally:
        await connection.close()
    return token


@dataclasses.dataclass
class House:
    """Running lookup, intake and relay, an HTTP client, and a token that may do everything everywhere."""

    lookup_url: str
    intake_url: str
    http: aiohttp.ClientSession
    token: str

    async def lookup(self, path: str, **headers: str) -> tuple[int, Any]:
        """GET from the lookup; the JSON it answers, None for an empty body."""
        async with self.http.get(self.lookup_url + path, headers=headers, allow_redirects=False) as response:
            body = await response.read()
            return response.status, (await response.json(content_type=None)) if body else None

    async def hand_in(self, method: str, path: str, content: Any, **headers: str) -> tuple[int, Any]:
        """Send to the intake with the token."""
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": str(uuid.uuid4())} | headers
        async with self.http.request(method, self.intake_url + path, json=content, headers=headers) as response:
            return response.status, await response.json()

    async def receive(self, **fields: Any) -> dict[str, Any]:
        """A new dossier; what the intake answered."""
        status, answer = await self.hand_in("POST", "/api/v1/dossiers", submission(**fields))
        assert status == 201, answer
        return dict(answer)

    async def move(self, code: str, to: str, **fields: Any) -> dict[str, Any]:
        """The dossier moved on; what the intake answered."""
        path = f"/api/v1/dossiers/{code.replace('/', '-')}/transitions"
        status, answer = await self.hand_in("POST", path, {"to": to} | REASONS.get(to, {}) | fields)
        assert status == 200, answer
        return dict(answer)


async def remove(connection: Any, code: str) -> int:
    """Remove a dossier as an operator's command does; the version at which it is gone."""
    async with connection.transaction():
        removal = Removal(reason="Hết thời hạn lưu trữ (ví dụ).")
        return (
            await operate(connection, SealKeys.from_text(SEAL_KEYS), codes.parse(code), removal, actor="test")
        ).version


def submission(**fields: Any) -> dict[str, Any]:
    """A submission's JSON with everything it needs."""
    return {
        "agency": AGENCY,
        "service": SERVICE,
        "channel": "direct",
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": "999000000001", "phone": "0000000001"},
    } | fields


def lookup_settings(pg_url: str, redis_url: str, **changes: Any) -> LookupSettings:
    """A lookup's settings, patient ones unless changed."""
    return dataclasses.replace(
        LookupSettings(
            redis_url=Secret(redis_url),
            pg_url=Secret(pg_url),
            lookup_key_secrets=Secret(KEY_SECRETS),
            host="127.0.0.1",
            trusted_proxies=("127.0.0.0/8",),
        ),
        **PATIENT | changes,
    )


def intake_settings(pg_url: str, **changes: Any) -> IntakeSettings:
    """An intake's settings, patient ones unless changed."""
    return dataclasses.replace(
        IntakeSettings(
            pg_url=Secret(pg_url),
            lookup_key_secrets=Secret(KEY_SECRETS),
            seal_keys=Secret(SEAL_KEYS),
            webhook_secret=Secret(WEBHOOK_SECRET),
            host="127.0.0.1",
        ),
        **PATIENT_INTAKE | changes,
    )


@contextlib.asynccontextmanager
async def lookup_at(settings: LookupSettings) -> AsyncIterator[str]:
    """A lookup of these settings on a free port; its URL."""
    async with lookup_running(settings) as started:
        yield f"http://127.0.0.1:{started.port}"


@contextlib.asynccontextmanager
async def lookup_running(settings: LookupSettings) -> AsyncIterator[server.Server]:
    """A lookup of these settings on free ports, the admin's too."""
    running = await lookup_app.build(settings)
    started = await server.start(running, service="lookup", port=0, admin_port=0)
    try:
        yield started
    finally:
        await started.stop()


@contextlib.asynccontextmanager
async def intake_at(settings: IntakeSettings) -> AsyncIterator[str]:
    """An intake of these settings on a free port; its URL."""
    async with intake_running(settings) as started:
        yield f"http://127.0.0.1:{started.port}"


@contextlib.asynccontextmanager
async def intake_running(settings: IntakeSettings) -> AsyncIterator[server.Server]:
    """An intake of these settings on free ports, the admin's too."""
    running = await intake_app.build(settings)
    started = await server.start(running, service="intake", port=0, admin_port=0)
    try:
        yield started
    finally:
        await started.stop()


async def new_token(database: Database, agency: str = "G99", actions: tuple[str, ...] = clients.ACTIONS) -> str:
    """A new client of that scope; its token."""
    return await new_client(database, f"test-{agency.lower().replace('.', '-')}-{next(_clients)}", agency, actions)


@functools.cache
def paper_files() -> dict[str, Path]:
    """A key that stamps papers and its file of public keys, as settings: made once, and gone with the tests."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-paper-key-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    found = {"paper_key_file": directory / "key.pem", "paper_public_keys": directory / "keys.json"}
    paper_keys.make(*found.values(), issuer="BHXH Xứ Mẫu (hư cấu)", since=date(2026, 12, 1))
    return found


@contextlib.asynccontextmanager
async def open_house(
    database: Database,
    redis_url: str,
    *,
    relay_redis_url: str = "",
    lookup: dict[str, Any] | None = None,
    intake: dict[str, Any] | None = None,
) -> AsyncIterator[House]:
    """Everything running, until the block ends."""
    token = await new_token(database)
    async with contextlib.AsyncExitStack() as stack:
        papers = paper_files()
        of_lookup = {"paper_public_keys": papers["paper_public_keys"]} | (lookup or {})
        lookup_url = await stack.enter_async_context(
            lookup_at(lookup_settings(database.reader_url, redis_url, **of_lookup))
        )
        of_intake = papers | (intake or {})
        intake_url = await stack.enter_async_context(intake_at(intake_settings(database.writer_url, **of_intake)))
        relay = relay_of(database, relay_redis_url or redis_url)
        await stack.enter_async_context(relay)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield House(lookup_url, intake_url, http, token)


@contextlib.asynccontextmanager
async def relay_of(database: Database, redis_url: str) -> AsyncIterator[None]:
    """A relay for that database."""
    settings = RelaySettings(redis_url=Secret(redis_url), pg_url=Secret(database.relay_url))
    running = await intake_app.build_relay(settings)
    tasks = [asyncio.ensure_future(task()) for task in running.tasks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection as a client does that reads no answer: a plain end may be the end of its requests only."""
    line = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def until(condition: Callable[[], Awaitable[Any]], *, within: float = 20.0) -> Any:
    """The first truthy result of `condition`, asked again and again; AssertionError when there is none in time."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        result = await condition()
        if result:
            return result
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s, last: {result!r}"
        await asyncio.sleep(0.02)

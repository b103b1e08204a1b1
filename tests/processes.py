"""Processes of the real command, each on free ports, told to stop when the block that needs it ends."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from ops.local.ports import free_port
from tests.conftest import KEY_SECRETS, SEAL_KEYS, WEBHOOK_SECRET, Database
from tests.house import PATIENT_ENVIRON, until

HOSO24 = "import hoso24; hoso24.main()"


@dataclass(frozen=True)
class Process:
    """A running process, where it answers, and the file that everything it prints goes to."""

    url: str
    admin_url: str
    output: Path


@contextlib.asynccontextmanager
async def process(
    service: str, database: Database, redis_url: str, output: Path, *, program: str = HOSO24, **settings: str
) -> AsyncIterator[Process]:
    """`hoso24 lookup` or `hoso24 intake`, ready, with these settings besides; `program` may change it before it runs.

    By the end it has stopped in good order, and has sent and printed all it had to.
    """
    port = free_port(12_000 + os.getpid() % 3000 * 2)  # others run tests beside these
    admin = free_port(port + 1)
    name = service.upper()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HOSO24_", "OTEL_"))}
    environ = inherited | {
        "HOSO24_PG_READER_URL": database.reader_url,
        "HOSO24_PG_WRITER_URL": database.writer_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
        "HOSO24_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_TRUSTED_PROXIES": "127.0.0.0/8",
        f"HOSO24_{name}_PORT": str(port),
        f"HOSO24_{name}_ADMIN_PORT": str(admin),
        "HOSO24_DRAIN_SECONDS": "0",
        **PATIENT_ENVIRON,
        **settings,
    }
    with output.open("wb") as file:
        command = (sys.executable, "-c", program, service)
        child = await asyncio.create_subprocess_exec(*command, env=environ, stdout=file, stderr=file)
    try:
        started = Process(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", output)
        await until(lambda: _is_ready(child, started), within=120)
        yield started
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _is_ready(child: asyncio.subprocess.Process, started: Process) -> bool:
    assert child.returncode is None, started.output.read_text("utf-8")
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{started.admin_url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False

"""Codes, keys and people are sent in every place, handlers crash over them, and nothing a process prints names one."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import aiohttp
import pytest
from yarl import URL

from intake.settings import IntakeSettings, MaintenanceSettings, NotarySettings, RelaySettings, WebhooksSettings
from lookup import code as codes
from lookup.codes_in_logs import canonical
from lookup.settings import LookupSettings, MigrateSettings
from ops.observe.redaction import hashed_by
from ops.settings import Secret
from tests.conftest import KEY_SECRETS, Database
from tests.house import intake_at, intake_settings, new_token, submission
from tests.processes import Process, process

CRASHING_LOOKUP = """
import hoso24
from lookup.reading.access import AccessPolicy
from lookup.reading.store import Store
from lookup.web.hotpath import HotPath

load = Store.dossiers

async def crash_over_batches(self, names, *, primary=False):
    if any(name.endswith("7777") for name in names):
        raise RuntimeError(f"no row for {names}")
    return await load(self, names, primary=primary)

def crash_behind_the_parser(self, asked, *_):
    raise KeyError(asked.code.text)

async def crash(self, code, key=None, *_, **__):
    try:
        raise ValueError(f"{code.text!r} with {key!r}")
    except ValueError as error:
        raise RuntimeError(f"cannot find {code.path} / {key}") from error

Store.dossiers, HotPath._found, AccessPolicy.find = crash_over_batches, crash_behind_the_parser, crash
hoso24.main()
"""

CRASHING_INTAKE = """
import hoso24
from intake.books.ledger import Ledger

async def crash_over_people(self, connection, moment, request, submission, catalogue):
    raise RuntimeError(f"violates a check\\nDETAIL:  Failing row contains ({submission.applicant.name})")

async def crash_over_codes(self, request, code, transition, catalogue):
    raise RuntimeError(f"{code.text} of {request.key} for {transition.note!r}")

Ledger._receive, Ledger.move = crash_over_people, crash_over_codes
hoso24.main()
"""

HASH_KEY = "a key of the tests"
SETTINGS = [
    *(LookupSettings, IntakeSettings, RelaySettings, NotarySettings, WebhooksSettings),
    *(MigrateSettings, MaintenanceSettings),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_setting_is_declared_a_secret_where_its_value_is_one(settings: type) -> None:
    """Only what is declared so may come from a file, is shown in no report and quoted in no message."""
    kinds = get_type_hints(settings)
    declared = {field.name: field.metadata["secret"] for field in dataclasses.fields(settings)}
    assert declared == {name: kinds[name] in (Secret, Secret | None) for name in declared}


NAME, PHONE, NOTE = "Trần Thị Mẫu (hư cấu)", "0999000111", "bà Mẫu cần bổ sung"
FAILING = "G99.01.01-261120-7777"
ODD = "g99.01.01 – 26112O-9OO1"


def spellings(code: str) -> list[str]:
    sequence = codes.parse(code).path.rpartition("-")[2]
    return [code, code.lower(), codes.parse(code).path, f"-{sequence}", f"/{sequence}"]


async def everywhere(lookup: Process, code: str, key: str) -> int:
    """Send a code and its key wherever a client can put them; how many requests that was."""
    path = codes.parse(code).path
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/api/v1/dossiers/{path}", {}),
        ("HEAD", f"/api/v1/dossiers/{path}", {}),
        ("GET", f"/api/v1/dossiers/{path}", {"headers": {"X-Request-Id": path, "If-None-Match": f'"{path}"'}}),
        ("GET", f"/api/v1/dossiers/{path}", {"headers": {"Hoso24-Key": key}}),
        ("GET", f"/api/v1/dossiers/{path}?at_least=1&key={key}", {}),
        (
            "GET",
            f"/api/v1/dossiers/{path}",
            {"headers": {"User-Agent": path, "Referer": f"/{path}", "Cookie": f"a={key}"}},
        ),
        ("GET", f"/api/v1/dossiers/{ODD}", {}),
        ("GET", f"/api/v1/dossiers/{path}%3Fkey={key}", {}),
        ("GET", f"/api/v1/dossiers/{FAILING}", {"headers": {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}}),
        ("GET", f"/tra-cuu/{path}?key={key}", {}),
        ("GET", f"/tra-cuu/{path}", {"headers": {"Cookie": f"hoso24-key={key}"}}),
        ("GET", f"/tra-cuu?ma={path}", {}),
        ("GET", f"/en/status?code={ODD}", {}),
        ("POST", f"/tra-cuu/{path}", {"data": {"key": key}}),
        ("POST", "/api/v1/lookups", {"json": {"dossiers": [{"code": path, "key": key}, {"code": ODD}]}}),
        ("POST", "/api/v1/lookups", {"json": {"dossiers": [{path: key}]}}),
        ("GET", f"/nowhere/{path}/{key}", {}),
        ("DELETE", f"/api/v1/dossiers/{path}", {}),
        ("PROPFIND", f"/{key}", {"headers": {"X-Request-Id": key}}),
    ]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        for method, address, options in asked:
            url = URL(lookup.url + address, encoded="%" in address)
            async with http.request(method, url, allow_redirects=False, **options) as answer:
                await answer.read()
        async with http.get(f"{lookup.admin_url}/reports/why", params={"code": code}) as report:
            assert (await report.json())["code_hash"] == hashed_by(HASH_KEY, code)
    for line in (f"GET /{path} HTTP/9.9", f"GET /{path}\x00{key} HTTP/1.1", f"GET / HTTP/1.1\r\n{path}\r\nX: {key}"):
        await _raw(lookup.url, line)
    return len(asked) + 3


async def _raw(url: str, request: str) -> None:
    reader, writer = await asyncio.open_connection(URL(url).host, URL(url).port)
    writer.write(f"{request}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def crashing(
    service: str, database: Database, redis_url: str, folder: Path, program: str
) -> AsyncIterator[Process]:
    settings = {"HOSO24_LOG_HASH_KEY": HASH_KEY, "HOSO24_ACCESS_LOG_SHARE": "1", "HOSO24_LOG_LEVEL": "debug"}
    async with process(service, database, redis_url, folder / service, program=program, **settings) as started:
        yield started


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


def of_requests(output: Path) -> list[dict[str, Any]]:
    return [line for line in lines(output) if line["logger"] == "hoso24.access"]


async def test_nothing_a_process_prints_names_a_dossier_or_a_person(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    token = await new_token(database)
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k-1"}
        async with http.post(f"{url}/api/v1/dossiers", json=submission(), headers=headers) as answer:
            receipt = await answer.json()
    code, key = receipt["code"], receipt["lookup_key"]

    async with crashing("lookup", database, redis_url, tmp_path, CRASHING_LOOKUP) as lookup:
        count = await everywhere(lookup, code, key)
    async with crashing("intake", database, redis_url, tmp_path, CRASHING_INTAKE) as intake:
        await _hand_in(intake, token, code)

    for process_output in (lookup.output, intake.output):
        text = process_output.read_text("utf-8")
        names = [KEY_SECRETS, HASH_KEY, token, NAME, PHONE, NOTE, "Mẫu", *spellings(code), *spellings(FAILING)]
        names += [key, key.lower(), key.replace("-", ""), *key.split("-")[1:], ODD, "9OO1", canonical(ODD)]
        assert [name for name in names if name in text] == []
        assert text.lower().count("the settings in effect") == 1

    answered = of_requests(lookup.output)
    assert len(answered) == count
    assert hashed_by(HASH_KEY, code) in {line.get("code_hash") for line in answered}
    assert hashed_by(HASH_KEY, canonical(ODD)) in {line.get("code_hash") for line in answered}
    crashes = [line for line in lines(lookup.output) + lines(intake.output) if "exception" in line]
    assert {error.splitlines()[-1] for error in (line["exception"] for line in crashes)} >= {
        f"KeyError: 'code_hash={hashed_by(HASH_KEY, code)}'",
        f"RuntimeError: cannot find code_hash={hashed_by(HASH_KEY, code)} / …",
        "RuntimeError: no row for ['code_hash=" + hashed_by(HASH_KEY, FAILING) + "']",
        "RuntimeError: violates a check",
    }


async def _hand_in(intake: Process, token: str, code: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": codes.parse(code).path}
    applicant = {"name": NAME, "id": "999000000001", "phone": PHONE}
    dossier = f"/api/v1/dossiers/{codes.parse(code).path}"
    async with aiohttp.ClientSession(intake.url, headers=headers) as http:
        for path, content in (
            ("/api/v1/dossiers", submission(applicant=applicant)),
            (f"{dossier}/transitions", {"to": "processing", "note": NOTE}),
            ("/api/v1/dossiers", submission(applicant=applicant | {NAME: PHONE})),
        ):
            async with http.post(path, json=content) as answer:
                await answer.read()
                assert answer.status in (422, 500)

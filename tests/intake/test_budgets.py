"""How often may a client ask? A minute's worth at once and no more, each budget and each client for itself."""

import contextlib
import logging
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from intake.admission import ADMISSION, CLIENT, Admission
from intake.budgets import LOG_EVERY, READ, SYNC, WRITE, Budgets, OverBudget
from intake.clients import Tokens
from ops.http.client_address import Clients
from ops.http.endpoints import ANY_CLIENT, Endpoint, serve
from ops.http.middleware import middlewares
from ops.stores.postgres import Postgres
from tests.clocks import Clock
from tests.conftest import Database
from tests.house import House, intake_at, intake_running, intake_settings, new_client, submission

DOSSIERS = "/api/v1/dossiers"
NOWHERE = f"{DOSSIERS}/G99.01.01-200101-0001"


def spent(budgets: Budgets, client: str, budget: str, most: int) -> int:
    """How often the client may until it is refused, up to `most` times."""
    for count in range(most):
        try:
            budgets.spend(client, budget)
        except OverBudget:
            return count
    return most


# -- counting ----------------------------------------------------------------------------------------------


def test_minutes_worth_is_there_at_once_and_comes_back_in_a_minute() -> None:
    clock = Clock()
    budgets = Budgets(write=600, read=3_000, sync=300_000, monotonic=clock)
    for _ in range(3):
        assert spent(budgets, "portal", WRITE, 1_000) == 600
        clock.pass_by(60)
    clock.pass_by(60 * 60 * 24)
    assert spent(budgets, "portal", WRITE, 1_000) == 600  # what was not used does not add up
    clock.pass_by(1)
    assert spent(budgets, "portal", WRITE, 1_000) == 10


def test_each_client_and_each_budget_counts_for_itself() -> None:
    budgets = Budgets(write=2, read=3, sync=10_000, monotonic=Clock())
    assert spent(budgets, "portal", WRITE, 9) == 2
    assert spent(budgets, "portal", READ, 9) == 3
    assert spent(budgets, "desk", WRITE, 9) == 2
    budgets.spend("portal", SYNC, 10_000)


def test_lines_are_charged_together_or_not_at_all_and_retry_after_is_when_there_are_enough() -> None:
    clock = Clock()
    budgets = Budgets(write=600, read=3_000, sync=300_000, monotonic=clock)
    for _ in range(29):
        budgets.spend("portal", SYNC, 10_000)
    budgets.spend("portal", SYNC, 9_000)
    with pytest.raises(OverBudget, match="1000 are left of it, and 10000 are needed") as refused:
        budgets.spend("portal", SYNC, 10_000)
    assert (refused.value.retry_after, refused.value.members) == (2, {"limit": "sync", "left": 1_000})
    assert refused.value.headers == {"RateLimit-Policy": '"sync";q=300000;w=60', "RateLimit": '"sync";r=1000;t=2'}
    budgets.require("portal", SYNC)
    clock.pass_by(2)
    budgets.spend("portal", SYNC, 10_000)
    budgets.spend("portal", SYNC, 1_000)
    with pytest.raises(OverBudget, match="it is used up"):
        budgets.require("portal", SYNC)
    assert [(each.name, each.left) for each in budgets.limits("portal")] == [(WRITE, 600), (READ, 3_000), (SYNC, 0)]


def test_one_log_line_a_minute_however_often_a_client_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    budgets = Budgets(write=1, read=1, sync=10_000, monotonic=clock)
    caplog.set_level(logging.WARNING, "intake.budgets")
    for _ in range(500):
        assert spent(budgets, "portal", WRITE, 2) <= 1
    clock.pass_by(LOG_EVERY)
    assert spent(budgets, "portal", WRITE, 2) == 1
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"Client portal is over its limit write of 1 a minute: refused {times} times since the last such line"
        for times in (1, 500)
    ]


def test_doctor_is_told_of_clients_refused_in_the_last_hour() -> None:
    clock = Clock()
    budgets = Budgets(write=1, read=1, sync=10_000, monotonic=clock)
    assert budgets.report({}) == {"limited": []}
    for client in ("portal", "desk", "portal"):
        spent(budgets, client, WRITE, 2)
    assert budgets.report({}) == {
        "limited": [
            {"client": "desk", "budget": "write", "refused": 1},
            {"client": "portal", "budget": "write", "refused": 2},
        ]
    }
    clock.pass_by(3_600)
    assert budgets.report({}) == {"limited": []}


# -- on the wire -------------------------------------------------------------------------------------------------


async def ask(url: str, token: str | None, method: str = "GET", content: Any = None) -> tuple[int, Any, Any]:
    """Status, JSON and headers of one request."""
    headers = {"Idempotency-Key": str(uuid.uuid4())} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with aiohttp.ClientSession() as http, http.request(method, url, json=content, headers=headers) as response:
        return response.status, await response.json(content_type=None), response.headers


def told(headers: Any) -> list[str | None]:
    return [headers.get("RateLimit-Policy"), headers.get("RateLimit")]


async def test_every_answer_to_a_client_tells_its_limit_refusals_included(house: House, database: Database) -> None:
    url, token = house.intake_url, await new_client(database, "portal", "G99", ["receive", "read"])
    status, receipt, headers = await ask(url + DOSSIERS, token, "POST", submission())
    policy, left = told(headers)
    assert (status, policy, left in {'"write";r=599;t=1', '"write";r=600;t=1'}) == (201, '"write";q=600;w=60', True)
    path = f"{DOSSIERS}/{receipt['code']}"
    for method, where, content, expected in [
        ("GET", path, None, 200),
        ("GET", NOWHERE, None, 404),
        ("GET", f"{DOSSIERS}/nonsense", None, 400),
        ("HEAD", path, None, 200),
        ("POST", DOSSIERS, submission(service="nowhere"), 422),
        ("POST", f"{path}/transitions", {"to": "processing"}, 403),
        ("PUT", f"{path}/official-number", {"number": "1/2026/99901"}, 403),
    ]:
        status, _, headers = await ask(url + where, token, method, content)
        name, quota = ("read", 3000) if method in {"GET", "HEAD"} else ("write", 600)
        policy, left = told(headers)
        assert (status, policy) == (expected, f'"{name}";q={quota};w=60'), (method, where)
        assert re.fullmatch(rf'"{name}";r=(59\d|600|299\d|3000);t=1', str(left)), left  # it comes back by itself
    for where, credential in [(path, None), (path, f"{token}x"), ("/nowhere", token)]:
        status, _, headers = await ask(url + where, credential)
        assert (status, told(headers)) == (404 if where == "/nowhere" else 401, [None, None])


async def test_client_over_its_limit_is_refused_before_anything_is_written(
    database: Database, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    portal, desk = [await new_client(database, name) for name in ("portal", "desk")]

    def count() -> float:
        return REGISTRY.get_sample_value("intake_clients_limited_total", {"budget": "write"}) or 0.0

    before = count()
    async with intake_at(intake_settings(database.writer_url, client_writes=2)) as url:
        for _ in range(2):
            assert (await ask(url + DOSSIERS, portal, "POST", submission()))[0] == 201
        status, problem, headers = await ask(url + DOSSIERS, portal, "POST", submission())
        assert (status, problem["code"], problem["limit"], problem["left"]) == (429, "client_limit", "write", 0)
        assert 29 <= int(headers["Retry-After"]) <= 30
        assert told(headers) == ['"write";q=2;w=60', f'"write";r=0;t={headers["Retry-After"]}']
        assert (await ask(url + DOSSIERS, portal, "POST", "not even a submission"))[0] == 429
        assert (await ask(url + NOWHERE, portal))[0] == 404  # reads have a budget of their own
        assert (await ask(url + DOSSIERS, desk, "POST", submission()))[0] == 201
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 3
    assert count() == before + 2
    assert [record.getMessage() for record in caplog.records if "over its limit" in record.getMessage()] == [
        "Client portal is over its limit write of 2 a minute: refused 1 times since the last such line"
    ]


async def test_forbidden_requests_are_charged_and_wrong_tokens_charge_nobody(database: Database) -> None:
    token = await new_client(database, "portal", "G99", ["read"])
    async with intake_at(intake_settings(database.writer_url, client_writes=2)) as url:
        for _ in range(5):
            assert (await ask(url + DOSSIERS, f"{token}x", "POST", submission()))[0] == 401
        statuses = [(await ask(url + DOSSIERS, token, "POST", submission()))[0] for _ in range(3)]
        assert statuses == [403, 403, 429]


async def test_each_process_counts_for_itself(database: Database) -> None:
    token, settings = await new_client(database, "portal"), intake_settings(database.writer_url, client_writes=1)
    async with intake_at(settings) as one, intake_at(settings) as other:
        for url in (one, other):
            assert [(await ask(url + DOSSIERS, token, "POST", submission()))[0] for _ in range(2)] == [201, 429]


async def test_limited_clients_are_reported_on_the_admin_port(database: Database) -> None:
    token = await new_client(database, "portal")
    async with intake_running(intake_settings(database.writer_url, client_reads=1)) as started:
        for _ in range(3):
            await ask(f"http://127.0.0.1:{started.port}{NOWHERE}", token)
        status, report, _ = await ask(f"http://127.0.0.1:{started.admin_port}/reports/budgets", None)
    assert (status, report) == (200, {"limited": [{"client": "portal", "budget": "read", "refused": 2}]})


# -- an endpoint that charges for itself -------------------------------------------------------------------------


class Counted(msgspec.Struct):
    """Lines of a body."""

    lines: int


@contextlib.asynccontextmanager
async def small_service(database: Database, budgets: Budgets) -> AsyncIterator[str]:
    """A service with one endpoint that is charged for the lines of its body."""
    postgres = Postgres("postgres", lambda: database.writer_url, size=1, deadline=10)

    async def synchronise(request: web.Request) -> Counted:
        """Charges first, and counts then."""
        lines = len((await request.read()).splitlines())
        budgets.spend(request[CLIENT].id, SYNC, lines)
        return Counted(lines)

    endpoint = Endpoint(
        method="POST",
        path="/sync",
        handler=synchronise,
        gives=Counted,
        refuses=ADMISSION,
        action=ANY_CLIENT,
        budget=SYNC,
    )
    admission = Admission(Tokens(postgres), Clients(()), budgets)
    app = web.Application(middlewares=middlewares("intake"), client_max_size=2**24)
    serve(app, [endpoint], admit=admission.admit)
    app.on_response_prepare.append(admission.tell)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/sync"
    finally:
        await runner.cleanup()
        await postgres.close()


async def test_lines_are_refused_before_they_are_worked_on_and_a_body_before_it_is_read(database: Database) -> None:
    clock = Clock()
    budgets = Budgets(write=1, read=1, sync=10_000, monotonic=clock)
    token = await new_client(database, "portal", "G99", ["read"])
    headers = {"Authorization": f"Bearer {token}"}
    async with small_service(database, budgets) as url, aiohttp.ClientSession(headers=headers) as http:
        for lines, status, left in ((9_000, 200, '"sync";r=1000;t=54'), (2_000, 429, '"sync";r=1000;t=6')):
            async with http.post(url, data=b"{}\n" * lines) as response:
                assert (response.status, response.headers["RateLimit"]) == (status, left)
        async with http.post(url, data=b"{}\n" * 1_000) as response:
            assert (response.status, await response.json()) == (200, {"lines": 1_000})
        head = {"Content-Length": str(2**24), "Expect": "100-continue"}
        async with http.post(url, data=b"", headers=head, expect100=False) as response:  # never sends its body
            assert (response.status, response.headers["Retry-After"]) == (429, "1")

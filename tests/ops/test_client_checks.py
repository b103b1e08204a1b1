"""The doctor is told by a process whether it can tell its clients apart."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from ops.doctor import client_checks
from ops.doctor.findings import Finding, Verdict, examine
from ops.http.client_address import COUNTED, Clients
from ops.http.server import Running, Server, start

CITIZENS = [f"203.0.113.{number % 250}" for number in range(COUNTED)]


@pytest.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Server, Clients]]:
    clients = Clients(request.param)
    served = await start(Running(app=web.Application(), reports={"clients": clients.report}), service="sample")
    try:
        yield served, clients
    finally:
        await served.stop()


async def found(served: Server) -> Finding:
    (finding,) = await examine(list(client_checks.clients("sample", str(served.admin_port))))
    return finding


@pytest.mark.parametrize("served", [["10.0.0.0/8"]], indirect=True)
async def test_clients_behind_a_named_proxy_are_told_apart(served: tuple[Server, Clients]) -> None:
    server, clients = served
    for citizen in CITIZENS:
        clients.client("10.0.0.1", citizen)
    assert (await found(server)).verdict is Verdict.OK


@pytest.mark.parametrize("served", [[]], indirect=True)
async def test_header_from_a_proxy_that_nobody_named_is_a_warning(served: tuple[Server, Clients]) -> None:
    server, clients = served
    assert (await found(server)).verdict is Verdict.OK
    clients.client("10.0.0.1", "203.0.113.7")
    finding = await found(server)
    assert finding.verdict is Verdict.WARNING
    assert "HOSO24_TRUSTED_PROXIES" in finding.next_step


@pytest.mark.parametrize("served", [["10.0.0.0/8"]], indirect=True)
async def test_load_balancer_that_hides_client_addresses_is_a_warning(served: tuple[Server, Clients]) -> None:
    server, clients = served
    for number, citizen in enumerate(CITIZENS):
        clients.client("10.0.0.1", citizen if number % 10 == 0 else "192.168.7.1")
        if number == COUNTED // 2:
            assert (await found(server)).verdict is Verdict.OK  # too few to say
    finding = await found(server)
    assert finding.verdict is Verdict.WARNING
    assert "90%" in finding.found
    assert "192.168" not in finding.found


async def test_where_no_process_answers_nothing_is_found() -> None:
    assert await examine(list(client_checks.clients("sample", "1"))) == []
    assert list(client_checks.clients("sample", "many")) == []

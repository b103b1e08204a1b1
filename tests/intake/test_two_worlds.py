"""A client of the sandbox reaches the sandbox only, and no other client reaches it: each is a stranger to the other."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp
import pytest

from lookup.clock import VIETNAM
from tests.conftest import Database
from tests.house import ADD_SANDBOX, AGENCY, House, intake_at, intake_settings, new_client, submission
from tests.intake.test_sync import sound

DOSSIERS = "/api/v1/dossiers"


class Worlds(NamedTuple):
    """An intake, a token of each kind of client, and a dossier of each world."""

    intake: House
    real: str
    """Of a client whose scope is G99, which in the tree is above the stray agency G99.77."""
    sandbox: str
    stranger: str
    """Of a client of another agency, in neither's scope."""


@pytest.fixture
async def worlds(database: Database, owner: Any) -> AsyncIterator[Worlds]:
    await owner.execute(ADD_SANDBOX)
    await owner.execute("UPDATE agency SET bhxh_number = '99999' WHERE code = 'X99.03'")
    tokens = [
        await new_client(database, name, agency)
        for name, agency in (("real", "G99"), ("sandbox", "X99"), ("stranger", "G99.05"), ("stray", "G99.77"))
    ]
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield Worlds(House("", url, http, tokens[3]), *tokens[:3])


async def ask(worlds: Worlds, token: str, method: str, path: str, content: Any = None) -> tuple[int, Any]:
    """Status, and the JSON without what differs in every answer."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
    url = worlds.intake.intake_url + path
    async with worlds.intake.http.request(method, url, json=content, headers=headers) as response:
        answer = await response.json()
    answer.pop("request_id", None)
    return response.status, answer


def of_one(code: str) -> list[tuple[str, str, Any]]:
    """Every request about one dossier that is there: method, path and content."""
    path = f"{DOSSIERS}/{code}"
    return [
        ("GET", path, None),
        ("POST", f"{path}/transitions", {"to": "processing"}),
        ("PUT", f"{path}/official-number", {"number": "1/2026/99901"}),
        ("POST", f"{path}/corrections", {"reason": "Nhập nhầm (ví dụ).", "service": "S.005"}),
        ("POST", f"{path}/key", {}),
        ("POST", f"{path}/lead", {"reason": "Đổi cơ quan chủ trì (ví dụ).", "agency": AGENCY}),
        ("POST", f"{path}/tasks", {"work": "Cho ý kiến (ví dụ)", "kind": "opinion", "agency": AGENCY}),
    ]


async def received(worlds: Worlds, token: str, agency: str) -> str:
    status, answer = await ask(worlds, token, "POST", DOSSIERS, submission(agency=agency))
    assert status == 201, answer
    return str(answer["code"])


async def test_each_is_a_stranger_to_the_other_s_dossiers_at_every_endpoint(worlds: Worlds) -> None:
    real = await received(worlds, worlds.real, AGENCY)
    made_up = await received(worlds, worlds.sandbox, "X99.03")
    stray = await received(worlds, worlds.intake.token, "G99.77")
    for code, token in ((made_up, worlds.real), (stray, worlds.real), (real, worlds.sandbox), (stray, worlds.sandbox)):
        for method, path, content in of_one(code):
            answer = await ask(worlds, token, method, path, content)
            assert (answer[0], answer[1]["code"]) == (404, "dossier_not_found"), (code, method, path)
            assert answer == await ask(worlds, worlds.stranger, method, path, content)
    for code, token in ((real, worlds.real), (made_up, worlds.sandbox)):
        assert [(await ask(worlds, token, *each))[0] for each in of_one(code)[:2]] == [200, 200], code


async def test_each_receives_in_its_own_world_only(worlds: Worlds, owner: Any) -> None:
    for token, agency in (
        *((worlds.real, agency) for agency in ("X99", "X99.03", "G99.77")),
        *((worlds.sandbox, agency) for agency in ("G99", AGENCY, "G99.77")),
    ):
        status, problem = await ask(worlds, token, "POST", DOSSIERS, submission(agency=agency))
        assert (status, problem["code"]) == (403, "out_of_scope"), agency
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0


async def test_neither_synchronises_a_dossier_of_the_other_world(worlds: Worlds, owner: Any) -> None:
    real = await received(worlds, worlds.real, AGENCY)
    made_up = await received(worlds, worlds.sandbox, "X99.03")
    day = f"{datetime.now(VIETNAM):%y%m%d}"
    for token, there, agency in ((worlds.real, made_up, "X99.03"), (worlds.sandbox, real, AGENCY)):
        wanted: list[dict[str, Any]] = [
            {"id": "move", "dossier": there, "status": "processing"},
            {"id": "create", "dossier": f"{agency}-{day}-0999", "create": submission(agency=agency)},
        ]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
        body = b"\n".join(json.dumps(line).encode() for line in wanted)
        url = f"{worlds.intake.intake_url}/api/v1/sync"
        async with worlds.intake.http.post(url, data=body, headers=headers) as response:
            *lines, summary = [json.loads(line) for line in (await response.text()).splitlines()]
        assert [line["result"] for line in lines] == ["rejected", "rejected"], lines
        assert [line["code"] for line in lines] == ["dossier_not_found", "out_of_scope"]
        assert summary["summary"]["rejected"] == 2
    assert await owner.fetchval("SELECT count(*) FROM event") == 2


async def synchronised(worlds: Worlds, token: str, line: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    url = f"{worlds.intake.intake_url}/api/v1/sync"
    async with worlds.intake.http.post(url, data=json.dumps(line).encode(), headers=headers) as response:
        return dict(json.loads((await response.text()).splitlines()[0]))


async def test_number_of_one_world_is_bound_in_it_only(worlds: Worlds, owner: Any) -> None:
    for token, agency, foreign, own in (
        (worlds.sandbox, "X99.03", "01234/2026/99901", "00001/2026/99999"),
        (worlds.sandbox, "X99.03", "01234/2026/00123", "00002/2026/99999"),
        (worlds.real, AGENCY, "00003/2026/99999", "01234/2026/99901"),
    ):
        code = await received(worlds, token, agency)
        path = f"{DOSSIERS}/{code}"
        correction = {"reason": "Nhập nhầm (ví dụ).", "official_number": foreign}
        for refused in (
            await ask(worlds, token, "PUT", f"{path}/official-number", {"number": foreign}),
            await ask(worlds, token, "POST", f"{path}/corrections", correction),
        ):
            assert (refused[0], refused[1]["code"]) == (422, "invalid_content"), foreign
            assert foreign in refused[1]["detail"]
        told = await synchronised(worlds, token, {"id": foreign, "dossier": code, "official_number": foreign})
        assert (told["result"], told["code"]) == ("rejected", "invalid_content")
        assert (await ask(worlds, token, "PUT", f"{path}/official-number", {"number": own}))[0] == 200
    numbers = await owner.fetch("SELECT number FROM dossier_number ORDER BY number")
    assert [row["number"] for row in numbers] == ["00001/2026/99999", "00002/2026/99999", "01234/2026/99901"]


async def test_no_dossier_is_handed_corrected_led_or_worked_on_across(worlds: Worlds, owner: Any) -> None:
    across = [(worlds.real, AGENCY, ("X99", "X99.03", "G99.77")), (worlds.sandbox, "X99.03", ("G99", AGENCY))]
    for token, agency, others in across:
        code = await received(worlds, token, agency)
        for other in (*others, "nowhere"):
            for path, content in (
                ("transitions", {"to": "processing", "agency": other}),
                ("corrections", {"reason": "Nhập nhầm (ví dụ).", "agency": other}),
                ("lead", {"reason": "Đổi cơ quan chủ trì (ví dụ).", "agency": other}),
                ("tasks", {"work": "Cho ý kiến (ví dụ)", "kind": "opinion", "agency": other}),
            ):
                status, problem = await ask(worlds, token, "POST", f"{DOSSIERS}/{code}/{path}", content)
                expected = (422, "unknown_agency", f"There is no agency {other}.")
                assert (status, problem["code"], problem["detail"]) == expected, (path, other)
        assert await owner.fetchval("SELECT agency || version FROM dossier WHERE code = $1", code) == f"{agency}1"


async def test_route_of_a_service_gives_no_task_to_the_other_world(database: Database, owner: Any) -> None:
    await owner.execute(ADD_SANDBOX)
    route = [{"work": "Thẩm định", "hours": 8, "agency": "G99.01"}, {"work": "Cấp", "hours": 8, "agency": "X99.03"}]
    await owner.execute("UPDATE service SET route = $1 WHERE code = 'S.004'", json.dumps(route))
    tokens = [await new_client(database, name, agency) for name, agency in (("real", "G99"), ("sandbox", "X99"))]
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        worlds = Worlds(House("", url, http, ""), tokens[0], tokens[1], "")
        real = await received(worlds, worlds.real, AGENCY)
        made_up = await received(worlds, worlds.sandbox, "X99.03")
        tasks = [tuple(row) for row in await owner.fetch("SELECT code, agency FROM task ORDER BY code, number")]
        assert tasks == [(real, "G99.01"), (real, AGENCY), (made_up, "X99.03"), (made_up, "X99.03")]
        completed = {"to": "completed", "outcome": "granted"}
        path = f"{DOSSIERS}/{made_up}/transitions"
        assert (await ask(worlds, worlds.sandbox, "POST", path, {"to": "processing"}))[0] == 200
        assert (await ask(worlds, worlds.sandbox, "POST", path, completed))[0] == 200
    await sound(database)


async def test_client_whose_agency_a_catalogue_moved_to_the_other_world_may_do_nothing_but_ask_why(
    database: Database, worlds: Worlds, owner: Any
) -> None:
    code = await received(worlds, worlds.real, AGENCY)
    for name, agency, sandbox in (("moved-1", "G99", True), ("moved-2", "X99", False)):
        token = await new_client(database, name, agency)
        await owner.execute("UPDATE client SET sandbox = $2 WHERE id = $1", name, sandbox)
        for method, path, content in (("POST", DOSSIERS, submission(agency=agency)), *of_one(code)):
            status, problem = await ask(worlds, token, method, path, content)
            assert (status, problem["code"]) == (403, "out_of_scope"), path
            assert problem["detail"].endswith("; the operator has to give it another scope.")
        status, about = await ask(worlds, token, "GET", "/api/v1/client")
        assert (status, about["sandbox"], about["agency"]["code"]) == (200, sandbox, agency)

"""Tasks, re-appointments and leads over HTTP, and the rows of table `task` that follow."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from lookup.clock import VIETNAM
from tests.conftest import Database
from tests.house import AGENCY, House, new_client

OWN, PROVINCE = AGENCY, "G99.01"
TASKS = "SELECT number, agency, kind, state, version FROM task WHERE code = $1 ORDER BY number"
DUE = "2027-03-31T10:00:00+07:00"


class Office:
    """A client of one agency, and what it does with a dossier."""

    def __init__(self, house: House, token: str) -> None:
        self._house, self._headers = house, {"Authorization": f"Bearer {token}"}

    async def act(self, code: str, path: str, content: Any, expected: int = 200) -> dict[str, Any]:
        status, answer = await self._house.hand_in("POST", f"/api/v1/dossiers/{code}/{path}", content, **self._headers)
        assert status == expected, answer
        return dict(answer)

    async def inbox(self, expected: int = 200, **query: Any) -> dict[str, Any]:
        url = f"{self._house.intake_url}/api/v1/tasks"
        async with self._house.http.get(url, params=query, headers=self._headers) as response:
            answer = await response.json()
            assert response.status == expected, answer
            return dict(answer)


@pytest.fixture
async def offices(house: House, database: Database) -> tuple[Office, Office, Office]:
    """Of the agency that receives, of the one above it, and of another one."""
    tokens = [await new_client(database, name, of) for name, of in (("own", OWN), ("up", PROVINCE), ("far", "G99.02"))]
    own, up, far = (Office(house, token) for token in tokens)
    return own, up, far


async def rows(owner: Any, code: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.fetch(TASKS, code)]


async def test_tasks_follow_a_dossier_from_application_to_return(house: House, owner: Any) -> None:
    code = (await house.receive(channel="online"))["code"]
    assert await rows(owner, code) == [(1, OWN, "decide", "open", 1)]
    await house.move(code, "received")
    assert await rows(owner, code) == [(1, OWN, "decide", "done", 2), (2, OWN, "work", "open", 2)]
    await house.move(code, "processing")
    await house.move(code, "completed")
    await house.move(code, "returned")
    assert await rows(owner, code) == [
        (1, OWN, "decide", "done", 2),
        (2, OWN, "work", "done", 4),
        (3, OWN, "hand_over", "done", 5),
    ]


async def test_part_of_another_agency_is_asked_about_done_and_waited_for(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, up, far = offices
    code = (await house.receive(channel="direct"))["code"]
    answer = await own.act(code, "tasks", {"agency": PROVINCE, "work": "Thẩm định (ví dụ)", "due_at": DUE})
    assert [task["state"] for task in answer["tasks"]] == ["open", "open"]
    assert answer["tasks"][1]["due_at"] == DUE
    assert (await own.act(code, "transitions", {"to": "completed"}, 409))["code"] == "tasks_live"
    assert (await own.act(code, "tasks/2/done", {}, 404))["code"] == "dossier_not_found"
    await far.act(code, "tasks/2/done", {}, 404)
    asked = await up.act(code, "tasks/2/ask", {"reason": "Thiếu bản chính?"})
    assert [task["state"] for task in asked["tasks"]] == ["open", "asked", "open"]
    assert (await up.act(code, "tasks/2/done", {}, 409))["code"] == "wrong_task"
    await own.act(code, "tasks/3/done", {})
    assert (await up.act(code, "tasks/2/refuse", {}, 422))["code"] == "reason_required"
    await up.act(code, "tasks/2/done", {})
    await own.act(code, "transitions", {"to": "completed"})
    assert [row[3] for row in await rows(owner, code)] == ["done", "done", "done", "open"]
    timeline = json.loads(await owner.fetchval("SELECT timeline FROM dossier WHERE code = $1", code))
    assert timeline[1] | {"at": ""} == {
        "at": "",
        "status": "received",
        "agency": PROVINCE,
        "department": None,
        "task": 2,
        "work": "Thẩm định (ví dụ)",
        "due_at": DUE,
    }
    # It asked, the lead answered and it is done: each by its own office.
    assert [step["agency"] for step in timeline] == [OWN, PROVINCE, OWN, PROVINCE, OWN]


async def test_lead_takes_a_task_back(house: House, owner: Any, offices: tuple[Office, Office, Office]) -> None:
    own, up, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    await own.act(code, "tasks", {"agency": PROVINCE, "work": "Ý kiến", "kind": "opinion"})
    await up.act(code, "tasks/2/cancel", {"reason": "Không cần nữa"})  # those above the lead are on its side
    assert (await rows(owner, code))[1][3] == "cancelled"
    assert (await own.act(code, "tasks/2/cancel", {"reason": "x"}, 409))["code"] == "wrong_task"
    assert (await own.act(code, "tasks/9/cancel", {"reason": "x"}, 409))["code"] == "wrong_task"


async def test_lead_changes_and_takes_its_work_along(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, up, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    answer = await own.act(code, "lead", {"agency": PROVINCE, "reason": "Đúng thẩm quyền (ví dụ)"})
    assert (answer["agency"], answer["tasks"][0]["agency"]) == (PROVINCE, PROVINCE)
    await own.act(code, "transitions", {"to": "completed"}, 404)
    await up.act(code, "transitions", {"to": "completed"})
    assert [row[:4] for row in await rows(owner, code)] == [
        (1, PROVINCE, "work", "done"),
        (2, OWN, "hand_over", "open"),
    ]
    assert await owner.fetchval("SELECT agency FROM dossier WHERE code = $1", code) == PROVINCE


async def test_due_date_is_put_off_once_with_a_reason(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, _, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    later = {"due_at": DUE, "reason": "Chờ xác minh (ví dụ)"}
    assert (await own.act(code, "re-appointments", later | {"reason": " "}, 422))["code"] == "invalid_content"
    sunday = later | {"due_at": "2027-03-28T10:00:00+07:00"}
    assert (await own.act(code, "re-appointments", sunday, 422))["code"] == "bad_date"
    answer = await own.act(code, "re-appointments", later)
    assert (answer["due_at"], answer["tasks"][0]["due_at"], answer["version"]) == (DUE, DUE, 2)
    row = await owner.fetchrow("SELECT due_at, reappointments FROM dossier WHERE code = $1", code)
    assert (row["due_at"].astimezone(VIETNAM).isoformat(), row["reappointments"]) == (DUE, 1)
    again = later | {"due_at": "2027-04-28T10:00:00+07:00"}
    refused = await own.act(code, "re-appointments", again, 409)
    assert (refused["code"], refused["rule"], refused["value"]) == ("policy_blocks", "reappointments", 1)


async def test_second_supplement_needs_the_officers_sentence(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, _, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    await house.move(code, "supplement_required")
    await house.move(code, "processing")
    wanted = {"to": "supplement_required", "note": "Thiếu (ví dụ)", "items": ["Bản sao"]}
    refused = await own.act(code, "transitions", wanted, 409)
    assert (refused["code"], refused["rules"][0]["rule"]) == ("policy_asks", "supplement_rounds")
    answer = await own.act(code, "transitions", wanted | {"override": "Luật chuyên ngành cho phép (ví dụ)"})
    assert [each["rule"] for each in answer["warnings"]] == ["supplement_rounds"]
    detail = await owner.fetchval("SELECT detail FROM event WHERE code = $1 ORDER BY version DESC LIMIT 1", code)
    assert '"override": "Luật chuyên ngành cho phép (ví dụ)"' in detail
    assert '"rule": "supplement_rounds"' in detail


async def test_inbox_has_live_tasks_by_due_date_page_by_page(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, up, far = offices
    codes = [(await house.receive(channel="direct"))["code"] for _ in range(4)]
    await house.move(codes[1], "withdrawn", note="Rút (ví dụ)")
    await own.act(codes[2], "re-appointments", {"due_at": DUE, "reason": "Chờ (ví dụ)"})
    await owner.execute("UPDATE task SET due_at = 'infinity' WHERE code = $1", codes[0])
    found: list[Any] = []
    after: dict[str, Any] = {}
    while True:
        page = await own.inbox(limit=1, **after)
        found += [(task["code"], task["due_at"] is None) for task in page["tasks"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == [(codes[3], False), (codes[2], False), (codes[0], True)]
    soon = await own.inbox(due_before="2027-01-31T00:00:00+07:00")
    assert [task["code"] for task in soon["tasks"]] == [codes[3]]
    assert (await up.inbox())["tasks"] == []
    assert len((await up.inbox(agency=OWN))["tasks"]) == 3
    assert (await far.inbox(agency=OWN, expected=403))["code"] == "out_of_scope"
    assert (await own.inbox(after="x", expected=400))["code"] == "invalid_parameter"


async def test_what_is_no_number_of_a_task_is_no_path(house: House) -> None:
    code = (await house.receive(channel="direct"))["code"]
    for number in ("null,null", "x", "-1", "1e9", "123", "²"):
        for end in ("done", "refuse", "cancel", "ask"):
            path = f"/api/v1/dossiers/{code}/tasks/{quote(number, safe='')}/{end}"
            status, answer = await house.hand_in("POST", path, {"reason": "Ví dụ."})
            assert (status, answer["code"]) == (404, "not_found"), number

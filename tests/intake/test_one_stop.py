"""Tasks, re-appointments and leads over HTTP, and the rows of table `task` that follow."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from lookup.clock import VIETNAM
from tests.conftest import Database
from tests.house import AGENCY, House, intake_at, intake_settings, new_client, new_token, submission

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

    async def read(self, path: str, expected: int = 200) -> dict[str, Any]:
        url = f"{self._house.intake_url}/api/v1/dossiers/{path}"
        async with self._house.http.get(url, headers=self._headers) as response:
            answer = await response.json()
            assert response.status == expected, answer
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


async def test_moment_at_the_end_of_the_calendar_is_no_error(
    house: House, offices: tuple[Office, Office, Office]
) -> None:
    own, _, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    last = "9999-12-31T23:59:59-07:00"
    for path, content in (
        ("re-appointments", {"due_at": last, "reason": "Chờ (ví dụ)"}),
        ("tasks", {"due_at": last, "agency": PROVINCE, "work": "Cho ý kiến (ví dụ)"}),
    ):
        assert (await own.act(code, path, content, 422))["code"] == "bad_date"
    assert [each["code"] for each in (await own.inbox(due_before=last))["tasks"]] == [code]
    assert (await own.inbox(due_before="0001-01-01T00:00:00+07:00"))["tasks"] == []


@pytest.mark.parametrize("place", ["infinity {code} 99999", "infinity a\0b 1", "infinity {code} 0", "x {code} 1"])
async def test_place_that_no_page_gave_is_refused(
    house: House, offices: tuple[Office, Office, Office], place: str
) -> None:
    mark = base64.urlsafe_b64encode(place.format(code=f"{OWN}-261201-0001").encode()).decode().rstrip("=")
    assert (await offices[0].inbox(after=mark, expected=400))["code"] == "invalid_parameter"


async def test_what_is_no_number_of_a_task_is_no_path(house: House) -> None:
    code = (await house.receive(channel="direct"))["code"]
    for number in ("null,null", "x", "-1", "1e9", "123", "²"):
        for end in ("done", "refuse", "cancel", "ask"):
            path = f"/api/v1/dossiers/{code}/tasks/{quote(number, safe='')}/{end}"
            status, answer = await house.hand_in("POST", path, {"reason": "Ví dụ."})
            assert (status, answer["code"]) == (404, "not_found"), number


# -- the result at once ------------------------------------------------------------------------------------------------

AT_ONCE = """
INSERT INTO service_time (service, service_case, channel, valid_from, at_once)
VALUES ('S.004', 'now', 'direct', '2020-01-01', true)
"""


@pytest.fixture
async def counter(database: Database, owner: Any) -> AsyncIterator[House]:
    """An intake of whose services one is done while the applicant waits."""
    await owner.execute(AT_ONCE)
    token = await new_token(database)
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, token)


async def test_result_at_once_is_three_events_of_one_transaction(counter: House, owner: Any) -> None:
    wanted = submission(channel="direct", service_case="now", result="at_once", officer="Cán bộ Mẫu")
    key = {"Idempotency-Key": "once"}
    status, answer = await counter.hand_in("POST", "/api/v1/dossiers", wanted, **key)
    assert (status, answer["status"], answer["version"]) == (201, "returned", 3)
    assert answer.keys() == {"code", "lookup_key", "status", "due_at", "version"}
    assert await counter.hand_in("POST", "/api/v1/dossiers", wanted, **key) == (201, answer)
    events = await owner.fetch("SELECT xid, kind, status, actor, occurred_at FROM event ORDER BY version")
    assert [(event["kind"], event["status"]) for event in events] == [("received", 2), ("moved", 9), ("moved", 10)]
    assert len({(event["xid"], event["actor"], event["occurred_at"]) for event in events}) == 1
    row = await owner.fetchrow("SELECT status, outcome, finished_at, returned_at, received_at, timeline FROM dossier")
    assert (row["status"], row["outcome"]) == (10, "granted")
    assert row["finished_at"] == row["returned_at"] == row["received_at"]
    assert [step["status"] for step in json.loads(row["timeline"])] == ["received", "completed", "returned"]
    assert [task[2:4] for task in await rows(owner, answer["code"])] == [("work", "done"), ("hand_over", "done")]
    with_receipt = await counter.receive(**wanted | {"receipt": True})
    assert with_receipt["receipt"]["number"] == with_receipt["code"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service_case": "default"}, "the time limit of S.004 is not `at_once`"),
        ({"channel": "postal"}, "the time limit of S.004 is not `at_once`"),
        ({"status": "submitted"}, "only what is accepted has one"),
        ({"result": "later"}, "result"),
    ],
)
async def test_result_at_once_is_for_accepted_dossiers_of_such_a_service(
    counter: House, owner: Any, fields: dict[str, Any], said: str
) -> None:
    wanted = submission(channel="direct", service_case="now", result="at_once") | fields
    status, answer = await counter.hand_in("POST", "/api/v1/dossiers", wanted)
    assert (status, answer["code"]) == (422, "invalid_content"), answer
    assert said in answer["detail"]
    assert await owner.fetchval("SELECT count(*) FROM event") == 0


async def test_who_may_not_move_a_dossier_hands_no_result_over(counter: House, database: Database, owner: Any) -> None:
    token = await new_client(database, "receiver", OWN, ("receive",))
    wanted = submission(channel="direct", service_case="now", result="at_once")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await counter.hand_in("POST", "/api/v1/dossiers", wanted, **headers))[0] == 403
    assert await owner.fetchval("SELECT count(*) FROM event") == 0


# -- what officers read ------------------------------------------------------------------------------------------------


async def test_agency_with_a_task_reads_the_dossier_its_tasks_and_its_history_and_each_read_is_logged(
    house: House, database: Database, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, up, far = offices
    office = Office(house, await new_client(database, "below", "G99.01.02"))
    code = (await house.receive(channel="direct", officer="Cán bộ Một cửa"))["code"]
    for path in (code, f"{code}/events"):
        assert (await office.read(path, 404))["code"] == "dossier_not_found"
    task = {"agency": "G99.01.02", "work": "Ý kiến", "kind": "opinion", "officer": "Bình"}
    await own.act(code, "tasks", task)
    await office.act(code, "tasks/2/refuse", {"reason": "Không thuộc thẩm quyền", "officer": "Chi"})
    await far.read(f"{code}/events", 404)
    await up.read(f"{code}/events")
    view = await office.read(code)
    assert [(task["agency"], task["state"]) for task in view["tasks"]] == [(OWN, "open"), ("G99.01.02", "refused")]
    await owner.execute("TRUNCATE personal_read")
    history = await office.read(f"{code}/events")
    assert history["code"] == code
    assert [(event["kind"], event["source"], event["officer"]) for event in history["events"]] == [
        ("received", house.token.split("_")[1], "Cán bộ Một cửa"),
        ("task_opened", "own", "Bình"),
        ("task_ended", "below", "Chi"),
    ]
    opened, refused = (event["task"] for event in history["events"][1:])
    assert (opened["number"], opened["state"], opened["work"], opened["agency"]) == (2, "opened", "Ý kiến", "G99.01.02")
    assert (refused["number"], refused["state"], refused["reason"]) == (2, "refused", "Không thuộc thẩm quyền")
    reads = await owner.fetch("SELECT reader, client, code, screen FROM personal_read")
    assert [tuple(read) for read in reads] == [("below", "below", code, "events")]


async def test_history_says_what_was_exceeded_why_and_what_was_corrected(
    house: House, owner: Any, offices: tuple[Office, Office, Office]
) -> None:
    own, _, _ = offices
    code = (await house.receive(channel="direct"))["code"]
    await house.move(code, "supplement_required")
    await house.move(code, "processing")
    wanted = {"to": "supplement_required", "note": "Thiếu", "items": ["Bản sao"], "override": "Luật cho phép"}
    await own.act(code, "transitions", wanted)
    await own.act(code, "corrections", {"reason": "Gõ nhầm", "channel": "postal", "applicant": {"name": "Trần Mẫu"}})
    events = (await own.read(f"{code}/events"))["events"]
    asked, corrected = events[3:]
    assert (asked["status"], asked["note"], asked["items"]) == ("supplement_required", "Thiếu\n– Bản sao", ["Bản sao"])
    assert (asked["override"], [rule["rule"] for rule in asked["rules"]]) == ("Luật cho phép", ["supplement_rounds"])
    assert (corrected["note"], corrected["corrected"]) == ("Gõ nhầm", ["channel", "applicant"])
    assert "Mẫu (hư cấu)" not in str(events)


# -- two officers at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("transitions", {"to": "received"}, {"to": "rejected", "note": "Không đủ (ví dụ)"}),
        ("transitions", {"to": "withdrawn", "note": "Rút"}, {"to": "completed"}),
        ("tasks/2/{}", "done", "refuse"),
    ],
    ids=["a decision", "an end", "a task"],
)
async def test_of_two_officers_who_decide_at_once_one_is_refused(
    house: House, owner: Any, offices: tuple[Office, Office, Office], path: str, one: Any, other: Any, versioned: bool
) -> None:
    own, _, _ = offices
    for _ in range(5):
        code = (await house.receive(channel="online" if one == {"to": "received"} else "direct"))["code"]
        if path.startswith("tasks"):
            await own.act(code, "tasks", {"agency": OWN, "work": "Ý kiến", "kind": "opinion"})
        version = await owner.fetchval("SELECT version FROM dossier WHERE code = $1", code)
        expected = {"expected_version": version} if versioned else {}
        bodies = [each if isinstance(each, dict) else {"reason": "x"} for each in (one, other)]
        paths = [path.format(each) if isinstance(each, str) else path for each in (one, other)]
        answers = await asyncio.gather(
            *(
                house.hand_in("POST", f"/api/v1/dossiers/{code}/{where}", body | expected)
                for where, body in zip(paths, bodies, strict=True)
            )
        )
        statuses = sorted(status for status, _ in answers)
        assert statuses == [200, 412 if versioned else 409], answers
        assert await owner.fetchval("SELECT count(*) FROM event WHERE code = $1", code) == version + 1

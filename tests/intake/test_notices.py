"""Notices to citizens: who is told of what, once, and what becomes of those that nobody takes."""

import asyncio
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from intake.notices.deliver import DEAD_AFTER, WAITS
from intake.notices.mail import Outcome
from lookup.status import Status
from tests import books
from tests.books import append
from tests.conftest import Database
from tests.house import ADD_SANDBOX, remove, until
from tests.intake.told import AGREE, CODE, address_of, move, notices, receive, smtp, telling
from tests.mailbox import OK, Mailbox, mailbox

DUE = datetime(2026, 12, 9, 9, 30, tzinfo=UTC)
RESTRICT = "INSERT INTO hold (code, kind, reason, by) VALUES ($1, 'restricted', 'Theo yêu cầu (ví dụ).', 'test')"


class Noted:
    """Takes every mail, and remembers it; `answers` are what it says first."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.got: list[EmailMessage] = []

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        self.got.append(message)
        return self.answers.pop(0) if self.answers else Outcome("sent", "Taken.")

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in self.got]


async def settled(owner: Any) -> None:
    """Until the whole log was looked at, and nothing is due."""

    async def done() -> Any:
        return await owner.fetchval(
            """SELECT NOT EXISTS (SELECT FROM notice WHERE state = 'due' AND next_at <= now())
                  AND (SELECT (epoch, xid, seq) FROM notice_cursor) IS NOT DISTINCT FROM
                      (SELECT (epoch, xid, seq) FROM event WHERE NOT bulk
                        ORDER BY epoch DESC, xid DESC, seq DESC LIMIT 1)
            """
        )

    await until(done)


async def test_each_step_that_concerns_the_applicant_is_told_once_and_no_other(database: Database, owner: Any) -> None:
    got = Noted()
    async with telling(database, got):
        code = await receive(owner, 1, status=Status.SUBMITTED, received_at=None)
        await settled(owner)
        assert got.got == [], "what came in online is not accepted yet"
        now = datetime.now(UTC)
        steps: list[tuple[str, dict[str, Any]]] = [
            ("moved", {"status": Status.SUPPLEMENT_REQUIRED}),
            ("moved", {"status": Status.RECEIVED, "received_at": now, "due_at": DUE}),
            ("moved", {"status": Status.PROCESSING}),
            ("moved", {"status": Status.PROCESSING, "agency": "G99.01"}),
            ("due_changed", {"due_at": DUE + timedelta(days=2), "reappointments": 1}),
            ("moved", {"status": Status.COMPLETED, "finished_at": now}),
            ("moved", {"status": Status.RETURNED, "returned_at": now}),
        ]
        for kind, fields in steps:
            await append(owner, code, kind, **fields)
            await settled(owner)
    assert await notices(owner, code) == [
        (2, "supplement", "sent"),
        (3, "accepted", "sent"),
        (6, "re_appointment", "sent"),
        (7, "ready", "sent"),
        (8, "returned", "sent"),
    ]
    assert [subject.rpartition(": ")[2] for subject in got.subjects] == [
        "cần bổ sung",
        "đã được tiếp nhận",
        "hẹn lại ngày trả kết quả",
        "đã có kết quả",
        "đã trả kết quả",
    ]
    assert "16:30 ngày 09/12/2026" in got.got[1].get_content()
    assert "16:30 ngày 11/12/2026" in got.got[2].get_content()


async def test_a_refusal_is_told_and_a_file_that_is_handed_back_without_result_is_not(
    database: Database, owner: Any
) -> None:
    refused = await receive(owner, 1, status=Status.SUBMITTED, received_at=None)
    await move(owner, refused, Status.REJECTED)
    stopped = await receive(owner, 2)
    await move(owner, stopped, Status.SUSPENDED)
    await move(owner, stopped, Status.RETURNED)
    async with telling(database, Noted()):
        await settled(owner)
    assert await notices(owner, refused) == [(2, "refused", "sent")]
    assert await notices(owner, stopped) == [(1, "accepted", "superseded")]


async def test_nobody_is_told_who_did_not_agree_at_that_moment_or_may_not_be(database: Database, owner: Any) -> None:
    got = Noted()
    await owner.execute(ADD_SANDBOX)
    await receive(owner, 1, bulk=True)
    await receive(owner, 2, agency="X99.03", origin="X99.03")
    without, later, withdrawn, restricted, erased = (CODE.format(number) for number in range(3, 8))
    for code in (without, later, withdrawn, restricted, erased):
        await books.receive(owner, code)
    await owner.execute(AGREE, later, "mail", address_of(later))
    for code in (withdrawn, restricted, erased):
        await owner.execute(AGREE, code, "mail", address_of(code))
    await owner.execute("UPDATE consent SET withdrawn_at = now() WHERE code = $1", withdrawn)
    await owner.execute("UPDATE consent SET address = NULL WHERE code = $1", erased)
    await owner.execute(RESTRICT, restricted)
    async with telling(database, got):
        await settled(owner)
        for code in (without, withdrawn, restricted, erased):
            await move(owner, code, Status.COMPLETED)
        await settled(owner)
        assert await owner.fetchval("SELECT count(*) FROM notice") == 0
        await move(owner, later, Status.COMPLETED)
        await settled(owner)
    assert await notices(owner, later) == [(2, "ready", "sent")]
    assert len(got.got) == 1


async def test_what_a_newer_status_has_overtaken_is_not_sent(database: Database, owner: Any) -> None:
    got = Noted()
    code = await receive(owner, 1)
    await move(owner, code, Status.COMPLETED)
    await move(owner, code, Status.RETURNED)
    corrected = await receive(owner, 2)
    await move(owner, corrected, Status.COMPLETED)
    await move(owner, corrected, Status.PROCESSING)
    async with telling(database, got):
        await settled(owner)
    assert await notices(owner, code) == [
        (1, "accepted", "superseded"),
        (2, "ready", "superseded"),
        (3, "returned", "sent"),
    ]
    assert [state for _, _, state in await notices(owner, corrected)] == ["superseded", "superseded"]
    assert len(got.got) == 1


@pytest.mark.parametrize("how", ["removed", "restricted", "withdrawn"])
async def test_what_waits_for_its_next_attempt_is_not_sent_after_the_dossier_is_not_told_of(
    database: Database, owner: Any, writer: Any, how: str
) -> None:
    code = await receive(owner, 1)
    async with telling(database, Noted(Outcome("later", "Not now."))):
        await settled(owner)
    if how == "removed":
        await move(owner, code, Status.WITHDRAWN)
        await remove(writer, code)
    else:
        await owner.execute(
            RESTRICT if how == "restricted" else "UPDATE consent SET withdrawn_at = now() WHERE code = $1", code
        )
    await owner.execute("UPDATE notice SET next_at = now()")
    async with telling(database, got := Noted()):
        await settled(owner)
    assert got.got == []
    assert await notices(owner, code) == [(1, "accepted", "superseded")]


# -- attempts ------------------------------------------------------------------------------------------------


async def test_an_attempt_that_failed_is_made_again_after_longer_and_longer_until_two_days_are_over(
    database: Database, owner: Any
) -> None:
    code = await receive(owner, 1)
    waits = []
    async with telling(database, Noted(*[Outcome("later", "Not now.")] * 20)):
        for _ in range(len(WAITS)):
            await settled(owner)
            waits.append(await owner.fetchval("SELECT extract(epoch FROM next_at - now())::float8 FROM notice"))
            await owner.execute("UPDATE notice SET next_at = now()")
        await settled(owner)
    assert [round(wait, -1) for wait in waits] == list(WAITS)
    (row,) = await owner.fetch("SELECT state, tries, last FROM notice WHERE code = $1", code)
    assert tuple(row) == ("dead", 8, "Not now.")
    assert sum(WAITS) < DEAD_AFTER.total_seconds()


async def test_an_old_notice_that_fails_once_more_is_dead(database: Database, owner: Any) -> None:
    code = await receive(owner, 1)
    async with telling(database, Noted(*[Outcome("later", "Not now.")] * 2)):
        await settled(owner)
        await owner.execute("UPDATE notice SET made_at = made_at - interval '48 hours', next_at = now()")
        await settled(owner)
    assert await notices(owner, code) == [(1, "accepted", "dead")]


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (
            {"rcpt": lambda _: "550 no such user here"},
            "dead",
            "The mail server answered 550 to the receiver's address.",
        ),
        ({"data": lambda _: "554 refused"}, "dead", "The mail server answered 554 to the mail."),
        ({"rcpt": lambda _: "450 mailbox busy"}, "due", "The mail server answered 450 to the receiver's address."),
        ({"rcpt": lambda _: "421 closing"}, "due", "The mail server answered 421 to the receiver's address."),
        ({"data": lambda _: "421 closing"}, "due", "The mail server answered 421 to the mail."),
        ({"data": lambda _: "close"}, "due", "The mail server ended the connection."),
        ({"rcpt": lambda _: "close"}, "due", "The mail server ended the connection."),
        ({"data": lambda _: asyncio.sleep(60)}, "due", "The mail server did not answer in time."),
    ],
)
async def test_what_a_mail_server_answers_decides_whether_it_is_tried_again(
    database: Database, owner: Any, answer: dict[str, Any], state: str, told: str
) -> None:
    code = await receive(owner, 1)
    async with mailbox(**answer) as box:
        async with telling(database, smtp(box.url, seconds=0.5)):

            async def tried() -> Any:
                return await owner.fetchval("SELECT tries FROM notice WHERE code = $1", code)

            await until(tried)
        (row,) = await owner.fetch("SELECT state, tries, last FROM notice WHERE code = $1", code)
        assert tuple(row) == (state, 1, told)
        assert box.got == []
        box.rcpt = box.data = lambda _: OK
        if state == "due":
            await owner.execute("UPDATE notice SET next_at = now()")
            async with telling(database, smtp(box.url)):
                await box.until(1)
                await settled(owner)
            assert await notices(owner, code) == [(1, "accepted", "sent")]


async def test_a_server_that_takes_connections_and_says_nothing_costs_its_timeout_once(
    database: Database, owner: Any
) -> None:
    for number in range(60):
        await receive(owner, number)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}?starttls=no"
        async with telling(database, smtp(url, connect_seconds=0.2, seconds=1.0)):

            async def tried() -> Any:
                return await owner.fetchval("SELECT count(*) FILTER (WHERE tries > 0) > 0 FROM notice")

            await until(tried)
    tries = await owner.fetchval("SELECT sum(tries) FROM notice")
    assert 1 <= tries <= 20, "the rest keeps its attempts"
    assert await owner.fetchval("SELECT DISTINCT last FROM notice WHERE tries > 0") == (
        "The mail server did not answer in time."
    )


async def test_two_processes_send_each_notice_once(database: Database, owner: Any) -> None:
    codes = [await receive(owner, number) for number in range(150)]
    async with mailbox() as box, telling(database, smtp(box.url)), telling(database, smtp(box.url)):
        await box.until(150)
        await settled(owner)
    assert sorted(to for to, _ in box.got) == sorted(address_of(code) for code in codes)
    assert await owner.fetchval("SELECT count(*) FROM notice WHERE state = 'sent' AND tries = 1") == 150


async def test_nothing_is_lost_when_processes_are_killed_between_sending_and_writing_down(
    database: Database, owner: Any
) -> None:
    codes = [await receive(owner, number) for number in range(60)]
    ends = []
    async with mailbox() as box:
        for mails in ("7", "1", "23", "0"):
            argv = ("-m", "tests.intake.notices_process", database.url("hoso24_notices"), box.url, mails)
            ends.append(await (await asyncio.create_subprocess_exec(sys.executable, *argv)).wait())
    assert ends == [-signal.SIGKILL] * 3 + [0]
    assert {to for to, _ in box.got} == {address_of(code) for code in codes}, "none is lost"
    assert len(set(box.ids)) == 60, "a repeated one has the same id"
    assert len(box.ids) > 60, "and there were some"
    assert await owner.fetchval("SELECT count(*) FROM notice WHERE state = 'sent'") == 60


async def test_a_process_that_stops_ends_what_it_has_begun(database: Database, owner: Any) -> None:
    code = await receive(owner, 1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: str) -> str:
        begun.set()
        await go_on.wait()
        return OK

    async with mailbox(data=answer) as box:
        async with telling(database, smtp(box.url)):
            await begun.wait()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        assert len(box.got) == 1
    assert await notices(owner, code) == [(1, "accepted", "sent")]


@pytest.mark.parametrize(
    "address",
    [
        "a@vi-du.example\r\nBcc: b@vi-du.example",
        "a@vi-du.example\nRCPT TO:<b@vi-du.example>",
        "a@b.example,c@d.example",
    ],
)
async def test_a_stored_address_that_holds_another_line_goes_nowhere(
    database: Database, owner: Any, address: str
) -> None:
    code = await receive(owner, 1, address=address)
    async with mailbox() as box, telling(database, smtp(box.url)):
        await settled(owner)
    assert (box.got, box.connections) == ([], 0)
    (row,) = await owner.fetch("SELECT state, last FROM notice WHERE code = $1", code)
    assert tuple(row) == ("dead", "What is stored is no address of this channel.")


async def test_mails_go_over_connections_that_are_kept(database: Database, owner: Any) -> None:
    for number in range(100):
        await receive(owner, number)
    async with mailbox() as box, telling(database, smtp(box.url)):
        await box.until(100)
    assert box.connections <= 20


# -- the log -------------------------------------------------------------------------------------------------


async def test_the_first_start_tells_nothing_that_is_older_than_two_days(database: Database, owner: Any) -> None:
    old = datetime.now(UTC) - timedelta(hours=49)
    for number in range(3):
        code = await receive(owner, number)
        await owner.execute("ALTER TABLE event DISABLE TRIGGER USER")
        await owner.execute("UPDATE event SET recorded_at = $2 WHERE code = $1", code, old)
        await owner.execute("ALTER TABLE event ENABLE TRIGGER USER")
        await owner.execute("UPDATE consent SET given_at = $2 WHERE code = $1", code, old)
    fresh = await receive(owner, 7)
    async with telling(database, got := Noted()):
        await settled(owner)
    assert len(got.got) == 1
    assert await notices(owner, fresh) == [(1, "accepted", "sent")]


async def test_a_process_that_was_away_for_days_tells_nothing_that_is_older_than_two(
    database: Database, owner: Any
) -> None:
    async with telling(database, Noted()):
        await receive(owner, 1)
        await settled(owner)
    old = datetime.now(UTC) - timedelta(hours=49)
    code = await receive(owner, 2)
    await owner.execute("ALTER TABLE event DISABLE TRIGGER USER")
    await owner.execute("UPDATE event SET recorded_at = $2 WHERE code = $1", code, old)
    await owner.execute("ALTER TABLE event ENABLE TRIGGER USER")
    await owner.execute("UPDATE consent SET given_at = $2 WHERE code = $1", code, old)
    async with telling(database, got := Noted()):
        await settled(owner)
    assert got.got == []
    assert await notices(owner, code) == []


async def test_with_a_new_epoch_it_goes_back_once_and_tells_what_stood_behind_it(
    database: Database, owner: Any
) -> None:
    told = await receive(owner, 1)
    async with telling(database, Noted()):
        await settled(owner)
    behind = await receive(owner, 2)
    # As after a restore from a dump: the ids of what was written before the new epoch lie behind the cursor.
    await owner.execute("UPDATE notice_cursor SET xid = (xid::text::bigint + 1000)::text::xid8")
    await owner.execute("INSERT INTO epoch (number, started_at, reason) VALUES (2, now() - interval '1 hour', 'test')")
    later = await receive(owner, 3)
    async with telling(database, got := Noted()):
        await settled(owner)
    assert [await notices(owner, code) for code in (told, behind, later)] == [[(1, "accepted", "sent")]] * 3
    assert len(got.got) == 2, "what was told is not told again"
    assert await owner.fetchval("SELECT looked_back_in FROM notice_cursor") == 2


def test_a_mailbox_refuses_what_it_says() -> None:
    assert Mailbox().rcpt("a@b.example") == OK

"""The morning's mail to heads of units: counts and codes, once a day, on working days."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from intake.notices.mail import Outcome
from intake.notices.morning import MorningMail
from lookup.catalogue import CatalogueCopy
from ops.stores.postgres import Postgres
from tests import books
from tests.conftest import Database
from tests.intake.told import CODE, MESSAGES

MORNING = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)  # Tuesday, 7:00 in Vietnam
UNIT = books.AGENCY
TASK = """
INSERT INTO task (code, number, agency, kind, work, state, due_at, opened_at, version)
VALUES ($1, 1, $2, $3, '', 'open', $4, now(), 1)
"""


class Noted:
    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, EmailMessage]] = []

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        self.got.append((to, message))
        return Outcome(self.answers.pop(0) if self.answers else "sent", "As the test says.")  # type: ignore[arg-type]

    async def close(self) -> None:
        """Nothing is open."""


def mornings(database: Database, mailer: Noted, now: datetime = MORNING) -> MorningMail:
    postgres = Postgres("postgres", lambda: database.url("hoso24_notices"), size=2, deadline=10)
    return MorningMail(postgres, CatalogueCopy(postgres), mailer, MESSAGES, now=lambda: now)


@pytest.fixture
async def late(owner: Any) -> list[str]:
    """Two tasks that are late and one for tomorrow, of a unit whose head has an address; and one of a unit without."""
    await owner.execute("UPDATE agency SET email = NULL")
    await owner.execute("UPDATE agency SET email = 'truong@vi-du.example' WHERE code = $1", UNIT)
    codes = [CODE.format(number) for number in range(5)]
    for code, agency, kind, due in zip(
        codes,
        (UNIT, UNIT, UNIT, UNIT, "G99.01"),
        ("work", "work", "work", "decide", "work"),
        (-24, -1, 26, -2, -24),
        strict=True,
    ):
        await books.receive(owner, code)
        await owner.execute(TASK, code, agency, kind, MORNING + timedelta(hours=due))
    return codes


async def test_the_head_of_a_unit_reads_how_many_and_which(database: Database, late: list[str]) -> None:
    got = Noted()
    assert await mornings(database, got).look() == 1
    ((to, message),) = got.got
    assert to == "truong@vi-du.example"
    assert message["Subject"] == "Hồ sơ quá hạn và đến hạn ngày 01/12/2026"
    body = message.get_content()
    assert body.startswith(
        "Quá hạn: 2. Đến hạn hôm nay: 0, ngày mai: 1. Chưa gửi văn bản xin lỗi: 0. Chờ tiếp nhận quá 8 giờ làm việc: 1."
    )
    assert [code in body for code in late] == [True, True, True, True, False]
    assert "Nguyễn" not in body


async def test_it_is_sent_once_a_day_by_however_many(database: Database, late: list[str]) -> None:
    got = Noted()
    one, other = mornings(database, got), mornings(database, got)
    assert [await each.look() for each in (one, other, one, mornings(database, got))] == [1, 0, 0, 0]
    assert await mornings(database, got, MORNING + timedelta(days=1)).look() == 1
    assert len(got.got) == 2
    assert len({message["Message-ID"] for _, message in got.got}) == 2


async def test_two_that_look_at_the_same_moment_send_one(database: Database, late: list[str]) -> None:
    got = Noted()
    both, begun = [mornings(database, got) for _ in range(2)], asyncio.Event()

    async def slow(message: EmailMessage, to: str) -> Outcome:
        got.got.append((to, message))
        await asyncio.wait([asyncio.ensure_future(begun.wait())], timeout=0.3)
        return Outcome("sent", "Taken.")

    got.send = slow  # type: ignore[method-assign]
    assert sum(await asyncio.gather(*(each.look() for each in both))) == 1
    assert len(got.got) == 1


@pytest.mark.parametrize(
    "now",
    [
        *(MORNING - timedelta(minutes=1), MORNING + timedelta(hours=5)),
        *(datetime(2026, 12, 5, 0, 30, tzinfo=UTC), datetime(2027, 1, 1, 0, 30, tzinfo=UTC)),
    ],
    ids=["before seven", "at noon", "on Saturday", "on New Year's day"],
)
async def test_it_is_sent_in_the_morning_of_working_days(database: Database, late: list[str], now: datetime) -> None:
    got = Noted()
    assert await mornings(database, got, now).look() == 0
    assert got.got == []


async def test_what_was_not_taken_is_tried_again_with_the_same_id_and_what_is_refused_is_not(
    database: Database, owner: Any, late: list[str]
) -> None:
    got = Noted("later", "never")
    work = mornings(database, got)
    assert await work.look() == 0
    assert await work.look() == 0, "its turn comes after five minutes"
    assert len(got.got) == 1
    await owner.execute("UPDATE morning_mail SET lease_until = now()")
    assert await work.look() == 0
    await owner.execute("UPDATE morning_mail SET lease_until = now()")
    assert await work.look() == 0
    assert len({message["Message-ID"] for _, message in got.got}) == 1
    assert len(got.got) == 2


async def test_an_address_that_is_none_gets_nothing(database: Database, owner: Any, late: list[str]) -> None:
    await owner.execute("UPDATE agency SET email = E'a@vi-du.example\\r\\nBcc: b@c.example' WHERE code = $1", UNIT)
    got = Noted()
    assert await mornings(database, got).look() == 0
    assert got.got == []

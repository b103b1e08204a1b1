"""A day is a day in Vietnam: the one a code carries and is counted in, and the one whose time limit holds.

The clock is the database's, which stands still here, in the place of a database.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any, cast

import msgspec
import pytest

from intake.books.event import APPEND_EVENT
from intake.books.ledger import IS_TAKEN, NEXT_IN_SEQUENCE, TRY_LOCK, KeyedRequest, Ledger
from intake.books.seal import SealKeys
from intake.clients import ACTIONS, Client
from intake.rules.due_dates import due_date
from intake.rules.requests import Submission
from intake.rules.workdays import due_after
from lookup.catalogue import Catalogue, Service, TimeLimit, load
from lookup.code import Scheme
from tests.conftest import SEAL_KEYS
from tests.house import submission

AGENCIES, SERVICES = load.sample()
SAMPLE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
AGENCY = {Scheme.B: "G99.01.01", Scheme.D: "99901"}


OLD_LIMIT = TimeLimit("any", 80, date(2020, 1, 1), date(2026, 3, 17))
NEW_LIMIT = TimeLimit("any", 8, date(2026, 3, 17))
"""Ten working days, and one from 17 March 2026 on."""


class Postgres:
    """A database whose clock stands still, in which every code is free and everything is taken."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.numbered: list[tuple[str, date]] = []
        """Per code given out, the agency and the day whose sequence it is of."""

    @contextlib.asynccontextmanager
    async def connection(self, _: float, **named: str) -> AsyncIterator["Postgres"]:
        yield self

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def fetchrow(self, sql: str, *_: Any) -> dict[str, Any] | None:
        rows: dict[str, dict[str, Any]] = {
            TRY_LOCK: {"locked": True, "now": self.now, "epoch": 1},
            APPEND_EVENT: {"xid": 1, "seq": 1},
        }
        return rows.get(sql)

    async def fetchval(self, sql: str, *values: Any) -> int | bool:
        if sql == NEXT_IN_SEQUENCE:
            self.numbered.append(values)
            return len(self.numbered)
        assert sql == IS_TAKEN
        return False

    async def execute(self, *_: Any) -> None:
        """It is written."""


async def received(now: datetime, scheme: Scheme, **fields: Any) -> tuple[str, tuple[str, date]]:
    """The code of a dossier handed in at this moment, and the sequence that it is numbered in."""
    postgres = Postgres(now)
    ledger = Ledger(cast(Any, postgres), scheme=scheme, seals=SealKeys.from_text(SEAL_KEYS), deadline=10)
    client = Client("desk", "Quầy mẫu", AGENCY[scheme], frozenset(ACTIONS))
    taken = msgspec.convert(submission(agency=AGENCY[scheme], **fields), Submission)
    answer = await ledger.receive(KeyedRequest(client, "k-1", bytes(32)), taken, SAMPLE)
    (numbered,) = postgres.numbered
    return answer["code"], numbered


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 11, 30, 0, 0, tzinfo=UTC), date(2026, 11, 30)),
        (datetime(2026, 11, 30, 16, 59, 59, 999_999, tzinfo=UTC), date(2026, 11, 30)),
        (datetime(2026, 11, 30, 17, 0, tzinfo=UTC), date(2026, 12, 1)),
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), date(2026, 12, 1)),
        (datetime(2026, 12, 31, 17, 0, tzinfo=UTC), date(2027, 1, 1)),
        (datetime(2028, 2, 28, 20, 0, tzinfo=UTC), date(2028, 2, 29)),
    ],
)
async def test_code_carries_the_day_in_vietnam_and_is_counted_in_it(now: datetime, day: date) -> None:
    code, numbered = await received(now, Scheme.B)
    assert code == f"G99.01.01-{day:%y%m%d}-0001"
    assert numbered == ("G99.01.01", day)


@pytest.mark.parametrize(
    ("now", "year"),
    [
        (datetime(2026, 12, 31, 16, 59, 59, tzinfo=UTC), 2026),
        (datetime(2026, 12, 31, 17, 0, tzinfo=UTC), 2027),
    ],
)
async def test_yearly_number_carries_the_year_in_vietnam_and_is_counted_in_it(now: datetime, year: int) -> None:
    code, numbered = await received(now, Scheme.D)
    assert code == f"00001/{year}/99901"
    assert numbered == ("99901", date(year, 1, 1))


async def test_day_is_that_of_the_reception_and_not_of_the_submission() -> None:
    """Online applications of the night before are numbered on the day on which they come in."""
    before = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
    code, _ = await received(datetime(2026, 11, 30, 17, 0, tzinfo=UTC), Scheme.B, submitted_at=before)
    assert code == "G99.01.01-261201-0001"


@pytest.mark.parametrize(
    ("received_at", "limit"),
    [
        (datetime(2026, 3, 16, 16, 59, 59, tzinfo=UTC), OLD_LIMIT),
        (datetime(2026, 3, 16, 17, 0, tzinfo=UTC), NEW_LIMIT),
        (datetime(2026, 3, 17, 2, 0, tzinfo=UTC), NEW_LIMIT),
    ],
)
def test_time_limit_is_that_of_the_day_in_vietnam(received_at: datetime, limit: TimeLimit) -> None:
    service = Service("S.1", "Dịch vụ mẫu", "A sample", "F", sensitive=False, times=(OLD_LIMIT, NEW_LIMIT))
    assert due_date(service, "default", "direct", received_at) == due_after(received_at, limit.hours or 0)

"""Reception on the days around an agency's and a service's validity, and by the calendar that is loaded."""

from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from intake.refusals import AgencyEnded, AgencyNotBegun, ServiceEnded, ServiceNotBegun, TargetNotAllowed
from lookup.catalogue import Calendar, Catalogue
from lookup.clock import VIETNAM
from ops.errors import Refusal
from tests.conftest import Database
from tests.intake.test_ledger import SAMPLE, TABLES, Office, office_of, row

BEGINS, ENDS = date(2026, 3, 2), date(2026, 3, 16)
CODE = "G99.01.01"


def with_agency(**changed: Any) -> Catalogue:
    agency = msgspec.structs.replace(SAMPLE.agencies[CODE], **changed)
    return Catalogue({**SAMPLE.agencies, CODE: agency}, SAMPLE.services)


def with_service(**changed: Any) -> Catalogue:
    service = msgspec.structs.replace(SAMPLE.services["S.001"], **changed)
    return Catalogue(SAMPLE.agencies, {**SAMPLE.services, "S.001": service})


async def receive(office: Office, catalogue: Catalogue, at: datetime, key: str | None = None) -> dict[str, Any]:
    office.catalogue = catalogue
    return await office.receive(agency=CODE, service="S.001", submitted_at=at, key=key)


def midnight(day: date) -> datetime:
    """The first moment of that day in Vietnam."""
    return datetime(day.year, day.month, day.day, tzinfo=VIETNAM)


MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("catalogue", "last_wrong", "refusal"),
    [
        (with_agency(valid_from=BEGINS), midnight(BEGINS) - MOMENT, AgencyNotBegun),
        (with_agency(valid_to=ENDS), midnight(ENDS), AgencyEnded),
        (with_service(valid_from=BEGINS), midnight(BEGINS) - MOMENT, ServiceNotBegun),
        (with_service(valid_to=ENDS), midnight(ENDS), ServiceEnded),
    ],
)
async def test_reception_is_refused_outside_the_days_of_validity_in_vietnam(
    database: Database, owner: Any, catalogue: Catalogue, last_wrong: datetime, refusal: type[Refusal]
) -> None:
    first_right = last_wrong + (MOMENT if refusal in (AgencyNotBegun, ServiceNotBegun) else -MOMENT)
    async with office_of(database) as office:
        with pytest.raises(refusal) as refused:
            await receive(office, catalogue, last_wrong)
        assert str(last_wrong.date()) in refused.value.detail
        for table in TABLES:
            assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert (await receive(office, catalogue, first_right))["version"] == 1


async def test_refusal_of_an_ended_agency_names_the_successor_that_answers_now(database: Database) -> None:
    ended = with_agency(valid_to=ENDS, successor="G99.01.02")
    async with office_of(database) as office:
        with pytest.raises(AgencyEnded) as refused:
            await receive(office, ended, midnight(ENDS))
    assert refused.value.members == {"successor": "G99.01.02"}
    assert "Its successor is G99.01.02" in refused.value.detail


async def test_repeat_after_the_agency_has_ended_gets_the_first_answer(database: Database) -> None:
    at = midnight(ENDS) - MOMENT
    async with office_of(database) as office:
        first = await receive(office, with_agency(valid_to=ENDS), at, key="k")
        assert await receive(office, with_agency(valid_to=BEGINS), at, key="k") == first


async def test_dossier_of_an_ended_agency_goes_on_there_and_is_not_handed_to_one(database: Database) -> None:
    at, ended = midnight(ENDS) - MOMENT, with_agency(valid_to=ENDS)

    async with office_of(database) as office:
        here = (await receive(office, ended, at))["code"]
        assert (await office.move(here, "processing"))["version"] == 2
        elsewhere = (await office.receive(agency="G99.01.02", submitted_at=at))["code"]
        with pytest.raises(TargetNotAllowed):
            await office.move(elsewhere, "processing", agency=CODE)


async def test_due_date_is_counted_by_the_calendar_that_is_loaded_and_names_it(database: Database, owner: Any) -> None:
    monday = midnight(date(2026, 3, 16)) + timedelta(hours=9)
    calendar = Calendar("vn", "2026.7", (), date(2026, 1, 1), date(2026, 12, 31), frozenset({date(2026, 3, 17)}), ())
    loaded = Catalogue(SAMPLE.agencies, SAMPLE.services, {"vn": calendar})
    async with office_of(database) as office:
        answer = await receive(office, loaded, monday)
    stored = await row(owner, answer["code"])
    # Five working days; the 17th is off, the weekend of the 21st and 22nd is worked.
    assert stored["due_at"] == monday + timedelta(days=6)
    assert stored["calendar"] == "vn-2026.7"

"""Agencies and services are data: the tree decides who may touch what, validity dates which time limit holds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, time
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest

from lookup.catalogue import Agency, Calendar, Catalogue, CatalogueCopy, Named, OfficeHours, Service, TimeLimit, load
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import Database

AGENCIES, SERVICES = load.sample()
SAMPLE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
LONG_AGO, REFORM = date(2020, 1, 1), date(2025, 7, 1)


def agency(code: str, parent: str | None) -> Agency:
    return Agency(code, parent, code, code, LONG_AGO)


def service(*times: TimeLimit) -> Service:
    return Service("S.1", "Mẫu", "Sample", "BHXH-Thu", False, times)


def in_order(services: Iterable[Service]) -> list[Service]:
    """By code, each with its limits in one order, for comparing."""
    return sorted(
        (msgspec.structs.replace(each, times=tuple(sorted(each.times, key=repr))) for each in services),
        key=lambda each: each.code,
    )


@dataclass
class Away:
    """A Postgres that cannot be asked."""

    async def fetch(self, *_: object) -> list[Any]:
        raise Unavailable


@pytest.mark.parametrize(
    ("code", "scope", "within"),
    [
        ("G99.01.01", "G99.01.01", True),
        ("G99.01.01", "G99.01", True),
        ("G99.01.01", "G99", True),
        ("99901", "G99.01", True),
        ("G99", "G99.01", False),
        ("G99.02.01", "G99.01", False),
        ("G99.10.01", "G99.1", False),
        ("H99.15.05", "G99", False),
        ("nowhere", "G99", False),
        ("", "G99", False),
    ],
)
def test_scope_is_an_agency_and_everything_below_it(code: str, scope: str, within: bool) -> None:
    assert SAMPLE.within(code, scope) is within


def test_agency_that_is_in_no_catalogue_is_within_itself_only() -> None:
    assert Catalogue().within("G99", "G99")
    assert not Catalogue().within("G99.01", "G99")


def test_loop_in_the_tree_hangs_no_search() -> None:
    loop = Catalogue({"a": agency("a", "b"), "b": agency("b", "a")})
    assert not loop.within("a", "c")
    assert loop.within("a", "b")


def test_limit_of_the_channel_stands_before_the_one_for_any() -> None:
    any_, online = TimeLimit("any", 160, LONG_AGO), TimeLimit("online", 96, REFORM)
    both = service(any_, online)
    assert both.time_limit("default", "online", REFORM) is online
    assert both.time_limit("default", "postal", REFORM) is any_


def test_limit_holds_from_its_first_day_to_the_day_before_its_last() -> None:
    old, new = TimeLimit("any", 80, LONG_AGO, REFORM), TimeLimit("any", 40, REFORM)
    both = service(old, new)
    assert both.time_limit("default", "online", date(2025, 6, 30)) is old
    assert both.time_limit("default", "online", REFORM) is new
    assert both.time_limit("default", "online", date(2019, 12, 31)) is None


def test_unknown_case_has_no_limit() -> None:
    assert service(TimeLimit("any", 80, LONG_AGO)).time_limit("verification", "online", REFORM) is None


def test_unknown_service_counts_as_sensitive() -> None:
    assert SAMPLE.is_sensitive("S.999")
    assert SAMPLE.is_sensitive("S.008")
    assert not SAMPLE.is_sensitive("S.001")


def test_unknown_names_are_null_and_codes_stand_alone() -> None:
    nameless = Named("x", None, None)
    assert Catalogue().agency_view("x") == Catalogue().service_view("x") == nameless


OFFICE = Agency(
    "G9.1",
    "G9",
    "Văn phòng",
    "Office",
    LONG_AGO,
    bhxh_number="99901",
    email="hop-thu@example.vn",
    address_vi="1 Phố Mẫu",
)
PROVINCE = Agency("G9", None, "Tỉnh", "Province", LONG_AGO, hotline="1900 0000", complaint_url="https://example.vn/pa")
CLOSED = Agency("G9.0", "G9", "Đã giải thể", "Closed", LONG_AGO, REFORM, successor="G9.1", email="cu@example.vn")
PEOPLE = Catalogue({each.code: each for each in (OFFICE, PROVINCE, CLOSED)})


@pytest.mark.parametrize("prefix", ["G9.1", "99901"])
def test_contact_is_the_agencys_own_with_the_hotline_of_the_one_above(prefix: str) -> None:
    contact = PEOPLE.contact_of(prefix, REFORM)
    assert contact is not None
    assert (contact.agency, contact.email, contact.address_vi) == (OFFICE, "hop-thu@example.vn", "1 Phố Mẫu")
    assert (contact.hotline, contact.complaint_url) == ("1900 0000", "https://example.vn/pa")


def test_contact_of_an_ended_agency_is_its_successors_from_the_day_it_ends() -> None:
    before, after = (PEOPLE.contact_of("G9.0", day) for day in (date(2025, 6, 30), REFORM))
    assert before is not None
    assert before.email == "cu@example.vn"
    assert after is not None
    assert after.agency is OFFICE


def test_nothing_is_known_of_a_stranger_and_of_an_agency_without_contacts() -> None:
    assert PEOPLE.contact_of("H1", REFORM) is None
    assert Catalogue({"a": agency("a", None)}).contact_of("a", REFORM) is None


def test_successors_in_a_loop_hang_nothing() -> None:
    ended = [Agency(code, None, code, code, LONG_AGO, REFORM, successor=other) for code, other in ("ab", "ba")]
    assert Catalogue({each.code: each for each in ended}).now_answering("a", REFORM) is None


def test_revision_changes_with_a_contact_and_not_with_a_calendar() -> None:
    moved = msgspec.structs.replace(OFFICE, hotline="1900 1111")
    assert replace(PEOPLE, agencies={**PEOPLE.agencies, "G9.1": moved}).revision != PEOPLE.revision
    assert replace(PEOPLE, loaded=None).revision == PEOPLE.revision


async def test_newest_version_of_a_calendar_and_the_newest_load_are_read(database: Database, owner: Any) -> None:
    await owner.execute(
        """
        INSERT INTO calendar
        SELECT 'vn', version, 'vn', 'a', 's', '{2026}' FROM unnest(ARRAY['2026.9', '2026.10']) version;
        INSERT INTO calendar_day VALUES ('vn', '2026.10', '2026-01-01', false), ('vn', '2026.10', '2026-01-02', true);
        INSERT INTO office_hours VALUES ('vn', '2026.10', 6, '07:00', NULL, NULL, '11:30');
        INSERT INTO catalogue_load (digest, author, sample, summary)
        SELECT repeat(digit, 64), 'a', false, '{}' FROM unnest(ARRAY['a', 'b']) digit;
        """
    )
    postgres = Postgres("postgres", lambda: database.reader_url, size=1, deadline=5)
    copy = CatalogueCopy(postgres)
    await copy.refresh()
    await postgres.close()
    assert copy.current.calendars == {
        "vn": Calendar(
            "vn",
            "2026.10",
            (2026,),
            date(2026, 1, 1),
            date(2026, 1, 2),
            frozenset({date(2026, 1, 1)}),
            (OfficeHours(6, time(7), None, None, time(11, 30)),),
        )
    }
    assert copy.current.loaded is not None
    assert copy.current.loaded.digest == "b" * 64


def test_sample_agencies_are_marked_as_fictitious() -> None:
    assert all("(hư cấu)" in a.name_vi and "(fictitious)" in a.name_en for a in AGENCIES)


def test_sample_tree_is_whole_and_parents_come_first() -> None:
    seen: set[str | None] = {None}
    for each in AGENCIES:
        assert each.parent in seen, each.code
        seen.add(each.code)


def test_sample_services_have_a_limit_for_every_channel_today() -> None:
    for each in SERVICES:
        for channel in ("direct", "online", "postal"):
            assert each.time_limit("default", channel, date(2026, 11, 22)), (each.code, channel)


def test_sample_limits_of_one_case_and_channel_do_not_overlap() -> None:
    for each in SERVICES:
        for channel, case in {(limit.channel, limit.service_case) for limit in each.times}:
            spans = sorted(
                (limit.valid_from, limit.valid_to)
                for limit in each.times
                if (limit.channel, limit.service_case) == (channel, case)
            )
            assert all(before[1] and before[1] <= after[0] for before, after in pairwise(spans)), each.code


async def test_catalogue_read_from_the_database_is_the_sample(database: Database) -> None:
    postgres = Postgres("postgres", lambda: database.reader_url, size=1, deadline=5)
    copy = CatalogueCopy(postgres)
    await copy.refresh()
    await postgres.close()
    assert dict(copy.current.agencies) == dict(SAMPLE.agencies)
    assert in_order(copy.current.services.values()) == in_order(SERVICES)


@dataclass
class Told:
    """A Postgres that tells this, or raises it."""

    says: Any

    async def fetch(self, *_: object) -> list[Any]:
        if isinstance(self.says, Exception):
            raise self.says
        return [{"catalogue": self.says}]


def stored(**changes: object) -> str:
    """The sample as the statement returns it."""
    whole = {"agencies": AGENCIES, "services": SERVICES, "calendars": [], "loaded": None}
    return msgspec.json.encode(whole | changes).decode()


@pytest.mark.parametrize(
    "trouble",
    [
        asyncpg.UndefinedTableError('relation "calendar" does not exist'),  # a standby behind the migration
        asyncpg.InsufficientPrivilegeError("permission denied for table calendar"),
        stored(agencies=[{"code": "G99"}]),
        "nonsense",
    ],
    ids=["behind the migration", "no grant", "a row without a name", "no JSON"],
)
async def test_copy_keeps_what_it_had_while_the_catalogue_cannot_be_read(
    trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    postgres = Told(trouble)
    copy = CatalogueCopy(postgres)
    with pytest.raises(Unavailable, match="The catalogue cannot be read"):
        await copy.refresh()
    known = [copy.known]
    assert "The catalogue in PostgreSQL cannot be read" in caplog.text
    postgres.says = stored()
    assert (await copy.get()).services
    known.append(copy.known)
    before, postgres.says = copy.current, trouble
    with pytest.raises(Unavailable):
        await copy.refresh()
    assert copy.current is before
    assert [*known, copy.known] == [False, True, True]


async def test_copy_is_the_same_object_until_something_in_it_changes() -> None:
    """What is made of a catalogue is thrown away with it, and comparing two of 2,000 services takes 1.5 ms."""
    postgres = Told(stored())
    copy = CatalogueCopy(postgres)
    await copy.refresh()
    before = copy.current
    await copy.refresh()
    assert copy.current is before
    postgres.says = stored(agencies=AGENCIES[1:])
    await copy.refresh()
    assert len(copy.current.agencies) == len(before.agencies) - 1


async def test_copy_keeps_what_it_had_while_postgres_is_away() -> None:
    copy = CatalogueCopy(Away())
    copy.current = SAMPLE
    with pytest.raises(Unavailable):
        await copy.refresh()
    assert copy.current is SAMPLE


@pytest.mark.parametrize(("status", "policy"), [(5, "restart"), (6, "none"), (8, "shift")])
def test_each_pause_has_its_own_clock(status: int, policy: str) -> None:
    of = msgspec.structs.replace(service(TimeLimit("any", 80, LONG_AGO)), clock_after_payment="none")
    assert of.clock_after(status) == policy

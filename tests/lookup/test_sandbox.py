"""The sandbox's agencies as they are shipped, the codes of its dossiers, and what leaves it out."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import hoso24
from lookup import sandbox
from lookup.catalogue import CATALOGUE as STORED
from lookup.catalogue import Catalogue, files, from_rows, load
from lookup.catalogue.load import counted, plan
from lookup.code import Scheme
from lookup.status import Status
from lookup.web import services
from tests.conftest import Database
from tests.lookup.catalogues import CATALOGUE, FULL, TODAY
from tests.lookup.test_catalogue_pages import SITE

SHIPPED = plan(files.read(files.SANDBOX), CATALOGUE, {}).after


def test_shipped_agencies_are_below_one_root_and_say_what_they_are() -> None:
    agencies = [each for each in SHIPPED.agencies.values() if each.sandbox]
    assert [each.code for each in agencies] == ["X99", "X99.01", "X99.02", "X99.03"]
    assert [each.parent for each in agencies] == [None, "X99", "X99", "X99"]
    assert all("thử nghiệm" in each.name_vi and "Sandbox" in each.name_en for each in agencies)
    assert sandbox.root(SHIPPED) == "X99"


def test_there_is_no_sandbox_where_an_agency_of_it_is_missing_or_a_real_one() -> None:
    assert sandbox.root(CATALOGUE) is None
    for code in ("X99", "X99.01", "X99.02", "X99.03"):
        without = {each.code: each for each in SHIPPED.agencies.values() if each.code != code}
        real = {**without, code: msgspec.structs.replace(SHIPPED.agencies[code], sandbox=False)}
        for agencies in (without, real):
            assert sandbox.root(Catalogue(agencies)) is None, code


def test_codes_of_the_fixed_dossiers_say_their_status() -> None:
    codes = [sandbox.fixed("X99", status) for status in Status]
    assert [codes[0].text, codes[9].text] == ["X99.01-260101-0001", "X99.01-260101-0010"]
    assert {code.scheme for code in codes} == {Scheme.B}


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (datetime(2026, 12, 1, 2, 0, tzinfo=UTC), "X99.02-261201-0900"),
        (datetime(2026, 12, 1, 16, 59, 59, tzinfo=UTC), "X99.02-261201-2300"),
        (datetime(2026, 12, 1, 17, 0, tzinfo=UTC), "X99.02-261202-0000"),  # midnight in Vietnam
    ],
)
def test_code_of_a_moving_dossier_is_the_hour_in_vietnam(start: datetime, code: str) -> None:
    assert sandbox.moving("X99", start).text == code


def test_lists_tell_the_sandbox_and_counts_leave_it_out() -> None:
    shown = {each.code: services.shown_agency(each, TODAY).sandbox for each in SHIPPED.agencies.values()}
    assert [code for code, of_sandbox in shown.items() if of_sandbox] == ["X99", "X99.01", "X99.02", "X99.03"]
    assert counted(SHIPPED, TODAY) == counted(CATALOGUE, TODAY)


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_provider_of_a_service_is_the_real_root(lang: str) -> None:
    """With two roots search engines would be told of none."""
    here = dataclasses.replace(CATALOGUE, agencies=SHIPPED.agencies)
    service = msgspec.structs.replace(FULL, route=None)
    assert services.linked_data(service, here, SITE, lang) == services.linked_data(service, CATALOGUE, SITE, lang)


# -- on a server -----------------------------------------------------------------------------------------------------


async def test_sandbox_is_loaded_beside_a_catalogue_by_one_command(
    database: Database, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSO24_PG_OWNER_URL", database.owner_url)
    result = await in_thread("catalogue", "load", "--sandbox")
    assert (result.exit_code, "Loaded: 4 of agency." in result.output) == (0, True), result.output
    known = from_rows(await owner.fetch(STORED))
    assert (sandbox.root(known), known.agencies["X99"].sample) == ("X99", False)
    assert "Nothing to change." in (await in_thread("catalogue", "load", "--sandbox")).output
    both = await in_thread("catalogue", "diff", "--sandbox", "--sample")
    assert (both.exit_code, "--sandbox" in both.output) == (2, True)


async def in_thread(*words: str) -> Any:
    """A command's result; it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, hoso24.cli, list(words))


async def test_predicate_leaves_out_what_the_sandbox_received_and_nothing_else(owner: Any) -> None:
    await load.install_sandbox(owner)
    rows = "SELECT * FROM (VALUES ('G99.01'), ('X99.03'), ('X99'), ('X99.99')) AS rows (origin)"
    found = await owner.fetch(f"SELECT origin FROM ({rows}) AS dossier WHERE {sandbox.REAL}")
    assert [row["origin"] for row in found] == ["G99.01", "X99.99"]

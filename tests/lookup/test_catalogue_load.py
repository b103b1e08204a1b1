"""Loading the catalogue: all or nothing, once, never a deletion, with the owner's rights; and the command for it."""

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

import hoso24
from lookup import catalogue
from lookup.catalogue import Catalogue, files, load
from lookup.catalogue.files import CannotRead
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.lookup.test_catalogue_files import AGENCIES, CALENDAR, SERVICES, written

ARGUMENTS = ("$1::text", "$2::text", "$3::boolean", "$4::jsonb")
COUNTED = ("agency", "service", "service_time", "calendar", "calendar_day", "office_hours", "catalogue_load")


async def everything(connection: Any) -> dict[str, list[str]]:
    """All rows of all tables that a load may write, as text."""
    return {
        table: sorted(row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} t")) for table in COUNTED
    }


async def loaded(connection: Any, folder: Path, **changed: str | bytes) -> load.Plan:
    return await load.load(connection, files.read(written(folder, **changed)), author="người thử")


async def now(connection: Any) -> Catalogue:
    return (await load.stored(connection))[0]


async def test_what_is_loaded_is_what_the_files_say(owner: Any, tmp_path: Path) -> None:
    plan = await loaded(owner, tmp_path)
    there = await now(owner)
    assert {code: there.agencies[code] for code in plan.after.agencies} == plan.after.agencies
    assert {code: there.services[code] for code in plan.after.services} == plan.after.services
    assert there.agencies["K88.02"].hotline == "1900 0000"
    assert there.agencies["K88.01"].successor == "K88.02"
    row = await owner.fetchrow("SELECT * FROM catalogue_load ORDER BY number DESC LIMIT 1")
    assert (row["digest"], row["author"], row["sample"]) == (plan.digest, "người thử", False)
    assert json.loads(row["summary"]) == plan.summary


async def test_loading_again_changes_nothing(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    before = await everything(owner)
    plan = await loaded(owner, tmp_path)
    assert (plan.summary, plan.lines, plan.faults) == ({}, [], [])
    assert await everything(owner) == before


async def test_loading_the_sample_again_changes_nothing(owner: Any) -> None:
    before = await everything(owner)
    assert (await load.install_sample(owner)).summary == {}
    assert await everything(owner) == before


async def test_half_good_directory_loads_nothing(owner: Any, tmp_path: Path) -> None:
    before = await everything(owner)
    plan = await loaded(owner, tmp_path, services=SERVICES.replace("sensitive = false\n", ""))
    assert [str(fault) for fault in plan.faults] == ["services.toml, line 2: there is no field 'sensitive'."]
    assert await everything(owner) == before


async def test_load_that_is_cut_off_leaves_nothing(
    database: Database, owner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session ends when all rows are written and only the note of the load is missing."""
    before = await everything(owner)
    monkeypatch.setattr(load, "NOTE", f"SELECT pg_terminate_backend(pg_backend_pid()), {', '.join(ARGUMENTS)}")
    other = await asyncpg.connect(database.owner_url)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await loaded(other, tmp_path)
    assert await everything(owner) == before


async def test_changed_row_says_what_changes(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    longer = SERVICES.replace("working_days = 5", "calendar_days = 20").replace("Cấp sổ", "Cấp sổ mới")
    plan = await loaded(owner, tmp_path, services=longer)
    assert plan.lines == [
        "~ service X.001 name_vi: Cấp sổ → Cấp sổ mới",
        "~ service_time X.001 default any 2020-01-01: 40 h until further notice → 20 days until further notice",
    ]
    assert plan.summary == {"service": 1, "service_time": 1}


@pytest.mark.parametrize("unit", ["working_hours = 12", "calendar_days = 30", "at_once = true"])
async def test_what_is_loaded_is_read_as_the_files_say_it(owner: Any, tmp_path: Path, unit: str) -> None:
    """A time limit in one unit, a sandbox, and what the clock does after a payment."""
    own = 'clock_after_payment = "none"\nretention_class = "20y"\nsensitive = false'
    services = SERVICES.replace("working_days = 5", unit).replace("sensitive = false", own)
    head, *rows = AGENCIES.splitlines()
    agencies = "\n".join([f"{head},sandbox", *(f"{row},{'yes' if row.startswith('K88.02') else ''}" for row in rows)])
    plan = await loaded(owner, tmp_path, agencies=agencies, services=services)
    assert plan.faults == []
    after = await now(owner)
    declared = files.read(tmp_path).services["X.001"]
    assert after.services["X.001"] == declared
    assert (declared.clock_after_payment, declared.retention_class) == ("none", "20y")
    assert {agency.code for agency in after.agencies.values() if agency.sandbox} == {"K88.02"}
    assert (await loaded(owner, tmp_path, agencies=agencies, services=services)).summary == {}


async def test_row_and_column_and_file_that_are_missing_stay(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    rows = AGENCIES.splitlines()
    fewer = "\n".join(line.replace("Cơ sở 2", "Cơ sở Hai").rsplit(",", 1)[0] for line in (rows[0], rows[1], rows[3]))
    (tmp_path / "contacts.csv").unlink()
    (tmp_path / "agencies.csv").write_text(fewer)
    plan = await load.load(owner, files.read(tmp_path), author="a")
    assert plan.lines == ["~ agency K88.02 name_vi: Cơ sở 2 → Cơ sở Hai"]
    assert "agency K88.01" in plan.stays
    there = (await now(owner)).agencies["K88.02"]
    assert (there.name_vi, there.bhxh_number, there.hotline) == ("Cơ sở Hai", "07999", "1900 0000")


async def test_empty_cell_empties(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    await loaded(owner, tmp_path, contacts="code,hotline\nK88.02,\n")
    there = (await now(owner)).agencies["K88.02"]
    assert (there.hotline, there.email) == (None, "hop-thu@mau.example")


async def test_time_limit_that_is_missing_stays_and_overlaps(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    plan = await loaded(owner, tmp_path, services=SERVICES.replace("5\nvalid_from = 2020", "9\nvalid_from = 2026"))
    assert [str(fault) for fault in plan.faults] == [
        "services.toml, line 2: X.001: time of default, any: those from 2020-01-01 and from 2026-01-01 overlap. "
        "Give the first `valid_to = 2026-01-01`"
    ]


async def test_calendar_is_frozen_with_its_base_and_a_version_is_never_changed(owner: Any, tmp_path: Path) -> None:
    own = CALENDAR.replace('"mau"\nversion', '"tinh"\nversion')
    await loaded(owner, tmp_path, calendar=own)
    there = (await now(owner)).calendars["tinh"]
    assert (there.first, there.last) == (date(2026, 1, 1), date(2026, 12, 31))
    assert {date(2026, 1, 2), date(2026, 9, 2), date(2026, 11, 29)} <= there.off
    assert date(2026, 11, 30) not in there.off
    before = await everything(owner)
    plan = await loaded(owner, tmp_path, calendar=own.replace("2026-01-02", "2026-01-05"))
    assert [str(fault) for fault in plan.faults] == [
        "calendar.toml, line 1: tinh: version 2026.1 is loaded with another day, and due dates were promised by it: "
        "give the new one the next version"
    ]
    assert await everything(owner) == before
    await loaded(owner, tmp_path, calendar=own.replace("2026-01-02", "2026-01-05").replace('"2026.1"', '"2026.2"'))
    assert (await now(owner)).calendars["tinh"].version == "2026.2"


async def test_revision_changes_with_a_load_that_changes_a_name(owner: Any, tmp_path: Path) -> None:
    await loaded(owner, tmp_path)
    before = await now(owner)
    await loaded(owner, tmp_path, calendar=CALENDAR.replace('"2026.1"', '"2026.7"'))
    same = await now(owner)
    await loaded(owner, tmp_path, agencies=AGENCIES.replace("Cơ sở 2", "Cơ sở Hai"))
    after = await now(owner)
    assert before.revision == same.revision != after.revision
    assert before.loaded is not None
    assert after.loaded is not None
    assert after.loaded.number > before.loaded.number


async def test_sample_is_not_loaded_over_another_catalogue(owner: Any) -> None:
    await owner.execute("UPDATE agency SET sample = false; UPDATE service SET sample = false")
    with pytest.raises(CannotRead, match="the sample is for empty databases"):
        await load.install_sample(owner)


@pytest.mark.parametrize("table", ["calendar", "calendar_day", "office_hours", "catalogue_load"])
async def test_writer_and_reader_read_what_only_the_owner_loads(database: Database, writer: Any, table: str) -> None:
    await writer.fetch(f"SELECT * FROM {table} LIMIT 1")
    for change in (f"DELETE FROM {table}", f"INSERT INTO {table} DEFAULT VALUES"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await writer.execute(change)
    reader = await asyncpg.connect(database.reader_url)
    assert catalogue.from_rows(await reader.fetch(catalogue.CATALOGUE)).calendars
    await reader.close()


async def test_load_with_the_writers_url_is_refused_whole(owner: Any, writer: Any, tmp_path: Path) -> None:
    before = await everything(owner)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await loaded(writer, tmp_path)
    assert await everything(owner) == before


# -- the command -------------------------------------------------------------------------------------------------------


async def invoked(environ: dict[str, str], *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, hoso24.cli, words, env=environ)


async def command(database: Database | None, *words: str) -> Result:
    url = database.owner_url if database else "postgresql://hoso24_owner:geheim@127.0.0.1:1/hoso24"
    return await invoked({"HOSO24_PG_OWNER_URL": url}, "catalogue", *words)


async def test_check_diff_load_and_load_again(database: Database, tmp_path: Path) -> None:
    folder = str(written(tmp_path))
    checked = await command(None, "check", folder, "--as-of", "2025-09-30")
    assert (checked.exit_code, checked.output) == (
        0,
        "Nothing is wrong in the files. In force on 2025-09-30: 3 of 3 agencies, 1 of 1 services.\n",
    )
    differs = await command(database, "diff", folder)
    assert differs.exit_code == 3
    assert "+ agency K88.02 Cơ sở 2" in differs.output
    assert "+ service_time X.001 default any 2020-01-01: 40 h until further notice" in differs.output
    assert "= service S.014 is not in the files and stays." in differs.output
    done = await command(database, "load", folder, "--by", "thử")
    assert done.exit_code == 0, done.output
    assert "Loaded: 3 of agency, 1 of service" in done.output
    for again in (await command(database, "load", folder), await command(database, "diff", folder)):
        assert again.exit_code == 0
        assert "Nothing to change." in again.output


async def test_refused_lines_are_1_and_what_cannot_run_is_2(database: Database, tmp_path: Path) -> None:
    folder = str(written(tmp_path, agencies=AGENCIES.replace("07999", "7999")))
    for word in ("check", "diff", "load"):
        refused = await command(database, word, folder)
        assert refused.exit_code == 1
        assert "agencies.csv, line 4: bhxh_number '7999'" in refused.output
        assert "lines are refused; nothing is loaded." in refused.output
    good = str(written(tmp_path))
    cannot: list[tuple[str, ...]] = [("load", good), ("load",), ("load", good, "--sample"), ("diff", good)]
    for words in (*cannot, ("check", str(tmp_path / "calendar.toml"))):
        broken = await command(None, *words)
        assert broken.exit_code == 2, broken.output
        assert "geheim" not in broken.output


async def test_command_that_needs_a_catalogue_says_how_to_load_one(
    database: Database, owner: Any, tmp_path: Path
) -> None:
    await owner.execute("TRUNCATE service_time, service, agency CASCADE")
    dossiers = tmp_path / "dossiers.ndjson"
    dossiers.write_text("{}\n")
    environ = {"HOSO24_PG_WRITER_URL": database.writer_url, "HOSO24_PG_OWNER_URL": database.owner_url}
    environ |= {"HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS, "HOSO24_SEAL_KEYS": SEAL_KEYS}
    for words in (("client", "add", "c", "--name", "n", "--agency", "G99"), ("import", str(dossiers))):
        told = await invoked(environ, *words)
        assert told.exit_code == 1
        assert "There is no catalogue in this database. Run `hoso24 catalogue load DIR`" in told.output
    done = await command(database, "load", "--sample")
    assert (done.exit_code, await owner.fetchval("SELECT count(*) FROM agency")) == (0, len(load.sample()[0]))

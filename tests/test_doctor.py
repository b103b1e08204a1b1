"""The doctor at real servers: a healthy house has nothing to say, and whatever is broken on purpose is found.

Where a finding names the SQL that mends it, that SQL is run, and the finding has to go.
"""

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio
from click.testing import CliRunner

import hoso24
from intake.clients import add_token
from intake.figures.counting import count
from loadtests.system.pauses import pause, resume
from loadtests.system.replicated_postgres import ReplicatedPostgres
from lookup import schema
from lookup.catalogue import load
from lookup.schema import grants
from lookup.upkeep import doctor
from ops import doctor as checks
from ops.doctor import postgres_checks, redis_checks
from ops.doctor.findings import NOT_EXAMINED, Finding, Verdict, exit_status
from ops.http import early_answers
from ops.local.reaper import Reaper
from ops.local.valkey import ValkeyServer
from ops.settings import Secret
from ops.stores.redis import Redis
from tests.conftest import KEY_SECRETS, NO_FSYNC, ROLES, SEAL_KEYS, WEBHOOK_SECRET, Database, prepare
from tests.house import intake_running, intake_settings, new_client, relay_of, until


class Patient:
    """One database and one Redis, as the doctor is told of them by the environment."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self.database = database
        self.redis_url = redis_url
        urls = {f"HOSO24_PG_{role.removeprefix('hoso24_').upper()}_URL": database.url(role) for role in ROLES}
        self.environ = urls | {"HOSO24_REDIS_URL": redis_url, "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS}
        self.environ |= {"HOSO24_SEAL_KEYS": SEAL_KEYS, "HOSO24_WEBHOOK_SECRET": WEBHOOK_SECRET}
        self.environ |= {"HOSO24_NOTICE_SECRET": "6e" * 32}
        ports = ("LOOKUP", "INTAKE", "NOTARY", "WEBHOOKS")
        self.environ |= {f"HOSO24_{each}_ADMIN_PORT": "1" for each in ports}  # nothing answers there

    async def examined(self, **changes: str) -> list[Finding]:
        return await hoso24.examine_house(self.environ | changes)

    async def of(self, check: str, **changes: str) -> list[Finding]:
        """What that one check found, the whole house being examined."""
        return [finding for finding in await self.examined(**changes) if finding.check == check]

    async def one(self, check: str, **changes: str) -> Finding:
        (finding,) = await self.of(check, **changes)
        return finding

    async def asked(self, check: str) -> list[Finding]:
        """What that one check of the lookup's found, nothing else being examined."""
        database = doctor.servers({"reader": Secret(self.database.reader_url)})
        redis = Redis("redis", lambda: self.redis_url, size=1, deadline=5.0)
        try:
            (found,) = [each for each in doctor.checks(database, redis) if each.name == check]
            return list(await found.ask())
        finally:
            await database.close()
            await redis.close()

    @contextlib.asynccontextmanager
    async def superuser(self, database: str = "") -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.database.admin_url, database=database or self.database.name)
        try:
            yield connection
        finally:
            await connection.close()

    async def mended(self, finding: Finding) -> None:
        """Do what the finding says, as the owner, and for what takes one as a superuser."""
        async with self.superuser() as connection:
            for sql in re.findall(r"`([^`]+)`", finding.next_step):
                await connection.execute(sql)


HANGS = checks.SERVER_DEADLINE
"""Seconds after which a server that does not answer is taken for one that hangs."""


@pytest.fixture(autouse=True)
def _servers_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly as long as all of an examination may take."""
    monkeypatch.setattr(checks, "SERVER_DEADLINE", 7.0)


@pytest.fixture
async def patient(database: Database, redis_url: str) -> Patient:
    return Patient(database, redis_url)


async def test_early_answers_that_are_off_are_told_with_what_is_missing(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = await patient.asked("early answers")
    assert finding.verdict is Verdict.OK
    monkeypatch.setattr(early_answers, "_PRIVATE", ("_books_of_tomorrow",))
    (finding,) = await patient.asked("early answers")
    assert finding.verdict is Verdict.WARNING
    assert "_books_of_tomorrow" in finding.found


async def test_answers_that_nobody_deletes_are_told(patient: Patient, database: Database, owner: Any) -> None:
    assert (await patient.one("tidy")).verdict is Verdict.OK
    await new_client(database, "desk")
    keep = "INSERT INTO idempotency VALUES ('desk', $1, '', '{}', now() - $2::text::interval)"
    await owner.execute(keep, "k-1", "30 days 23 hours")
    assert (await patient.one("tidy")).verdict is Verdict.OK
    await owner.execute(keep, "k-2", "45 days")
    finding = await patient.one("tidy")
    assert finding.verdict is Verdict.WARNING
    assert "45 days old" in finding.found
    assert "`hoso24 tidy`" in finding.next_step


async def count_figures(database: Database) -> None:
    counter = await asyncpg.connect(database.url("hoso24_figures"))
    await count(counter)
    await counter.close()


async def test_public_figures_that_nobody_counts_are_told(patient: Patient, database: Database, owner: Any) -> None:
    assert (await patient.one("figures")).found == "no public figures were counted yet"
    await count_figures(database)
    assert (await patient.one("figures")).verdict is Verdict.OK
    await owner.execute("UPDATE figure_cursor SET at = at - interval '5 hours'")
    finding = await patient.one("figures")
    assert (finding.verdict, "5 hours old" in finding.found) == (Verdict.WARNING, True)
    assert "`hoso24 figures`" in finding.next_step


async def test_clients_that_are_about_to_have_no_token_are_told(
    patient: Patient, database: Database, owner: Any
) -> None:
    for client in ("portal", "desk", "old", "sandbox", "gone", "changed-over"):
        await new_client(database, client)
    assert (await patient.one("tokens")).found == "no client's last token ends within 30 days"
    expire = (
        "UPDATE client_token SET created_at = '2020-01-01', expires_at = now() + $2::text::interval WHERE client = $1"
    )
    for client, ends in (("portal", "29 days"), ("desk", "31 days"), ("old", "-31 days"), ("gone", "1 day")):
        await owner.execute(expire, client, ends)
    await owner.execute("UPDATE client SET disabled_at = now() WHERE id = 'gone'")
    await owner.execute("UPDATE client SET sandbox = true WHERE id = 'sandbox'")
    await owner.execute(expire, "sandbox", "1 day")
    await owner.execute(expire, "changed-over", "1 day")
    await add_token(owner, "changed-over")
    finding = await patient.one("tokens")
    last_day = await owner.fetchval(
        "SELECT (expires_at AT TIME ZONE interval '7 hours')::date::text FROM client_token WHERE client = 'portal'"
    )
    assert (finding.verdict, finding.found) == (Verdict.WARNING, f"last tokens: portal's ends on {last_day}")
    assert "`hoso24 client token portal`" in finding.next_step
    await owner.execute(expire, "desk", "-2 days")
    assert re.fullmatch(r"last tokens: desk's ended on \S+, portal's ends on \S+", (await patient.one("tokens")).found)


async def test_clients_refused_for_their_limit_are_told(patient: Patient, database: Database) -> None:
    assert await patient.of("client limits") == []  # no intake answers
    token = await new_client(database, "portal")
    async with intake_running(intake_settings(database.writer_url, client_reads=1)) as started:
        port = {"HOSO24_INTAKE_ADMIN_PORT": str(started.admin_port)}
        finding = await patient.one("client limits", **port)
        assert (finding.verdict, finding.found) == (
            Verdict.OK,
            "no client was refused for its limit in the last hour",
        )
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for _ in range(3):
                await http.get(f"http://127.0.0.1:{started.port}/api/v1/client")
        finding = await patient.one("client limits", **port)
    told = "refused in the last hour for a limit: portal for read (2 since it started)"
    assert (finding.verdict, finding.found) == (Verdict.WARNING, told)
    assert "HOSO24_CLIENT_READS" in finding.next_step


async def test_refused_lines_that_wait_for_more_than_a_day_are_told(
    patient: Patient, database: Database, owner: Any
) -> None:
    assert (await patient.one("dead letters")).found == "no refused line of a partner waits"
    await new_client(database, "so-mau")
    refuse = """
    INSERT INTO dead_letter (client, source_event_id, line, error, detail, first_at, closed_at)
    VALUES ('so-mau', $1, '', 'bad_date', '', now() - $2::text::interval, $3)
    """
    await owner.execute(refuse, "closed", "9 days", datetime.now(UTC))
    await owner.execute(refuse, "young", "23 hours 10 minutes", None)
    finding = await patient.one("dead letters")
    assert (finding.verdict, finding.found) == (Verdict.OK, "refused lines of partners wait: 1, the oldest for 23 h")
    await owner.execute(refuse, "old", "3 days", None)
    finding = await patient.one("dead letters")
    told = (Verdict.WARNING, "refused lines of partners wait: 2, the oldest for 72 h")
    assert (finding.verdict, finding.found) == told
    assert "`hoso24 deadletters list`" in finding.next_step
    await owner.execute("UPDATE client SET sandbox = true")
    assert (await patient.one("dead letters")).found == "no refused line of a partner waits"


async def test_sandbox_that_moves_beside_a_real_catalogue_is_found(patient: Patient, owner: Any) -> None:
    await load.install_sandbox(owner)
    assert await patient.of("sandbox") == []
    await owner.execute("UPDATE sandbox_lease SET lease_token = 1, lease_until = now() + interval '30 seconds'")
    (finding,) = await patient.of("sandbox")
    assert (finding.verdict, "X99" in finding.found) == (Verdict.OK, True)
    await owner.execute("UPDATE agency SET sample = false; UPDATE service SET sample = false")
    (finding,) = await patient.of("sandbox")
    assert finding.verdict is Verdict.WARNING
    assert "HOSO24_SANDBOX=off" in finding.next_step
    await owner.execute("UPDATE sandbox_lease SET lease_until = now()")  # its intake was stopped
    assert await patient.of("sandbox") == []


async def test_paused_webhooks_are_told_with_whose_they_are(patient: Patient, database: Database, owner: Any) -> None:
    assert (await patient.one("webhooks")).found == "no client has one"
    add = """
    INSERT INTO webhook (id, client, url, state, epoch, xid, seq)
    VALUES ($1, $2, 'https://partner.example/', $3, 1, '0', 0)
    """
    for client in ("so-mau", "so-khac"):
        await new_client(database, client)
    await owner.execute(add, "aaaaaaaa", "so-mau", "active")
    finding = await patient.one("webhooks")
    assert (finding.verdict, finding.found) == (Verdict.OK, "1 active")
    await owner.execute(add, "bbbbbbbb", "so-khac", "paused")
    finding = await patient.one("webhooks")
    assert (finding.verdict, finding.found) == (Verdict.WARNING, "1 active, 1 paused; paused are those of so-khac")
    await owner.execute("UPDATE client SET disabled_at = now() WHERE id = 'so-khac'")
    assert (await patient.one("webhooks")).verdict is Verdict.OK


# -- all together ------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(reaper: Reaper) -> Iterator[tuple[ReplicatedPostgres, ReplicatedPostgres, ValkeyServer]]:
    """A primary, its standby and a Valkey."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-healthy-"))
    directory.chmod(0o755)
    own = NO_FSYNC | {"max_prepared_transactions": "2"}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        primary = stack.enter_context(ReplicatedPostgres.start(directory / "one", settings=own, reaper=reaper))
        second = ReplicatedPostgres.start_standby(directory / "two", primary, settings=own, reaper=reaper)
        standby = stack.enter_context(second)
        valkey = stack.enter_context(ValkeyServer.start(directory / "valkey", reaper=reaper))
        yield primary, standby, valkey


async def test_healthy_house_has_nothing_to_say_and_one_that_hangs_is_told_of(
    healthy: tuple[ReplicatedPostgres, ReplicatedPostgres, ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby, valkey = healthy
    patient = Patient(await prepare(primary.admin_url, "hoso24"), valkey.url)
    async with patient.superuser() as connection:
        # Nothing is left out for speed any more from here on, and commits wait for the standby.
        for setting in ("fsync = on", "full_page_writes = on", "synchronous_standby_names = 'ANY 1 (*)'"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
    await count_figures(patient.database)
    both = f"{patient.database.reader_url.removesuffix('/hoso24')},127.0.0.1:{standby.port}/hoso24"
    async with relay_of(patient.database, valkey.url):
        findings: list[Finding] = []

        async def quiet() -> bool:
            findings[:] = await patient.examined(HOSO24_PG_READER_URL=both)
            return exit_status(findings) == 0

        with contextlib.suppress(AssertionError):
            await until(quiet, within=60)
        assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []
        assert {finding.found.split(",")[1] for finding in findings if finding.check.endswith("as reader")} == {
            " the primary",
            " a standby",
        }
        async with patient.superuser() as connection:
            await connection.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'")
        monkeypatch.setattr(postgres_checks, "WRITING_REMARKED", -1.0)
        open_now = await patient.of("oldest writing transaction")
        (finding,) = [finding for finding in open_now if "prepared transaction forgotten" in finding.found]
        assert finding.verdict is Verdict.WARNING
        assert "ROLLBACK PREPARED 'forgotten'" in finding.next_step
        await patient.mended(finding)

    monkeypatch.setattr(checks, "SERVER_DEADLINE", HANGS)
    pause(primary)
    pause(valkey)
    try:
        findings = await patient.examined()
    finally:
        resume(primary)
        resume(valkey)
    assert exit_status(findings) == 2
    by_check = {finding.check: finding for finding in findings}
    for check in ("postgres as reader", "postgres as writer", "postgres as relay", "postgres as owner", "redis"):
        assert by_check[check].verdict is Verdict.WRONG
        assert "no answer in time" in by_check[check].found


async def test_servers_that_are_away_are_findings_and_so_is_what_could_not_be_examined() -> None:
    nowhere = {role: f"postgresql://{role}:x@127.0.0.1:1/hoso24" for role in ROLES}
    patient = Patient(SimpleNamespace(url=nowhere.__getitem__), "redis://127.0.0.1:1/0")  # type: ignore[arg-type]
    findings = await patient.examined()
    assert exit_status(findings) == 2
    skipped = " ".join(finding.found for finding in findings if finding.check == NOT_EXAMINED)
    for check in ("migrations", "roles", "role settings", "grants", "epoch", "heartbeat", "stream", "relay", "log"):
        assert check in skipped
    assert {finding.check for finding in findings if "cannot be reached" in finding.found} == {
        "redis",
        *(f"postgres as {role.removeprefix('hoso24_')}" for role in ROLES),
    }


async def test_wrong_password_is_told_from_an_absent_server(patient: Patient) -> None:
    url = patient.database.writer_url.replace(":hoso24_writer@", ":wrong@")
    finding = await patient.one("postgres as writer", HOSO24_PG_WRITER_URL=url)
    assert finding.verdict is Verdict.WRONG
    assert "password authentication failed" in finding.found
    assert "wrong@" not in finding.found


async def test_role_of_another_is_found(patient: Patient) -> None:
    finding = await patient.one("postgres as reader", HOSO24_PG_READER_URL=patient.database.owner_url)
    assert finding.verdict is Verdict.WRONG
    assert "as hoso24_owner" in finding.found


def test_command_ends_with_the_worst_verdict_and_speaks_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoso24, "environment", dict)
    result = CliRunner().invoke(hoso24.cli, ["doctor", "--json"])
    document = json.loads(result.output)
    assert result.exit_code == 2
    assert document["verdict"] == "wrong"
    assert "HOSO24_PG_READER_URL" in document["findings"][0]["found"]


# -- settings ----------------------------------------------------------------------------------------------


async def test_settings_are_examined_of_those_processes_that_are_set_up_here(patient: Patient) -> None:
    del patient.environ["HOSO24_PG_OWNER_URL"]
    findings = await patient.examined(HOSO24_SOFT_AGE="soon", HOSO24_PG_READR_URL="x")
    by_check = {finding.check: finding for finding in findings}
    assert by_check["settings of lookup"].verdict is Verdict.WRONG
    assert "HOSO24_SOFT_AGE" in by_check["settings of lookup"].found
    assert by_check["settings of intake"].verdict is by_check["settings of relay"].verdict is Verdict.OK
    assert "settings of migration" not in by_check
    assert by_check["settings"].verdict is Verdict.WARNING
    assert "Did you mean HOSO24_PG_READER_URL?" in by_check["settings"].found


async def test_secret_that_everybody_may_read_is_found(patient: Patient, tmp_path: Path) -> None:
    secret = tmp_path / "redis-url"
    secret.write_text(patient.environ.pop("HOSO24_REDIS_URL"))
    secret.chmod(0o644)
    assert (await patient.one("HOSO24_REDIS_URL_FILE", HOSO24_REDIS_URL_FILE=str(secret))).verdict is Verdict.WARNING
    secret.chmod(0o440)
    assert (await patient.one("HOSO24_REDIS_URL_FILE", HOSO24_REDIS_URL_FILE=str(secret))).verdict is Verdict.OK
    finding = await patient.one("settings of lookup", HOSO24_REDIS_URL_FILE=str(tmp_path / "absent"))
    assert finding.verdict is Verdict.WRONG
    assert "cannot be read" in finding.found


async def test_public_address_without_tls_matters_off_this_machine(patient: Patient) -> None:
    for url, verdict in {"http://127.0.0.1:8080": Verdict.OK, "http://tra-cuu.example": Verdict.WARNING}.items():
        assert (await patient.one("public address", HOSO24_PUBLIC_URL=url)).verdict is verdict


async def test_site_that_names_no_owner_is_found(patient: Patient) -> None:
    assert (await patient.one("site", HOSO24_PUBLIC_URL="http://tra-cuu.example")).verdict is Verdict.WARNING


# -- roles, grants, migrations -----------------------------------------------------------------------------


async def test_fresh_database_has_exactly_the_grants_its_migrations_name(patient: Patient, owner: Any) -> None:
    assert (await patient.asked("grants"))[0].verdict is Verdict.OK
    columns: dict[str, list[str]] = {}
    for row in await owner.fetch(grants.COLUMNS):
        columns.setdefault(row["table"], []).append(row["column"])
    assert grants.held(await owner.fetch(grants.HELD, list(ROLES[1:]))) == grants.by_column(grants.expected(), columns)


GRANTS = {
    "GRANT SELECT (applicant_name) ON dossier TO hoso24_reader": "SELECT on dossier.applicant_name",
    "GRANT SELECT (subject) ON dossier TO hoso24_reader": "SELECT on dossier.subject",
    "GRANT SELECT (applicant_id) ON dossier_07 TO hoso24_reader": "SELECT on dossier_07.applicant_id",
    "GRANT SELECT ON dossier TO hoso24_reader": "SELECT on dossier, SELECT on dossier.applicant_address",
    "GRANT SELECT ON dossier TO PUBLIC": "public has more than it should: SELECT on dossier,",
    "GRANT SELECT ON event TO hoso24_reader": "SELECT on event",
    "GRANT DELETE, UPDATE ON event TO hoso24_writer": "DELETE on event, UPDATE on event",
    "REVOKE SELECT ON epoch FROM hoso24_writer": "hoso24_writer lacks SELECT on epoch",
    "REVOKE SELECT (timeline) ON dossier FROM hoso24_reader": "hoso24_reader lacks SELECT on dossier.timeline",
}


async def test_grants_too_many_and_too_few_are_found_and_mended_by_what_is_said(patient: Patient, owner: Any) -> None:
    for grant, named in GRANTS.items():
        await owner.execute(grant)
        (finding,) = await patient.asked("grants")
        assert finding.verdict is Verdict.WRONG, grant
        assert named in finding.found, grant
        await patient.mended(finding)
        assert (await patient.asked("grants"))[0].verdict is Verdict.OK, grant


async def test_role_that_belongs_to_a_mightier_one_is_found(patient: Patient) -> None:
    async with patient.superuser() as connection:
        await connection.execute("GRANT pg_read_all_data TO hoso24_reader; ALTER ROLE hoso24_relay CREATEROLE")
        try:
            findings = await patient.examined()
        finally:
            await connection.execute("REVOKE pg_read_all_data FROM hoso24_reader; ALTER ROLE hoso24_relay NOCREATEROLE")
    found = {finding.found: finding for finding in findings if finding.check == "roles"}
    assert "`REVOKE pg_read_all_data FROM hoso24_reader`" in found["hoso24_reader is a member of pg_read_all_data"][3]
    assert found["hoso24_relay is CREATEROLE"].verdict is Verdict.WRONG
    assert any("dossier.applicant_name" in finding.found for finding in findings if finding.check == "grants")


async def test_table_of_another_owner_is_found(patient: Patient) -> None:
    async with patient.superuser() as connection:
        await connection.execute("ALTER TABLE hoso24.client OWNER TO CURRENT_USER")
    (finding,) = await patient.asked("roles")
    assert "client belongs to" in finding.found
    await patient.mended(finding)
    assert (await patient.asked("roles"))[0].verdict is Verdict.OK


async def test_relay_that_may_not_end_a_readers_session_is_reported_with_the_grant(patient: Patient) -> None:
    for statement in ("REVOKE hoso24_reader FROM hoso24_relay", "GRANT hoso24_reader TO hoso24_relay WITH SET TRUE"):
        async with patient.superuser() as connection:
            await connection.execute(statement)
            try:
                (finding,) = [each for each in await patient.asked("roles") if each.verdict is not Verdict.OK]
            finally:
                await connection.execute("GRANT hoso24_reader TO hoso24_relay WITH INHERIT TRUE, SET FALSE")
        assert finding.verdict is Verdict.WARNING
        assert "`GRANT hoso24_reader TO hoso24_relay WITH INHERIT TRUE, SET FALSE`" in finding.next_step
    assert [each.verdict for each in await patient.asked("roles")] == [Verdict.OK]


async def test_functions_open_to_every_role_are_reported_and_ones_that_a_role_lacks(patient: Patient) -> None:
    assert [each.verdict for each in await patient.asked("functions")] == [Verdict.OK]
    async with patient.superuser() as connection:
        await connection.execute("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC")
        (finding,) = await patient.asked("functions")
        assert (finding.verdict, finding.found) == (Verdict.WARNING, "every role may use lo_create(oid)")
        await connection.execute("REVOKE EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) FROM hoso24_relay")
        findings = await patient.asked("functions")
    assert [each.verdict for each in findings] == [Verdict.WRONG, Verdict.WARNING]
    assert "`GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) TO hoso24_relay`" in findings[0].next_step


async def test_function_of_ours_that_is_open_to_every_role_is_found_and_closed_by_what_is_said(
    patient: Patient, owner: Any
) -> None:
    await owner.execute("GRANT EXECUTE ON FUNCTION vietnam_time(timestamptz) TO PUBLIC")
    (finding,) = await patient.asked("functions")
    assert finding.verdict is Verdict.WRONG
    assert "vietnam_time(" in finding.found
    await patient.mended(finding)
    assert [each.verdict for each in await patient.asked("functions")] == [Verdict.OK]


async def test_timeouts_of_roles_are_held_against_roles_sql(patient: Patient) -> None:
    name = patient.database.name
    assert (await patient.asked("role settings"))[0].verdict is Verdict.OK
    async with patient.superuser() as connection:
        await connection.execute(f"ALTER ROLE hoso24_relay IN DATABASE {name} SET idle_session_timeout = '10min'")
        await connection.execute(f"ALTER ROLE hoso24_reader IN DATABASE {name} SET transaction_timeout = '5000ms'")
        await connection.execute("ALTER ROLE hoso24_writer RESET transaction_timeout")
        try:
            findings = await patient.asked("role settings")
        finally:
            await connection.execute("ALTER ROLE hoso24_writer SET transaction_timeout = '10s'")
            await connection.execute(f"ALTER ROLE hoso24_relay IN DATABASE {name} RESET ALL")
    assert [(finding.verdict, finding.found) for finding in findings] == [
        (Verdict.WRONG, "hoso24_writer has no transaction_timeout"),
        (Verdict.WARNING, "hoso24_relay has idle_session_timeout = 10min; roles.sql sets 3s"),
    ]


async def test_database_of_before_is_told_from_one_that_lacks_migrations(patient: Patient, owner: Any) -> None:
    await owner.execute("UPDATE schema_version SET name = '0003_event' WHERE version = 3")
    (finding,) = await patient.asked("migrations")
    assert finding.verdict is Verdict.WRONG
    assert "0003_event" in finding.found
    assert "nothing of it can be taken over" in finding.found


async def test_migrations_missing_lost_and_newer_are_found(patient: Patient, owner: Any) -> None:
    assert (await patient.asked("migrations"))[0].verdict is Verdict.OK
    newest = schema.migrations()[-1][1]
    await owner.execute("DELETE FROM schema_version WHERE version = $1", schema.LATEST)
    (finding,) = await patient.asked("migrations")
    assert (finding.verdict, finding.found) == (Verdict.WRONG, f"missing: {newest}")
    assert "`hoso24 migrate`" in finding.next_step
    await owner.execute("DELETE FROM schema_version WHERE version = 3")
    await owner.execute("INSERT INTO schema_version (version, name) VALUES (9000, '9000_of_tomorrow')")
    lost, newer = await patient.asked("migrations")
    assert lost.verdict is Verdict.WRONG
    assert "0003_log" in lost.found
    assert newer.verdict is Verdict.WARNING
    assert "9000_of_tomorrow" in newer.found
    await owner.execute("INSERT INTO schema_version (version, name) VALUES (9001, '9001_contract_9000_gone')")
    _, unusable = await patient.asked("migrations")
    assert unusable.verdict is Verdict.WRONG  # as this release's start would say
    assert unusable.found.endswith("and migration 9000 has taken away what it uses: it does not start")
    await owner.execute("CREATE TABLE of_tomorrow (x int); GRANT SELECT ON of_tomorrow TO hoso24_reader")
    assert (await patient.asked("grants"))[0].verdict is Verdict.OK  # of a newer release, not of this one to judge
    await owner.execute("GRANT SELECT (applicant_phone) ON dossier TO hoso24_reader")
    assert (await patient.asked("grants"))[0].verdict is Verdict.WRONG


async def test_catalogue_that_is_missing_or_over_or_without_next_years_holidays_is_found(
    patient: Patient, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = await patient.asked("catalogue")
    assert (finding.verdict, finding.found.startswith("the sample, for trial only.")) == (Verdict.OK, True)
    monkeypatch.setattr(doctor, "datetime", SimpleNamespace(now=lambda zone: datetime(2026, 10, 1, tzinfo=zone)))
    await owner.execute("UPDATE agency SET sample = false; UPDATE service SET sample = false")
    ok, warning = await patient.asked("catalogue")
    assert (ok.verdict, warning.verdict) == (Verdict.OK, Verdict.WARNING)
    assert warning.found == "the holidays of 2027 in calendar vn 2026.1 are not confirmed"
    await owner.execute("UPDATE service SET valid_to = '2026-10-01'")
    assert Verdict.WRONG in [each.verdict for each in await patient.asked("catalogue")]
    await owner.execute("UPDATE agency SET sandbox = true")  # no office is among them
    assert [each.found for each in await patient.asked("catalogue")] == ["none is loaded: no dossier can be received"]
    await owner.execute("TRUNCATE service_time, service, agency CASCADE")
    (finding,) = await patient.asked("catalogue")
    assert finding.verdict is Verdict.WRONG
    assert "hoso24 catalogue load DIR" in finding.next_step


async def test_database_without_our_schema_is_found(patient: Patient) -> None:
    async with patient.superuser() as connection:
        await connection.execute("DROP SCHEMA hoso24 CASCADE")
    assert (await patient.asked("migrations"))[0].found == "this database has no schema of ours"


# -- relay, epochs, stream ---------------------------------------------------------------------------------


async def test_house_without_a_relay_is_told_so_until_one_leads(patient: Patient, owner: Any) -> None:
    await owner.execute("UPDATE heartbeat SET at = at - interval '1 minute'")  # a new schema's is of just now
    for check in ("relay", "heartbeat", "epoch", "stream"):
        assert (await patient.one(check)).verdict is Verdict.WRONG, check
    async with relay_of(patient.database, patient.redis_url):

        async def well() -> bool:
            findings = {finding.check: finding.verdict for finding in await patient.examined()}
            return all(findings[check] is Verdict.OK for check in ("relay", "heartbeat", "epoch", "stream", "log"))

        await until(well)


async def test_second_epoch_is_found(patient: Patient, owner: Any) -> None:
    await owner.execute(schema.NEW_EPOCH, "a test")
    async with redis.asyncio.Redis.from_url(patient.redis_url, protocol=2) as client:
        for delivered, found in ((1, "epoch 2, Redis still in 1"), (9, "epoch 2, Redis in 9 already")):
            await client.set("epoch:v1", delivered)
            (finding,) = await patient.asked("epoch")
            assert (finding.verdict, finding.found) == (Verdict.WRONG, f"PostgreSQL is in {found}")
            assert "hoso24 cache renew" in finding.next_step


async def test_stream_behind_and_stream_the_log_does_not_know_are_found(patient: Patient, owner: Any) -> None:
    async with redis.asyncio.Redis.from_url(patient.redis_url, protocol=2) as client:
        await client.xadd("changes:v1:1", {"prev": ""}, "999999999999-5")
        await client.set("feed:v1:1", "1000000 999999999999-5")
        stream, log = await patient.one("stream"), await patient.one("log")
    assert stream.verdict is Verdict.WRONG
    assert "s behind the heartbeat" in stream.found
    assert log.verdict is Verdict.WRONG
    assert "the stream ends with 999999999999-5" in log.found
    assert "hoso24 cache lost" in log.next_step


# -- PostgreSQL and Redis themselves -----------------------------------------------------------------------


async def test_transaction_that_holds_the_feed_back_is_found_whoever_s_it_is(
    patient: Patient, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_checks, "SECOND_LOOK", 0.01)
    monkeypatch.setattr(postgres_checks, "WRITING_REMARKED", 0.0)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("SELECT pg_current_xact_id()")
    ours = await _of_process(patient, writer.get_server_pid())
    assert ours.verdict is Verdict.WARNING
    assert "of hoso24_writer" in ours.found
    assert "at least" not in ours.found
    monkeypatch.setattr(postgres_checks, "WRITING_WRONG", 0.0)
    assert (await _of_process(patient, writer.get_server_pid())).verdict is Verdict.WRONG
    await transaction.rollback()
    async with patient.superuser("postgres") as stranger, stranger.transaction():
        await stranger.execute("SELECT pg_current_xact_id()")
        theirs = await _of_process(patient, stranger.get_server_pid())
        assert "at least" in theirs.found  # since when is hidden from our roles
        assert theirs.verdict is not Verdict.OK


async def _of_process(patient: Patient, pid: int) -> Finding:
    findings = await patient.of("oldest writing transaction")
    (finding,) = [finding for finding in findings if f"process {pid} " in finding.found]
    return finding


async def test_commits_that_do_not_last_are_found(patient: Patient) -> None:
    # The tests' own server writes nothing to disk in time, for speed, and has no standby.
    durability, standby = await patient.one("durability"), await patient.one("synchronous standby")
    assert (durability.verdict, standby.verdict) == (Verdict.WRONG, Verdict.WARNING)
    assert "fsync is off" in durability.found
    assert "synchronous_standby_names" in standby.next_step


async def test_clock_that_differs_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    assert (await patient.one("clock")).verdict is Verdict.OK
    for seconds, verdict in ((-10, Verdict.WARNING), (300, Verdict.WRONG)):
        changed = SimpleNamespace(time=lambda by=seconds: time.time() + by, monotonic=time.monotonic)
        monkeypatch.setattr(postgres_checks, "time", changed)
        finding = await patient.one("clock")
        assert finding.verdict is verdict
        assert ("ahead of" if seconds < 0 else "behind") in finding.found


REDIS_SETTINGS = (
    ("maxmemory-policy", "allkeys-lru", "redis policy", Verdict.WRONG),
    ("maxmemory-policy", "noeviction", "redis policy", Verdict.WRONG),
    ("maxmemory-policy", "volatile-ttl", "redis policy", Verdict.WARNING),
    ("maxmemory", "0", "redis memory", Verdict.WARNING),
    ("maxmemory", "1mb", "redis memory", Verdict.WARNING),
)


@pytest.fixture
def own_valkey(reaper: Reaper) -> Iterator[str]:
    """A Valkey of this test's own."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-valkey-"))
    directory.chmod(0o755)
    with ValkeyServer.start(directory / "valkey", reaper=reaper) as server:
        yield server.url
    shutil.rmtree(directory, ignore_errors=True)


async def test_redis_set_otherwise_and_redis_that_is_a_replica_are_found(own_valkey: str) -> None:
    client = redis.asyncio.Redis.from_url(own_valkey, protocol=2, decode_responses=True)

    async def found(check: str) -> Finding:
        findings: list[Finding] = await hoso24.examine_house({"HOSO24_REDIS_URL": own_valkey})
        return next(finding for finding in findings if finding.check == check)

    for name, value, check, verdict in REDIS_SETTINGS:
        before = str((await client.config_get(name))[name])
        assert (await found(check)).verdict is Verdict.OK, name
        await client.config_set(name, value)
        finding = await found(check)
        assert finding.verdict is verdict, value
        assert "rite `maxmemory" in finding.next_step or "larger `maxmemory`" in finding.next_step, value
        assert "CONFIG SET" not in finding.next_step
        await client.config_set(name, before)
    await client.replicaof("127.0.0.1", "1")
    await client.aclose()
    role = await found("redis role")
    assert role.verdict is Verdict.WRONG
    assert "a replica of 127.0.0.1" in role.found


class Told:
    """A Redis that says of itself what a test lets it say."""

    def __init__(self, **told: Any) -> None:
        usual = {"redis_version": "7.2.4", "role": "master", "used_memory": 1, "maxmemory": 100}
        self.told = {"maxmemory_policy": "volatile-lru"} | usual | told

    async def run(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        async def info(_: str) -> dict[str, Any]:
            return self.told

        return await command(SimpleNamespace(info=info))


@pytest.mark.parametrize(
    ("told", "check"),
    [
        ({"redis_version": "6.0.16"}, "redis"),
        ({"rdb_last_bgsave_status": "err"}, "redis saving"),
        ({"aof_last_write_status": "err"}, "redis saving"),
    ],
)
async def test_redis_too_old_and_redis_that_cannot_save_are_found(told: dict[str, Any], check: str) -> None:
    for changes, verdicts in (({}, {Verdict.OK}), (told, {Verdict.OK, Verdict.WRONG})):
        server: Any = Told(**changes)
        (ask,) = redis_checks.redis(server, policy="volatile-lru", oldest=(6, 2))
        async with asyncio.timeout(5):
            findings = list(await ask.ask())
        assert {finding.verdict for finding in findings} == verdicts
    assert [finding.check for finding in findings if finding.verdict is Verdict.WRONG] == [check]


async def test_redis_without_keys_to_read_only_is_a_warning() -> None:
    for version, verdict in {"6.2.14": Verdict.WARNING, "7.0.15": Verdict.OK}.items():
        server: Any = Told(redis_version=version)
        (ask,) = redis_checks.redis(server, policy="volatile-lru", oldest=(6, 2))
        async with asyncio.timeout(5):
            (finding,) = [each for each in await ask.ask() if each.check == "redis"]
        assert finding.verdict is verdict

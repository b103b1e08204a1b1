"""The command as people type it: what it does, what it prints, and its exit status, for good input and for bad.

`hoso24 up` is tested in tests/system/test_up.py, the doctor in tests/test_doctor.py, `hoso24 metrics` in
tests/test_metrics.py.
"""

import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio

import hoso24
from intake.books.checkpoint import Signer
from intake.dialects import REASONS
from intake.local import sample
from intake.partners.letters import RefusedLine, keep
from lookup import schema
from lookup.clock import VIETNAM
from ops.local.valkey import ValkeyServer
from tests.conftest import KEY_SECRETS, ROLES, SEAL_KEYS, WEBHOOK_SECRET, Database
from tests.house import ADD_SANDBOX, AGENCY, intake_at, intake_settings, submission

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNTIL = "2026-11-20"
VKEY = Signer("hoso24.example/books", bytes(32)).key.text
AWAY = {
    **{f"HOSO24_PG_{role}_URL": f"postgresql://hoso24_{role.lower()}:geheim@127.0.0.1:1/hoso24"
       for role in ("OWNER", "WRITER", "RELAY", "READER", "NOTARY", "AUDITOR", "ARCHIVIST", "WEBHOOKS",
                    "FIGURES")},
    "HOSO24_REDIS_URL": "redis://:geheim@127.0.0.1:1/0",
    "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
    "HOSO24_SEAL_KEYS": SEAL_KEYS,
    "HOSO24_WEBHOOK_SECRET": WEBHOOK_SECRET,
}  # fmt: skip
"""Servers that are not there."""


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """What a command that could not do what it was asked ends with: no traceback, no password."""
        assert self.status in {1, 2}, self
        assert "Traceback" not in self.out + self.err
        assert "geheim" not in self.out + self.err
        return self.err.strip().splitlines()[-1]


class House:
    """A prepared database, an intake on it, and the directory in which `hoso24 up` would have started both."""

    def __init__(self, directory: Path, database: Database, redis_url: str, intake: str, owner: Any) -> None:
        self.directory = directory
        self.database = database
        self.intake = intake
        self.owner = owner
        urls = {f"HOSO24_PG_{role.removeprefix('hoso24_').upper()}_URL": database.url(role) for role in ROLES}
        secrets = {"HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS, "HOSO24_SEAL_KEYS": SEAL_KEYS}
        secrets["HOSO24_WEBHOOK_SECRET"] = WEBHOOK_SECRET
        self.environ = urls | secrets | {"HOSO24_REDIS_URL": redis_url}

    async def run(self, *words: str, cwd: Path | None = None, **environ: str) -> Ran:
        """`hoso24 WORDS` in this directory, without any variable of ours but those."""
        return await asyncio.to_thread(run, cwd or self.directory, words, environ)

    async def send(self, method: str, path: str, token: str, content: Any = None) -> tuple[int, Any]:
        """A request to the intake under that token."""
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.intake + path, json=content, headers=headers) as response,
        ):
            return response.status, await response.json()

    async def client(self, name: str, *options: str, agency: str = "G99") -> str:
        """A new client's token."""
        ran = await self.run("client", "add", name, "--name", "Quầy mẫu", "--agency", agency, *options)
        assert (ran.status, ran.err) == (0, "")
        return ran.out.strip()


def run(cwd: Path, words: tuple[str, ...], environ: dict[str, str]) -> Ran:
    """The command in this process, as a process of its own would run it; only one at a time."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HOSO24_")]:
            patch.delenv(name)
        for name, value in {"COLUMNS": "200", **environ}.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["hoso24", *words])
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            try:
                hoso24.main()
                status: Any = 0
            except SystemExit as end:
                status = end.code or 0
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
    out, err = (stream.buffer.getvalue().decode(errors="backslashreplace") for stream in streams)
    return Ran(status, out, err)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    template: Database, redis_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """One for all tests of this file; none leaves behind what another would trip over."""
    directory = tmp_path_factory.mktemp("house")
    (directory / ".hoso24").mkdir()
    admin = await asyncpg.connect(template.admin_url)
    await admin.execute(f"CREATE DATABASE commands TEMPLATE {template.name} OWNER hoso24_owner STRATEGY file_copy")
    database = Database("commands", template.admin_url)
    owner = await asyncpg.connect(database.owner_url)
    async with (
        redis.asyncio.Redis.from_url(redis_server.url, protocol=2) as client,
        intake_at(intake_settings(database.writer_url)) as intake,
    ):
        await client.flushall()
        house = House(directory, database, redis_server.url, intake, owner)
        environ = "".join(f"{name}={value}\n" for name, value in house.environ.items())
        (directory / ".hoso24" / "environ").write_text(environ)
        (directory / ".hoso24" / "up.json").write_text("{}")
        yield house
    await owner.close()
    await admin.execute("DROP DATABASE commands WITH (FORCE)")
    await admin.close()


# -- what every command has in common ----------------------------------------------------------------------

AT_SERVERS = [
    ("migrate", "HOSO24_PG_OWNER_URL"),
    ("cache renew --reason x", "HOSO24_PG_OWNER_URL"),
    ("cache lost", "HOSO24_PG_RELAY_URL"),
    ("client add office --name x --agency G99", "HOSO24_PG_OWNER_URL"),
    ("client list", "HOSO24_PG_OWNER_URL"),
    ("dossier key G99.01.01-261120-0001", "HOSO24_PG_WRITER_URL"),
    ("dossier owner G99.01.01-261120-0001 none", "HOSO24_PG_WRITER_URL"),
    ("dossier remove G99.01.01-261120-0001 --reason x", "HOSO24_PG_WRITER_URL"),
    ("deadletters list", "HOSO24_PG_WRITER_URL"),
    ("deadletters show 1", "HOSO24_PG_WRITER_URL"),
    ("deadletters replay 1", "HOSO24_PG_WRITER_URL"),
    ("overdue", "HOSO24_PG_WRITER_URL"),
    ("tidy", "HOSO24_PG_ARCHIVIST_URL"),
    ("retention --dry-run", "HOSO24_PG_ARCHIVIST_URL"),
    ("hold list", "HOSO24_PG_ARCHIVIST_URL"),
    ("person export --id 079000000742", "HOSO24_PG_WRITER_URL"),
    ("figures", "HOSO24_PG_FIGURES_URL"),
    ("maintenance list", "HOSO24_PG_WRITER_URL"),
    ("maintenance withdraw 1 --reason x", "HOSO24_PG_WRITER_URL"),
    ("import dossiers.ndjson", "HOSO24_PG_WRITER_URL"),
]
"""The commands that talk to servers and end; the setting without which they cannot."""


@pytest.mark.parametrize(
    ("words", "setting"),
    [*AT_SERVERS, ("why G99.01.01-261120-0001", "HOSO24_PG_READER_URL"), ("lookup", "HOSO24_PG_READER_URL"),
     ("intake", "HOSO24_PG_WRITER_URL"), ("relay", "HOSO24_PG_RELAY_URL")],
)  # fmt: skip
async def test_missing_setting_is_named(house: House, tmp_path: Path, words: str, setting: str) -> None:
    (tmp_path / "dossiers.ndjson").touch()
    ran = await house.run(*words.split(), cwd=tmp_path)
    assert ran.status == 1
    assert setting in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("words", "setting"), AT_SERVERS)
async def test_server_that_is_away_is_a_sentence(house: House, tmp_path: Path, words: str, setting: str) -> None:
    (tmp_path / "dossiers.ndjson").touch()
    ran = await house.run(*words.split(), cwd=tmp_path, **AWAY)
    assert re.search("postgres|database|redis", ran.refusal, re.IGNORECASE), ran


@pytest.mark.parametrize(("words", "setting"), AT_SERVERS[1:])
async def test_database_without_a_schema_is_a_sentence(house: House, tmp_path: Path, words: str, setting: str) -> None:
    (tmp_path / "dossiers.ndjson").touch()
    roles = {name: url.replace("/commands", "/postgres") for name, url in house.environ.items()}
    assert "hoso24 migrate" in (await house.run(*words.split(), cwd=tmp_path, **roles)).refusal


@pytest.mark.parametrize("words", ["nonsense", "audit nonsense", "client add", "cache renew", "why", "import nowhere"])
async def test_what_is_no_command_is_refused_with_its_usage(house: House, words: str) -> None:
    ran = await house.run(*words.split())
    assert ran.status == 2
    assert "Usage: " in ran.err
    assert ran.out == ""


async def test_version_is_told(house: House) -> None:
    ran = await house.run("--version")
    assert (ran.status, ran.err) == (0, "")
    assert re.fullmatch(r"hoso24, version \d+\.\d+\.\d+\n|.*, version \d+\.\d+\.\d+\n", ran.out)


# -- what is late ----------------------------------------------------------------------------------------


async def test_what_is_overdue_is_listed_and_told_by_the_exit_status(house: House) -> None:
    token = await house.client("late-1")
    _, answer = await house.send("POST", "/api/v1/dossiers", token, submission())
    code, due = answer["code"], answer["due_at"]
    day = datetime.fromisoformat(due)
    on_time = await house.run("overdue", "--on", f"{day:%Y-%m-%d}", "--agency", AGENCY)
    assert on_time.status == 0, on_time
    assert f"today\t{due[:16]}+07:00\t{code}\t{AGENCY}\ttask 1, work\n" in on_time.out
    assert f"apology\t{due[:16]}+07:00\t{code}\t{AGENCY}\tput off with an apology\n" in on_time.out
    late = await house.run("overdue", "--on", f"{day + timedelta(days=1):%Y-%m-%d}")
    assert late.status == 3
    assert f"late\t{due[:16]}+07:00\t{code}\t" in late.out
    assert re.search(r"^At \d{4}-\d\d-\d\d 00:00: 0 undecided, \d+ late, ", late.err)
    assert (await house.run("overdue", "--agency", "G12")).refusal == "Error: There is no agency G12."


# -- the books -------------------------------------------------------------------------------------------


async def test_log_that_is_as_it_was_written_verifies_against_its_rows(house: House, tmp_path: Path) -> None:
    await imported(house, tmp_path, "20260101", 30)
    ran = await house.run("audit", "verify")
    assert ran.status == 0, ran
    assert re.search(
        r"^[\d,]+ events, [\d,]+ dossiers: nothing was altered\. Without --books only rows were", ran.out, re.M
    )


async def test_row_that_was_tampered_with_is_told_in_a_line(house: House, tmp_path: Path) -> None:
    await imported(house, tmp_path, "20260101", 30)
    code = await house.owner.fetchval("SELECT code FROM dossier WHERE version > 2 ORDER BY code LIMIT 1")
    try:
        await house.owner.execute("UPDATE dossier SET supplements = 77 WHERE code = $1", code)
        ran = await house.run("audit", "verify")
    finally:
        await house.owner.execute("UPDATE dossier SET supplements = 0 WHERE code = $1", code)
    assert ran.status == 1, ran
    assert f"{code}: supplements is 77, the log says 0.\n" in ran.out
    assert " dossiers: 1 finding. Without" in ran.out
    assert (await house.run("audit", "verify")).status == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("verify", "PostgreSQL cannot be used: "),
        ("reads --from 2026-11-01 --to 2026-11-30", "PostgreSQL cannot be used: "),
        (f"prove G99.01.01-261120-0001 1 --books . --key {VKEY}", "PostgreSQL cannot be used: "),
        (f"verify --key {VKEY} --checkpoint up.json", "PostgreSQL cannot be used: "),
        ("prove G99.01.01-261120-0001 1", "Error: Give --books and --key."),
        ("check up.json", "Error: Give --key."),
        ("watch http://127.0.0.1:1/books --state s", "Error: Give --key."),
        (
            f"watch http://127.0.0.1:1/books --state s --key {VKEY}",
            "http://127.0.0.1:1/books/checkpoint cannot be read: ",
        ),
        ("verify --key nonsense", "Error: --key: a verifier key is written name+id+base64"),
    ],
)
async def test_what_the_books_cannot_tell_is_a_sentence_and_status_2(
    house: House, tmp_path: Path, words: str, sentence: str
) -> None:
    (tmp_path / "up.json").touch()
    ran = await house.run("audit", *words.split(), cwd=tmp_path, **AWAY)
    assert ran.status == 2, ran
    assert sentence in ran.err
    assert "Traceback" not in ran.err
    assert "geheim" not in ran.err


async def test_proof_that_does_not_hold_is_status_1(house: House, tmp_path: Path) -> None:
    (tmp_path / "x.tlog-proof").write_bytes(b"nonsense")
    ran = await house.run("audit", "check", "x.tlog-proof", "--key", VKEY, cwd=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("The file is no proof: it does not begin with c2sp.org/tlog-proof@v1")


async def test_reads_are_listed_by_day_and_dossier(house: House) -> None:
    rows = [("2026-11-20T16:59:59Z", "G99-261120-0001"), ("2026-11-20T17:00:00Z", "G99-261120-0002")]
    for at, code in rows:
        await house.owner.execute(
            "INSERT INTO personal_read VALUES ($1, 'Cán bộ Mẫu', 'desk', $2, 'dossier')",
            datetime.fromisoformat(at),
            code,
        )
    ran = await house.run("audit", "reads", "--from", "2026-11-21", "--to", "2026-11-21")
    assert ran.out == "2026-11-21T00:00:00+07:00\tCán bộ Mẫu\tdesk\tG99-261120-0002\tdossier\n"
    ran = await house.run("audit", "reads", "--from", "2026-11-20", "--to", "2026-11-21", "--code", "G99-261120-0001")
    assert ran.out == "2026-11-20T23:59:59+07:00\tCán bộ Mẫu\tdesk\tG99-261120-0001\tdossier\n"


# -- clients -----------------------------------------------------------------------------------------------


async def test_client_may_do_what_it_was_given_where_it_was_given(house: House) -> None:
    token = await house.client("desk-1", "--actions", "receive,read", agency="G99.01.01")
    status, receipt = await house.send("POST", "/api/v1/dossiers", token, submission(agency="G99.01.01"))
    assert status == 201
    path = f"/api/v1/dossiers/{receipt['code']}"
    assert (await house.send("GET", path, token))[0] == 200
    for agency in ("G99.01", "G99.01.02", "G99"):
        status, refusal = await house.send("POST", "/api/v1/dossiers", token, submission(agency=agency))
        assert (status, refusal["code"]) == (403, "out_of_scope"), agency
    status, refusal = await house.send("POST", f"{path}/transitions", token, {"to": "processing"})
    assert (status, refusal["code"]) == (403, "out_of_scope")


async def test_client_may_do_everything_unless_its_actions_are_named(house: House) -> None:
    token = await house.client("desk-2")
    _, receipt = await house.send("POST", "/api/v1/dossiers", token, submission(agency="G99.01.02"))
    path = f"/api/v1/dossiers/{receipt['code']}"
    assert (await house.send("POST", f"{path}/transitions", token, {"to": "processing"}))[0] == 200
    assert (await house.send("PUT", f"{path}/official-number", token, {"number": "77777/2026/99901"}))[0] == 200
    assert (await house.send("GET", path, token))[0] == 200


async def test_client_changes_over_from_one_token_to_the_next(house: House) -> None:
    old = await house.client("desk-3", "--actions", " receive , read ", agency="G99.01.02")
    ran = await house.run("client", "token", "desk-3", "--expires", "2999-12-31")
    new = ran.out.strip()
    assert (ran.status, ran.err, old != new) == (0, "", True)
    for token in (old, new):
        assert (await house.send("POST", "/api/v1/dossiers", token, submission(agency="G99.01.02")))[0] == 201
    ran = await house.run("client", "revoke", "desk-3", "1")
    assert ran.out == "Token 1 of desk-3 is revoked; the intakes refuse it within five seconds.\n"
    ran = await house.run("client", "scope", "desk-3", "--actions", "read", "--agency", "G99.01")
    assert ran.out == "desk-3 may read at G99.01 and all below it.\n"
    assert (await house.run("client", "disable", "desk-3")).out.startswith("desk-3 is disabled; ")
    assert (await house.run("client", "enable", "desk-3")).out == "desk-3 is enabled.\n"
    shown = await house.run("client", "show", "desk-3")
    assert re.search(r"│ desk-3 +│ Quầy mẫu +│ G99.01 +│ read +│ 1 +│ revoked ", shown.out)
    assert re.search(r"│ 2 +│ in force +│ [-\d]+ [:\d]+ +│ 2999-12-31 23:59 │ [-\d]{10} ", shown.out)
    listed = await house.run("client", "list")
    assert "desk-3" in listed.out
    assert "revoked" not in listed.out


@pytest.mark.parametrize(
    ("client", "agency", "actions", "sentence"),
    [
        ("Desk 4", "G99", "receive", "1 to 40 lower-case letters"),
        ("", "G99", "receive", "1 to 40 lower-case letters"),
        ("desk-4", "G77.01", "receive", "no agency 'G77.01'"),
        ("desk-4", "G99", "receive,rule", "rule"),
        ("desk-4", "G99", "", "receive, move, bind, read"),
    ],
)
async def test_client_that_cannot_be_is_refused_in_a_sentence(
    house: House, client: str, agency: str, actions: str, sentence: str
) -> None:
    ran = await house.run("client", "add", client, "--name", "x", "--agency", agency, "--actions", actions)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert sentence in ran.err
    assert ran.out == ""
    assert not await house.owner.fetchval("SELECT count(*) FROM client WHERE id = $1", client)


async def test_client_of_the_sandbox_has_an_agency_of_the_sandbox_and_no_other_client_has(house: House) -> None:
    await house.owner.execute(ADD_SANDBOX)
    ran = await house.run("client", "add", "portal", "--name", "x", "--agency", "G99", "--sandbox")
    of_the_sandbox = "Error: Client portal is of the sandbox, and agency G99 is not; name an agency of the sandbox."
    assert (ran.status, ran.out, ran.err.strip()) == (2, "", of_the_sandbox)
    ran = await house.run("client", "add", "portal", "--name", "x", "--agency", "X99.03")
    of_the_others = (
        "Error: Client portal is not of the sandbox, and agency X99.03 is; name another one, or add a client with "
        "--sandbox."
    )
    assert (ran.status, ran.out, ran.err.strip()) == (2, "", of_the_others)
    await house.client("portal", "--sandbox", agency="X99")
    ran = await house.run("client", "scope", "portal", "--agency", "G99")
    assert (ran.status, ran.out, ran.err.strip()) == (2, "", of_the_sandbox)
    assert (await house.run("client", "scope", "portal", "--agency", "X99.03")).status == 0
    await house.client("real-desk")
    ran = await house.run("client", "scope", "real-desk", "--agency", "X99.03")
    assert (ran.status, ran.out, ran.err.strip()) == (2, "", of_the_others.replace("portal", "real-desk"))
    rows = await house.owner.fetch("SELECT id, agency FROM client WHERE id IN ('portal', 'real-desk') ORDER BY id")
    assert [tuple(row) for row in rows] == [("portal", "X99.03"), ("real-desk", "G99")]


async def test_mistake_about_a_client_is_one_sentence_and_exit_status_2(house: House) -> None:
    await house.client("desk-9")
    add = ("client", "add", "desk-9", "--name", "x", "--agency", "G99")
    for words, sentence in [
        (add, "There is a client desk-9 already"),
        ((*add[:2], "desk-6", *add[3:], "--expires", "2026-01-01"), "The token's last day, 2026-01-01, is over"),
        (("client", "show", "desk-6"), "There is no client 'desk-6'"),
        (("client", "token", "desk-6"), "There is no client 'desk-6'"),
        (("client", "revoke", "desk-9", "7"), "Client desk-9 has no token 7; it has 1."),
        (("client", "enable", "desk-9"), "Client desk-9 is enabled already"),
        (("client", "disable", "desk-6"), "There is no client 'desk-6'"),
        (("client", "scope", "desk-9", "--actions", "rule"), "There is no action 'rule'"),
    ]:
        ran = await house.run(*words)
        assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert sentence in ran.err


# -- one dossier, and what has expired ---------------------------------------------------------------------


async def test_dossier_has_a_key_a_new_one_and_an_end(house: House) -> None:
    token = await house.client("desk-7")
    _, receipt = await house.send("POST", "/api/v1/dossiers", token, submission())
    code, key = receipt["code"], receipt["lookup_key"]
    assert (await house.run("dossier", "key", code)).out == f"{key}\n"
    ran = await house.run("dossier", "key", code.lower(), "--reissue", "--by", "an", "--reason", "Mất giấy (ví dụ).")
    assert (ran.status, ran.err) == (0, "")
    new = ran.out.strip()
    assert new != key
    assert (await house.run("dossier", "key", code)).out == f"{new}\n"
    readers = await house.owner.fetch("SELECT reader, client, screen FROM personal_read WHERE code = $1", code)
    assert [tuple(row)[1:] for row in readers] == [("operator", "key")] * 3
    await house.client("so-mau", "--actions", "sync")
    ran = await house.run("dossier", "owner", code, "so-mau", "--by", "an")
    assert ran.out == f"{code} is at version 3: so-mau sets its status by synchronisation.\n"
    ran = await house.run("dossier", "owner", code, "desk-7")
    assert (ran.status, "desk-7 may not sync" in ran.refusal) == (2, True)
    ran = await house.run("dossier", "owner", code, "none")
    assert ran.out == f"{code} is at version 4: any client of its scope sets its status by synchronisation.\n"
    ran = await house.run("dossier", "remove", code, "--reason", "Hết thời hạn lưu trữ (ví dụ).")
    assert ran.out.startswith(f"{code} is removed; 5 events erased. Lookups find none ")
    ran = await house.run("dossier", "remove", code, "--reason", "x")
    assert ran.out.startswith(f"{code} was removed already; 0 events erased.")
    audited = await house.run("audit", "verify")
    assert (audited.status, "nothing was altered" in audited.out) == (0, True), audited
    assert "5 events are erased" in audited.out
    assert (await house.send("GET", f"/api/v1/dossiers/{code}", token))[0] == 404


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("key", "nonsense"), "code"),
        (("key", "G99.01.01-200101-0001"), "There is no dossier with this code."),
        (("key", "G99.01.01-200101-0001", "--reissue"), "There is no dossier with this code."),
        (("owner", "G99.01.01-200101-0001", "none"), "There is no dossier with this code."),
        (("owner", "G99.01.01-200101-0001", "nobody"), "There is no client 'nobody'; `hoso24 client list` shows all."),
        (("remove", "G99.01.01-200101-0001", "--reason", "x"), "There is no dossier with this code."),
    ],
)
async def test_dossier_there_is_not_is_one_sentence(house: House, words: tuple[str, ...], sentence: str) -> None:
    ran = await house.run("dossier", *words)
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    assert sentence in ran.err


async def test_expired_answers_are_deleted_and_counted(house: House) -> None:
    token = await house.client("desk-8")
    await house.send("POST", "/api/v1/dossiers", token, submission())
    await house.send("POST", "/api/v1/dossiers", token, submission())
    await house.owner.execute(
        "UPDATE idempotency SET first_at = now() - interval '31 days' WHERE client = 'desk-8' AND key IN "
        "(SELECT key FROM idempotency WHERE client = 'desk-8' LIMIT 1)"
    )
    ran = await house.run("tidy")
    assert ran.out == "Deleted 1 answers and 0 dead letters that were kept for more than 30 days.\n"
    assert await house.owner.fetchval("SELECT count(*) FROM idempotency WHERE client = 'desk-8'") == 1


async def test_refused_lines_are_listed_shown_and_dropped(house: House) -> None:
    await house.client("so-mau-2", "--actions", "sync")
    assert (await house.run("deadletters", "list")).out == "No refused line waits.\n"
    refused = [RefusedLine(name, b'{"id": "Mau"}', "unknown_agency", "There is no agency X.") for name in "ab"]
    writer = await asyncpg.connect(house.database.writer_url)
    await keep(writer, "so-mau-2", refused)
    await writer.close()
    ran = await house.run("deadletters", "list", "--client", "so-mau-2")
    assert (ran.status, ran.err, ran.out.count("unknown_agency"), "Mau" in ran.out) == (0, "", 2, False)
    first, second = [row["n"] for row in await house.owner.fetch("SELECT n FROM dead_letter ORDER BY n")]
    ran = await house.run("deadletters", "show", str(first), "--by", "an")
    assert (ran.out, ran.err) == ('{"id": "Mau"}\n', "so-mau-2, id a: unknown_agency, There is no agency X.\n")
    assert (
        await house.run("deadletters", "drop", str(first), "--by", "an")
    ).out == f"Dead letter {first} is dropped.\n"
    for words in (("show", str(first)), ("drop", str(first)), ("show", "999")):
        ran = await house.run("deadletters", *words)
        assert (ran.status, ran.refusal) == (2, "Error: There is no open dead letter with this number.")
    ran = await house.run("deadletters", "replay", str(second), "--by", "an")
    assert (ran.status, ran.refusal) == (
        1,
        f"Error: Dead letter {second} is rejected again: invalid_content. Object missing required field `dossier`",
    )
    logged = "SELECT reader, client, screen FROM personal_read WHERE code = $1"
    assert [tuple(row) for row in await house.owner.fetch(logged, f"dead letter {first}")] == [
        ("an", "operator", "dead letter"),
        ("an", "operator", "dead letter dropped"),
    ]
    await house.owner.execute("UPDATE dead_letter SET last_at = now() - interval '31 days' WHERE n = $1", second)
    ran = await house.run("tidy")
    assert ran.out == "Deleted 0 answers and 1 dead letters that were kept for more than 30 days.\n"
    await house.owner.execute("DELETE FROM dead_letter")


# -- import and sample -------------------------------------------------------------------------------------


async def imported(house: House, folder: Path, first: str, count: int) -> Ran:
    """A sample imported; a second time nothing is taken."""
    path = folder / f"{first}.ndjson"
    sample.write(path, count, until=datetime.fromisoformat(UNTIL).date(), days=10, first=int(first[-4:]))
    ran = await house.run("import", str(path))
    assert ran.status == 0, ran
    return ran


def table(ran: Ran) -> dict[str, int]:
    """What became of how many lines, from the table of an import."""
    rows = re.findall(r"│ (.+?) +│ +([\d,]+) │", ran.err)
    return {what: int(count.replace(",", "")) for what, count in rows}


async def test_import_tells_what_became_of_every_line(house: House, tmp_path: Path) -> None:
    path = tmp_path / "dossiers.ndjson"
    sample.write(path, 400, until=datetime.fromisoformat(UNTIL).date(), days=20, broken=0.05, first=20_001)
    path.write_bytes(path.read_bytes() + b"\n\n")
    before = await house.owner.fetchval("SELECT count(*) FROM dossier")
    ran = await house.run("import", str(path))
    assert ran.status == 1, "lines were refused"
    rows = table(ran)
    unusual = rows.pop("taken this time, with an irregular history", 0)
    assert sum(rows.values()) == 402
    assert unusual <= rows["taken"]
    assert rows["taken"] == await house.owner.fetchval("SELECT count(*) FROM dossier") - before
    assert (rows["already here"], rows["blank"]) == (0, 2)
    assert re.search(r"\boutcome\b.*\blines\b", ran.err)
    assert re.search(r"dossiers\.ndjson: 402 lines in [\d.]+ s, [\d,]+ lines/s", ran.err)
    reject_file, key_file = (Path(f"{path}.{kind}.ndjson") for kind in ("rejected", "keys"))
    assert str(reject_file) in ran.err
    assert str(key_file) in ran.err
    reasons = [json.loads(line)["reason"] for line in reject_file.read_bytes().splitlines()]
    refused = {f"refused: {REASONS[reason]}": reasons.count(reason) for reason in set(reasons)}
    assert {what: count for what, count in rows.items() if what.startswith("refused")} == refused
    assert len(key_file.read_bytes().splitlines()) == rows["taken"]

    again = table(await house.run("import", str(path)))
    assert (again["taken"], again["already here"]) == (0, rows["taken"])
    assert {what: count for what, count in again.items() if what.startswith("refused")} == refused


async def test_empty_file_is_imported_at_once(house: House, tmp_path: Path) -> None:
    path = tmp_path / "empty.ndjson"
    path.touch()
    ran = await house.run("import", str(path))
    assert ran.status == 0
    assert table(ran) == {"taken": 0, "appended to stored dossiers": 0, "already here": 0}


async def test_file_that_cannot_be_written_beside_the_import_is_named(house: House, tmp_path: Path) -> None:
    path = tmp_path / "dossiers.ndjson"
    sample.write(path, 1, until=datetime.fromisoformat(UNTIL).date(), days=2, first=30_001)
    keys = path.with_name(path.name + ".keys.ndjson")
    keys.mkdir()
    assert (await house.run("import", str(path))).refusal == f"Error: {keys}: Is a directory."


async def test_sample_is_the_same_for_the_same_seed(house: House, tmp_path: Path) -> None:
    options = ("sample", "--n", "25", "--until", UNTIL, "--days", "30")
    ran = await house.run(*options)
    assert (ran.status, ran.err) == (0, "")
    forms = [json.loads(line) for line in ran.out.splitlines()]
    assert len(forms) == 25
    days = {datetime.strptime(form["NgayNopHoSo"], "%Y%m%d%H%M%S").date().isoformat() for form in forms}
    assert "2026-10-21" <= min(days) <= max(days) <= UNTIL
    to_file = await house.run(*options, "-o", str(tmp_path / "sample.ndjson"))
    assert (to_file.status, to_file.out) == (0, "")
    assert (tmp_path / "sample.ndjson").read_text("utf-8") == ran.out
    assert (await house.run(*options, "--seed", "7")).out != ran.out
    elsewhere = await house.run(*options, "--first", "5000")
    codes_of = [{json.loads(line)["MaHoSo"] for line in each.out.splitlines()} for each in (ran, elsewhere)]
    assert not codes_of[0] & codes_of[1]
    broken = await house.run(*options, "--broken", "0.2")
    assert sum(one != other for one, other in zip(ran.out.split("\n"), broken.out.split("\n"), strict=True)) == 5


@pytest.mark.parametrize("option", ["--n -1", "--broken 2", "--days 0", "--first 0", "--n many", "--until yesterday"])
async def test_sample_that_cannot_be_is_refused(house: House, option: str) -> None:
    ran = await house.run("sample", *option.split())
    assert (ran.status, ran.out) == (2, "")
    assert f"Invalid value for '{option.partition(' ')[0]}'" in ran.err


async def test_file_of_a_sample_that_cannot_be_written_is_named(house: House, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "sample.ndjson"
    assert str(path) in (await house.run("sample", "--n", "1", "-o", str(path))).refusal


# -- the demonstration -------------------------------------------------------------------------------------


async def test_demo_takes_a_dossier_through_its_life(house: House, tmp_path: Path) -> None:
    place = await demo_place(tmp_path, house.intake, await house.client("demo"))
    ran = await house.run("demo", "--pause", "0", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    (code,) = re.findall(r"Submitted: (\S+), lookup key \S+-\S+\.", ran.out)
    assert f"/tra-cuu/{code}" in ran.out
    steps = re.findall(r"^ *(\w+)  \(version (\d+)\)  \S", ran.out, re.MULTILINE)
    ways = ["received", "processing", "supplement_required", "processing", "completed", "returned"]
    assert steps == [(way, str(version)) for version, way in enumerate(ways, start=2)]
    row = await house.owner.fetchrow("SELECT status, version FROM dossier WHERE code = $1", code)
    assert tuple(row) == (10, 7)


async def test_demo_without_a_house_says_what_is_missing(house: House, tmp_path: Path) -> None:
    assert "make up" in (await house.run("demo", "--pause", "0", cwd=tmp_path)).refusal
    gone = await demo_place(tmp_path, "http://127.0.0.1:1", "h24_x")
    assert "intake does not answer" in (await house.run("demo", "--pause", "0", cwd=gone)).refusal
    unknown = await demo_place(tmp_path, house.intake, "h24_unknown_" + "x" * 43)
    assert "intake refused" in (await house.run("demo", "--pause", "0", cwd=unknown)).refusal
    nothing = await house.run("down", cwd=tmp_path)
    assert (nothing.status, nothing.out) == (0, "Nothing is running in .hoso24.\n")


async def demo_place(folder: Path, intake: str, token: str) -> Path:
    """A directory in which a house seems to run."""
    (folder / ".hoso24").mkdir(exist_ok=True)
    (folder / ".hoso24" / "up.json").write_text(json.dumps({"intake": intake, "token": token}))
    return folder


# -- maintenance -------------------------------------------------------------------------------------------


def notice(**changes: str) -> list[str]:
    """The words of an announcement that starts tomorrow."""
    tomorrow = datetime.now(VIETNAM) + timedelta(days=1)
    options = {
        "start": f"{tomorrow:%Y-%m-%d} 22:00",
        "end": f"{tomorrow:%Y-%m-%d} 23:30",
        "affects": "lookup",
        "vi": "Nâng cấp máy chủ (ví dụ).",
        "en": "Servers are upgraded (example).",
    } | changes
    return ["maintenance", "announce", *itertools.chain(*((f"--{name}", value) for name, value in options.items()))]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"affects": "everything"}, 2, "everything"),
        ({"start": "tomorrow"}, 2, "tomorrow"),
        ({"start": "2026-13-01 10:00"}, 2, "2026-13-01"),
        ({}, 1, "less than 7 working days ahead"),
        ({"end": "2020-01-01 10:00", "urgent": "x"}, 1, "end after it starts"),
        ({"start": "2020-01-01 09:00", "end": "2020-01-01 10:00", "urgent": "x"}, 1, "over already"),
        ({"vi": " ", "urgent": "x"}, 1, "told in both languages"),
    ],
)
async def test_maintenance_that_cannot_be_is_refused(
    house: House, changes: dict[str, str], status: int, said: str
) -> None:
    ran = await house.run(*notice(**changes))
    assert ran.status == status, ran
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert "No maintenance" in (await house.run("maintenance", "list")).out


async def test_maintenance_is_announced_listed_and_withdrawn(house: House) -> None:
    ran = await house.run(*notice(urgent="Lỗ hổng (ví dụ).", by="tổ trực (ví dụ)"))
    assert ran.status == 0, ran
    (number,) = re.findall(r"^Announced as notice (\d+);", ran.out)
    listed = await house.run("maintenance", "list")
    assert listed.status == 0
    for said in ("coming", "22:00", "23:30", "Nâng cấp máy chủ", "tổ trực (ví dụ)", "Lỗ hổng (ví dụ)."):
        assert said in listed.out
    gone = await house.run("maintenance", "withdraw", number, "--reason", "Không cần nữa (ví dụ).")
    assert (gone.status, gone.out) == (0, f"Notice {number} is withdrawn.\n")
    assert (await house.run("maintenance", "list")).out == "No maintenance is announced.\n"
    assert "withdrawn" in (await house.run("maintenance", "list", "--all")).out
    assert f"no notice {number}" in (await house.run("maintenance", "withdraw", number, "--reason", "x")).refusal
    assert (await house.run("maintenance", "withdraw", "one", "--reason", "x")).status == 2


async def test_maintenance_needs_as_many_days_of_notice_as_are_set(house: House) -> None:
    environ = house.environ | {"HOSO24_MAINTENANCE_NOTICE_DAYS": "0"}
    ran = await house.run(*notice(), cwd=house.directory, **environ)
    assert ran.status == 0, ran
    (number,) = re.findall(r"notice (\d+)", ran.out)
    assert (await house.run("maintenance", "withdraw", number, "--reason", "x")).status == 0


# -- one dossier, caches, schema ---------------------------------------------------------------------------


async def test_why_tells_of_a_dossier_and_of_a_code_there_is_not(house: House, tmp_path: Path) -> None:
    token = await house.client("desk-5")
    _, receipt = await house.send("POST", "/api/v1/dossiers", token, submission())
    at = ("--admin", "http://127.0.0.1:1")
    ran = await house.run("why", receipt["code"].lower(), *at)
    assert ran.status == 0, ran
    assert receipt["code"] in ran.out
    assert "received" in ran.out
    unknown = await house.run("why", f"{AGENCY}-200101-0001", *at)
    assert unknown.status == 0
    assert "No such dossier anywhere" in unknown.out
    malformed = await house.run("why", "nonsense", *at)
    assert malformed.status == 1
    assert "'nonsense' is not a dossier code" in malformed.out
    away = await house.run("why", receipt["code"], *at, cwd=tmp_path, **AWAY)
    assert away.status == 1
    assert "geheim" not in away.out + away.err


async def test_new_epoch_is_told_and_kept_with_its_reason(house: House) -> None:
    before = await house.owner.fetchval("SELECT max(number) FROM epoch")
    ran = await house.run("cache", "renew", "--reason", "PostgreSQL was restored (example)")
    assert ran.status == 0, ran
    assert f"Epoch {before + 1} has begun" in ran.out
    row = await house.owner.fetchrow("SELECT number, reason FROM epoch ORDER BY number DESC LIMIT 1")
    assert tuple(row) == (before + 1, "PostgreSQL was restored (example)")


async def test_migrate_makes_roles_database_and_schema_and_then_nothing(house: House, tmp_path: Path) -> None:
    new = Database("commands_new", house.database.admin_url)
    urls = {f"HOSO24_PG_{role.removeprefix('hoso24_').upper()}_URL": new.url(role) for role in ROLES}
    without = await house.run("migrate", cwd=tmp_path, **urls)
    assert "commands_new" in without.refusal
    try:
        ran = await house.run("migrate", cwd=tmp_path, HOSO24_PG_ADMIN_URL=new.admin_url, **urls)
        assert ran.status == 0, ran
        assert ran.out.splitlines()[-1] == f"{schema.LATEST} migrations applied."
        again = await house.run("migrate", cwd=tmp_path, **urls)
        assert (again.status, again.out) == (0, "The schema is up to date.\n")
        owner = await asyncpg.connect(new.owner_url)
        await owner.execute("INSERT INTO schema_version (version, name) VALUES (9999, 'of a later release')")
        await owner.close()
        assert "9999" in (await house.run("migrate", cwd=tmp_path, **urls)).refusal
    finally:
        admin = await asyncpg.connect(new.admin_url)
        await admin.execute("DROP DATABASE IF EXISTS commands_new WITH (FORCE)")
        await admin.close()

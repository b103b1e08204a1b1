"""Who may do what in the database: each privilege of each role on each column, decided here, then held and tried.

A table, a column or a function that is new fails these tests until it is decided here who may use it. No migration is
read: what they say is what is tested.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import asyncpg
import pytest

from intake.books.seal import CONTENT_COLUMNS, ROW_COLUMNS
from lookup.dossier import COLUMNS
from lookup.schema import grants
from lookup.schema.grants import ANY_COLUMN, PUBLIC, Grant, by_column
from tests.conftest import ROLES, Database

OTHERS = ROLES[1:]
"""All but the owner, who may do everything with its tables, and nothing else."""

CATALOGUE = ("status", "agency", "service", "service_time")
CALENDARS = ("calendar", "calendar_day", "office_hours", "catalogue_load")
APPLICANT = (*(f"applicant_{word}" for word in ("kind", "name", "id", "phone", "email", "address")), "subject")
TOLD = (*COLUMNS, "origin", "pauses", "supplements", "reappointments", "outcome", "reason")
"""What citizens are told of a dossier, and what their pages follow from."""
KEPT = ("channel", "submitted_by", "owner", "source_seq", "service_case", "calendar", "retention_class")
"""The other columns of a dossier that follow from its events, and its retention class."""
IN_THE_OPEN = (
    *("xid", "seq", "format", "erased", "official_number"),
    *(column for column in ROW_COLUMNS if column not in {*CONTENT_COLUMNS, "salt"}),
)
"""Columns of an event that name no officer and quote no note."""

PAPER = (
    *("agency", "form", "year", "number", "code", "version", "form_version", "digest", "stamp", "key_id"),
    *("issued_at", "issued_by", "erased_at"),
)
"""A paper without its content, which names persons."""
VIEWS = ("dossier_person", "paper_digest")
"""Views for the auditor."""
TOLD_BY = ("notice", "notice_cursor", "rating", "morning_mail")

EVERY = ("",)
"""The whole table, and so each column that it will have."""

MAY: dict[str, dict[tuple[str, str], Iterable[str]]] = {
    "hoso24_writer": {
        **{("SELECT", table): EVERY for table in (*CATALOGUE, *CALENDARS, "epoch", "heartbeat", "schema_version")},
        **{("SELECT", table): EVERY for table in ("dossier", "event", "dossier_number", "client", "client_token")},
        **{("SELECT", table): EVERY for table in ("idempotency", "daily_sequence", "import_run", "sign_of_life")},
        **{("SELECT", table): EVERY for table in ("maintenance", "maintenance_withdrawal")},
        **{("INSERT", table): EVERY for table in ("dossier", "idempotency", "daily_sequence", "import_run")},
        **{("INSERT", table): EVERY for table in ("maintenance", "maintenance_withdrawal", "sign_of_life")},
        ("INSERT", "event"): ROW_COLUMNS,
        ("INSERT", "personal_read"): EVERY,
        ("UPDATE", "dossier"): ("retention_class", *APPLICANT),
        ("UPDATE", "client_token"): ("last_used_on",),
        ("UPDATE", "idempotency"): ("replays",),
        ("UPDATE", "daily_sequence"): ("last",),
        ("UPDATE", "import_run"): EVERY,
        ("UPDATE", "sign_of_life"): ("at",),
        **{(privilege, "dead_letter"): EVERY for privilege in ("SELECT", "INSERT", "UPDATE")},
        **{(privilege, "webhook"): EVERY for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")},
        **{(privilege, "task"): EVERY for privilege in ("SELECT", "INSERT")},
        ("UPDATE", "task"): (
            *("agency", "kind", "work", "state", "after", "due_at", "opened_at", "ended_at", "version"),
        ),
        ("SELECT", "sandbox_lease"): EVERY,
        ("UPDATE", "sandbox_lease"): ("lease_until", "lease_token"),
        **{
            (privilege, table): EVERY
            for privilege in ("SELECT", "INSERT")
            for table in ("paper", "paper_sequence", "paper_print", "applicant_search", "consent")
        },
        ("UPDATE", "paper_sequence"): ("last",),
        ("UPDATE", "applicant_search"): ("agency", "submitted_at", "folded", "id_tail", "phone_tail"),
        ("UPDATE", "consent"): ("address", "given_at", "given_by", "withdrawn_at"),
        ("SELECT", "hold"): EVERY,
        ("SELECT", "notice"): ("channel", "state", "ended_at", "next_at"),
    },
    "hoso24_reader": {
        **{("SELECT", table): EVERY for table in (*CATALOGUE, *CALENDARS, "epoch", "heartbeat", "schema_version")},
        **{("SELECT", table): EVERY for table in ("dossier_number", "sign_of_life", "maintenance")},
        **{("SELECT", table): EVERY for table in ("maintenance_withdrawal", "figure", "figure_cursor")},
        ("SELECT", "dossier"): TOLD,
    },
    "hoso24_relay": {  # and what the reader may, of which it is a member
        ("SELECT", "event"): IN_THE_OPEN,
        ("UPDATE", "heartbeat"): ("at", "xid", "delivered_at"),
    },
    "hoso24_notary": {("SELECT", table): EVERY for table in ("event", "epoch", "schema_version")},
    "hoso24_auditor": {
        **{("SELECT", table): EVERY for table in ("event", "epoch", "schema_version", "status", "dossier_number")},
        **{("SELECT", table): EVERY for table in ("dossier_person", "personal_read", "catalogue_load", "task")},
        **{("SELECT", table): EVERY for table in ("paper_digest", "paper_print", "hold")},
        ("SELECT", "dossier"): (*TOLD, *KEPT),
        ("SELECT", "paper"): PAPER,
    },
    "hoso24_archivist": {
        **{("SELECT", table): EVERY for table in ("event", "schema_version")},
        ("SELECT", "dossier"): ("code", "status", "finished_at", "service", "retention_class", "removed"),
        ("SELECT", "idempotency"): ("client", "key", "first_at"),
        ("UPDATE", "event"): (*CONTENT_COLUMNS, "salt", "erased"),
        ("DELETE", "idempotency"): EVERY,
        ("SELECT", "dead_letter"): ("client", "last_at"),
        ("DELETE", "dead_letter"): EVERY,
        **{("SELECT", table): EVERY for table in ("service", "status", "hold", "notice")},
        ("SELECT", "paper"): ("agency", "form", "year", "number", "code", "erased_at"),
        ("UPDATE", "paper"): ("content", "erased_at"),
        ("SELECT", "consent"): ("code", "channel"),
        ("UPDATE", "consent"): ("address",),
        ("SELECT", "applicant_search"): ("code",),
        ("SELECT", "desk_session"): ("hash", "ends_at"),
        **{("DELETE", table): EVERY for table in ("applicant_search", "notice", "desk_session")},
        ("INSERT", "hold"): EVERY,
        ("UPDATE", "hold"): ("reason", "by", "at", "lifted_at"),
    },
    "hoso24_webhooks": {
        **{("SELECT", table): EVERY for table in ("schema_version", "epoch", "agency", "webhook")},
        ("SELECT", "event"): IN_THE_OPEN,
        ("SELECT", "client"): ("id", "agency", "actions", "sandbox", "disabled_at"),
        ("SELECT", "dossier"): ("code", "service"),
        ("UPDATE", "webhook"): (
            *("generation", "rotated_at", "state", "epoch", "xid", "seq", "page_end", "attempt", "next_at"),
            *("lease_until", "lease_token", "succeeded_at", "failed_at", "last_error"),
        ),
    },
    "hoso24_desk": {  # and what the writer may, of which it is a member
        **{("SELECT", table): EVERY for table in ("officer", "notice", "desk_session")},
        **{(privilege, "desk_session"): EVERY for privilege in ("INSERT", "UPDATE", "DELETE")},
    },
    "hoso24_notices": {
        **{("SELECT", table): EVERY for table in (*CATALOGUE, "calendar", "calendar_day", "office_hours")},
        **{("SELECT", table): EVERY for table in ("schema_version", "epoch", "heartbeat", "task", "officer", "hold")},
        **{("SELECT", table): EVERY for table in ("catalogue_load", "consent", *TOLD_BY)},
        ("SELECT", "dossier"): ("code", "status", "due_at", "version", "agency", "service", "removed"),
        ("SELECT", "event"): IN_THE_OPEN,
        ("UPDATE", "consent"): ("withdrawn_at",),
        **{(privilege, table): EVERY for privilege in ("INSERT", "UPDATE") for table in TOLD_BY},
    },
    "hoso24_figures": {
        **{("SELECT", table): EVERY for table in (*CATALOGUE, "calendar", "calendar_day", "office_hours")},
        **{("SELECT", table): EVERY for table in ("schema_version", "epoch", "rating")},
        ("SELECT", "dossier"): (*TOLD, *KEPT),
        ("SELECT", "event"): IN_THE_OPEN,
        **{
            (privilege, table): EVERY
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for table in ("figure", "figure_cursor")
        },
    },
    PUBLIC: {},
}
MAY["hoso24_desk"] |= {
    each: columns for each, columns in MAY["hoso24_writer"].items() if each not in MAY["hoso24_desk"]
}
MAY["hoso24_relay"] |= {
    each: columns for each, columns in MAY["hoso24_reader"].items() if each not in MAY["hoso24_relay"]
}

CALLS = {
    "hoso24_owner": {"pg_advisory_lock(bigint)", "pg_current_xact_id()"},
    "hoso24_writer": {"pg_try_advisory_xact_lock(bigint)", "pg_current_xact_id()"},
    "hoso24_relay": {"pg_try_advisory_lock(bigint)", "pg_current_xact_id()"},
    "hoso24_desk": {"pg_try_advisory_xact_lock(bigint)", "pg_current_xact_id()"},
}
"""Of the functions that hold delivery up or fill the disk."""

TRIED = {
    "SELECT": "SELECT {column} FROM {table} WHERE false",
    "INSERT": "INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
}
"""Privilege → a statement that needs it and no other, and changes nothing where it is there after all."""

PARTITION = "dossier_07"
"""Statements are tried on one of the sixteen; that a role has no right to any is read from the catalogue."""


def decided() -> Iterator[Grant]:
    for role, rights in MAY.items():
        for (privilege, table), columns in rights.items():
            yield from (Grant(role, table, column, privilege) for column in columns)


async def columns_of(connection: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in await connection.fetch(grants.COLUMNS):
        found.setdefault(row["table"], []).append(row["column"])
    return found


@pytest.mark.parametrize("role", [*OTHERS, PUBLIC])
async def test_role_has_the_privileges_that_are_decided_and_no_others(owner: Any, role: str) -> None:
    columns = await columns_of(owner)
    expected = by_column((each for each in decided() if each.role == role), columns)
    held = {each for each in grants.held(await owner.fetch(grants.HELD, list(OTHERS))) if each.role == role}
    assert sorted(held - expected) == []
    assert sorted(expected - held) == []


@pytest.mark.parametrize("role", OTHERS)
async def test_role_is_refused_every_statement_that_it_must_not_have(database: Database, owner: Any, role: str) -> None:
    columns = {
        table: names
        for table, names in (await columns_of(owner)).items()
        if table == PARTITION or not table.startswith("dossier_") or table in {"dossier_number", "dossier_person"}
    }
    allowed = by_column((each for each in decided() if each.role == role), columns)
    went_through: list[str] = []
    tried = 0
    connection = await asyncpg.connect(database.url(role))
    try:
        await connection.execute("SET default_transaction_read_only = off")
        for table, names in columns.items():
            for privilege, text in TRIED.items():
                if privilege != "SELECT" and table in VIEWS:  # through which no role can write
                    continue
                for column in names if "{column}" in text else [ANY_COLUMN]:
                    if Grant(role, table, column, privilege) in allowed:
                        continue
                    tried += 1
                    statement = text.format(table=table, column=f'"{column}"')
                    if (said := await outcome(connection, statement)) != "InsufficientPrivilegeError":
                        went_through.append(f"{statement}: {said}")
    finally:
        await connection.close()
    assert went_through == []
    assert tried > 400


async def outcome(connection: Any, statement: str) -> str:
    """`done`, or the name of the refusal."""
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as refused:
        return type(refused).__name__
    return "done"


async def test_statements_are_those_that_the_privilege_allows(database: Database, owner: Any) -> None:
    """Where a right is there the same statement goes through: a refusal above is one of privilege."""
    columns = await columns_of(owner)
    for role in OTHERS:
        connection = await asyncpg.connect(database.url(role))
        await connection.execute("SET default_transaction_read_only = off")
        for grant in by_column((each for each in decided() if each.role == role), columns):
            text = TRIED[grant.privilege]
            if ("{column}" in text) == (grant.column != ANY_COLUMN):
                await connection.execute(text.format(table=grant.table, column=f'"{grant.column}"'))
        await connection.close()


async def test_every_table_is_decided_on(owner: Any) -> None:
    """Also one that no role may use, once there is one."""
    tables = {table for table in await columns_of(owner) if not re.fullmatch(r"dossier_\d\d", table)}
    assert tables == {each.table for each in decided()}


async def test_functions_that_hold_delivery_up_are_those_roles_to_call_that_need_them(owner: Any) -> None:
    found: dict[str, set[str]] = {}
    for row in await owner.fetch(grants.callable_query(), list(ROLES)):
        found.setdefault(row["role"], set()).add(row["function"])
    assert found == CALLS


async def test_functions_and_sequences_of_ours_are_the_owners_alone(owner: Any) -> None:
    held = await owner.fetch(
        """
        WITH asked AS (SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY ($1) UNION ALL SELECT 'public')
        SELECT role, pg_proc.oid::regprocedure::text AS name
          FROM asked, pg_proc
         WHERE pronamespace = 'hoso24'::regnamespace
           AND has_function_privilege(role, pg_proc.oid, 'EXECUTE')
         UNION ALL
        SELECT role, pg_class.oid::regclass::text
          FROM asked, pg_class
         WHERE relnamespace = 'hoso24'::regnamespace
           AND relkind = 'S'
           AND (has_sequence_privilege(role, pg_class.oid, 'USAGE, UPDATE, SELECT'))
        """,
        list(OTHERS),
    )
    assert [tuple(row) for row in held] == []


async def test_nothing_can_be_made_in_the_database_but_by_the_owner(owner: Any) -> None:
    held = await owner.fetch(
        """
        WITH asked AS (SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY ($1) UNION ALL SELECT 'public')
        SELECT role, 'schema ' || nspname AS what
          FROM asked, pg_namespace
         WHERE has_schema_privilege(role, pg_namespace.oid, 'CREATE')
         UNION ALL
        SELECT role, 'database'
          FROM asked
         WHERE has_database_privilege(role, current_database(), 'CREATE, TEMPORARY')
        """,
        list(OTHERS),
    )
    assert [tuple(row) for row in held] == []

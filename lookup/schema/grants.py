"""The grants the SQL files beside this one give to roles, parsed from them, and the query for those a database has.

The migrations are the only list of expected grants.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from lookup.schema import SCHEMA, migrations

ROLES = (
    *("hoso24_owner", "hoso24_writer", "hoso24_relay", "hoso24_reader"),
    *("hoso24_notary", "hoso24_auditor", "hoso24_archivist", "hoso24_webhooks"),
    *("hoso24_desk", "hoso24_notices", "hoso24_figures"),
)
NAMES = tuple(role.removeprefix("hoso24_") for role in ROLES)
"""As settings and secrets are called for them."""
PUBLIC = "public"
ANY_COLUMN = ""

# Every privilege a role has: its own, through another role, or through PUBLIC. Partitions of a partitioned table are
# included, since a grant on a partition applies without one on the table.
HELD = """
WITH asked AS (SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY ($1) UNION ALL SELECT 'public'),
     tables AS (SELECT oid, relname::text AS name FROM pg_class
                 WHERE relnamespace = to_regnamespace('hoso24') AND relkind IN ('r', 'p', 'v', 'm', 'f'))
SELECT role, tables.name AS "table", attname::text AS "column", privilege
  FROM asked, tables
  JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped,
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege
 WHERE has_column_privilege(role, tables.oid, attnum, privilege)
 UNION ALL
SELECT role, tables.name, '', privilege
  FROM asked, tables,
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS privilege
 WHERE has_table_privilege(role, tables.oid, privilege)
"""

COLUMNS = """
SELECT relname::text AS "table", attname::text AS "column"
  FROM pg_class
  JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
 WHERE relnamespace = to_regnamespace('hoso24')
   AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""

# A setting for this database overrides one for all databases: it sorts last.
ROLE_SETTINGS = """
SELECT rolname::text AS role, split_part(pair, '=', 1) AS name, substr(pair, strpos(pair, '=') + 1) AS value
  FROM pg_db_role_setting
  JOIN pg_roles ON pg_roles.oid = setrole
  JOIN pg_database ON datname = current_database() AND setdatabase IN (0, pg_database.oid),
       unnest(setconfig) AS pair
 WHERE rolname = ANY ($1)
 ORDER BY setdatabase
"""

ATTRIBUTES = """
SELECT rolname::text AS role, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication,
       ARRAY(SELECT format('%s WITH INHERIT %s, SET %s', other.rolname, upper(bool_or(inherit_option)::text),
                           upper(bool_or(set_option)::text))
               FROM pg_auth_members
               JOIN pg_roles AS other ON other.oid = roleid
              WHERE member = pg_roles.oid
              GROUP BY other.rolname
              ORDER BY 1) AS member_of
  FROM pg_roles
 WHERE rolname = ANY ($1)
"""

# Functions that a role of ours, or every role, may call, of those that functions.sql closes.
CALLABLE = """
WITH asked AS (SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY ($1) UNION ALL SELECT 'public')
SELECT role, pg_proc.oid::regprocedure::text AS function
  FROM asked, pg_proc
 WHERE {closed}
   AND has_function_privilege(role, pg_proc.oid, 'EXECUTE')
"""

# Functions of our own schema that every role may call: triggers call them as the owner.
OURS_OPEN = """
SELECT format('hoso24.%I(%s)', proname, pg_get_function_identity_arguments(oid)) AS function
  FROM pg_proc
 WHERE pronamespace = to_regnamespace('hoso24')
   AND has_function_privilege('public', oid, 'EXECUTE')
"""

TEMPORARY = "SELECT has_database_privilege('public', current_database(), 'TEMPORARY') AS open_to_all"

_COMMENT = re.compile(r"--.*")
_GRANT = re.compile(r"\b(GRANT|REVOKE)\s+([^;]+?)\s+ON\s+(?:TABLE\s+)?([^;()]+?)\s+(?:TO|FROM)\s+([^;]+?)\s*;", re.I)
_PRIVILEGE = re.compile(r"(\w+)\s*(?:\(([^)]*)\))?")
_EXECUTE = re.compile(r"^GRANT EXECUTE ON FUNCTION (\S+)\s+TO ([^;]+);", re.M)
_MEMBER = re.compile(r"^GRANT (\w+) TO (\w+) (WITH INHERIT \w+, SET \w+);", re.M)
_ROLE_SETTING = re.compile(r"^ALTER ROLE (\w+)\s+SET (\w+) = '?([^';]+)'?;", re.M)


class Grant(NamedTuple):
    """One privilege of one role on one column, or on the whole table where `column` is empty."""

    role: str
    table: str
    column: str
    privilege: str


def expected() -> set[Grant]:
    """The table grants in force after all migrations, applied in order."""
    granted: set[Grant] = set()
    for _, _, sql in migrations():
        for verb, privileges, tables, roles in _GRANT.findall(_COMMENT.sub("", sql)):
            named = set(_named(privileges, tables, roles))
            granted = granted | named if verb.upper() == "GRANT" else granted - named
    for member, (group, _) in memberships().items():
        granted |= {grant._replace(role=member) for grant in granted if grant.role == group}
    return granted


def by_column(grants: Iterable[Grant], columns: Mapping[str, Iterable[str]]) -> set[Grant]:
    """The same grants with SELECT, INSERT, UPDATE and REFERENCES on a whole table expanded to its columns.

    `columns`: table → its columns. Grants on tables that do not exist are left out.
    """
    there = {grant for grant in grants if grant.table in columns}
    spelt_out = {
        grant._replace(column=column)
        for grant in there
        if grant.column == ANY_COLUMN and grant.privilege in ("SELECT", "INSERT", "UPDATE", "REFERENCES")
        for column in columns[grant.table]
    }
    return there | spelt_out


def role_settings() -> dict[tuple[str, str], str]:
    """(role, setting) → the value that roles.sql gives it."""
    return {(role, name): value for role, name, value in _ROLE_SETTING.findall(_file("roles.sql"))}


def memberships() -> dict[str, tuple[str, str]]:
    """Role → the one it is a member of by roles.sql, and how: `WITH INHERIT TRUE, SET FALSE`."""
    return {member: (group, how) for group, member, how in _MEMBER.findall(_file("roles.sql"))}


def callable_functions() -> set[tuple[str, str]]:
    """(role, function) that functions.sql grants."""
    granted = _EXECUTE.findall(_file("functions.sql"))
    return {(role.strip(), function) for function, roles in granted for role in roles.split(",")}


def callable_query() -> str:
    """CALLABLE, with the functions as functions.sql chooses them."""
    closed = re.search(r"FROM pg_proc\s+WHERE (.+?)\s+LOOP", _file("functions.sql"), re.S)
    if closed is None:
        raise ValueError("functions.sql no longer names its functions by one query")
    return CALLABLE.format(closed=closed[1])


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def held(rows: Iterable[Any]) -> set[Grant]:
    """The grants in the rows of HELD."""
    return {Grant(row["role"], row["table"], row["column"], row["privilege"]) for row in rows}


def statement(verb: str, grants: Iterable[Grant]) -> str:
    """The SQL that grants or revokes these, all of one role on one table. `verb`: GRANT or REVOKE."""
    grants = sorted(grants)
    whole = sorted({grant.privilege for grant in grants if grant.column == ANY_COLUMN})
    single: dict[str, list[str]] = {}
    for grant in grants:
        if grant.column != ANY_COLUMN and grant.privilege not in whole:
            single.setdefault(grant.privilege, []).append(grant.column)
    words = [*whole, *(f"{privilege} ({', '.join(columns)})" for privilege, columns in single.items())]
    direction = "TO" if verb == "GRANT" else "FROM"
    return f"{verb} {', '.join(words)} ON {SCHEMA}.{grants[0].table} {direction} {grants[0].role}"


def _named(privileges: str, tables: str, roles: str) -> Iterator[Grant]:
    if tables.upper().startswith("SCHEMA "):
        return
    for privilege, columns in _PRIVILEGE.findall(privileges):
        for table in tables.split(","):
            for role in roles.split(","):
                for column in columns.split(","):
                    yield Grant(role.strip(), table.strip(), column.strip(), privilege.upper())

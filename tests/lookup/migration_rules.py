"""What a migration may do while the release before it answers citizens, held against its text.

Two kinds of rules. Some are about compatibility: nothing an older release uses is taken away, unless the file says by
its name that no release in use needs it (a contract). The others are about locks and time, for every migration:
no table is rewritten or scanned under a lock, no index build blocks writes, no long transaction holds the log up.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lookup.schema import Migration

BASELINE = 7
"""The migrations that made the first schema. There were no clients to block."""

SINCE = re.compile(r"^-- Contract: not needed since release \d+\.\d+\.\d+\b.+", re.MULTILINE)


class Rule(NamedTuple):
    """Statements that match are forbidden, for this reason."""

    name: str
    pattern: re.Pattern[str]
    reason: str


def _rule(name: str, pattern: str, reason: str) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE), reason)


COMPATIBILITY = (
    _rule(
        "drop",
        r"\bDROP\s+(?!CONSTRAINT\b|INDEX\b|NOT\s+NULL\b|DEFAULT\b)",
        "an older release may use what is dropped",
    ),
    _rule("drop index", r"\bDROP\s+INDEX\b(?!\s+CONCURRENTLY\s+IF\s+EXISTS\b)", "an older release may need it"),
    _rule("drop default", r"\bDROP\s+DEFAULT\b", "an older release leaves the column out when it inserts"),
    _rule("drop not null", r"\bDROP\s+NOT\s+NULL\b", "an older release does not expect a null there"),
    _rule("rename", r"\bRENAME\b", "an older release knows the old name"),
    _rule(
        "alter type", r"\bALTER\s+(?:COLUMN\s+)?\S+\s+(?:SET\s+DATA\s+)?TYPE\b", "an older release reads the old type"
    ),
    # PostgreSQL lets everybody execute a new function, and no release before it can have used that.
    _rule(
        "revoke", r"\bREVOKE\b(?!\s+EXECUTE\s+ON\s+FUNCTION\b[^;]+\bFROM\s+PUBLIC\b)", "an older release uses the grant"
    ),
    _rule("set schema", r"\bSET\s+SCHEMA\b", "an older release looks for it in the old schema"),
    _rule(
        "not null without default",
        r"\bADD\s+(?:COLUMN\s+)?(?!CONSTRAINT\b)\S+\s+(?:(?!\bDEFAULT\b|,|\bGENERATED\b).)*\bNOT\s+NULL\b(?!(?:(?!,).)*\b(?:DEFAULT|GENERATED)\b)",
        "an older release leaves the column out when it inserts",
    ),
)

TIME = (
    _rule(
        "index in the way", r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\b(?!\s+CONCURRENTLY\b)", "no client can write meanwhile"
    ),
    _rule("reindex in the way", r"\bREINDEX\b(?!.*\bCONCURRENTLY\b)", "no query can use the index meanwhile"),
    _rule(
        "constraint that is checked at once",
        r"\bADD\s+(?:CONSTRAINT\s+\S+\s+)?(?:CHECK|FOREIGN\s+KEY)\b(?!.*\bNOT\s+VALID\b)",
        "the table is scanned under a lock: add it NOT VALID, and VALIDATE it in another migration",
    ),
    _rule(
        "key that is built at once",
        r"\bADD\s+(?:CONSTRAINT\s+\S+\s+)?(?:PRIMARY\s+KEY|UNIQUE|EXCLUDE)\b(?!\s+USING\s+INDEX\b)",
        "its index is built under a lock: build it CONCURRENTLY, then ADD … USING INDEX",
    ),
    _rule(
        "column that rewrites the table",
        r"\bADD\s+(?:COLUMN\s+)?\S+\s.*\b(?:GENERATED|SERIAL|BIGSERIAL|"
        r"(?:RANDOM|CLOCK_TIMESTAMP|TIMEOFDAY|GEN_RANDOM_UUID|UUIDV[47]|NEXTVAL)\s*\()",
        "every row gets a value of its own, under a lock",
    ),
    _rule("type that rewrites the table", r"\bALTER\s+(?:COLUMN\s+)?\S+\s+(?:SET\s+DATA\s+)?TYPE\b", "under a lock"),
    _rule(
        "table rewritten", r"\bVACUUM\s+FULL\b|\bCLUSTER\b|\bSET\s+(?:UN)?LOGGED\b|\bSET\s+TABLESPACE\b", "under a lock"
    ),
    _rule("explicit lock", r"^\s*LOCK\b", "every client waits for as long as the migration takes"),
    _rule("detach in the way", r"\bDETACH\s+PARTITION\b(?!.*\bCONCURRENTLY\b)", "every client waits"),
    _rule(
        "rows changed",
        r"^(?:DO BEGIN )?(?:WITH\b.*\b)?(?:UPDATE|DELETE\s+FROM|TRUNCATE|MERGE\s+INTO)\b",
        "a long writing transaction holds the change feed up for all: do it in chunks, by a command",
    ),
    _rule(
        "statement that is put together",
        r"\bEXECUTE\b(?!\s+FUNCTION\s+\w+\(\)$|\s+ON\s+FUNCTION\b)",  # as a trigger does, and as a grant says
        "reading it does not tell what it does",
    ),
)

_SET_NOT_NULL = re.compile(r"\bALTER\s+(?:COLUMN\s+)?(\S+)\s+SET\s+NOT\s+NULL\b", re.IGNORECASE)
_ALTERED = re.compile(r"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?:hoso24\.)?(\w+)", re.IGNORECASE)
_CHECKED = re.compile(
    r"\bADD\s+CONSTRAINT\s+(\w+)\s+CHECK\s*\(\s*\(*\s*(\w+)\s+IS\s+NOT\s+NULL\s*\)*\s*\)\s*NOT\s+VALID\b", re.IGNORECASE
)
_VALIDATED = re.compile(r"\bVALIDATE\s+CONSTRAINT\s+(\w+)", re.IGNORECASE)
_CREATED = re.compile(r"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:hoso24\.)?(\w+)", re.IGNORECASE)
_TOUCHED = re.compile(
    r"\b(?:ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?|INDEX\b.*?\bON\s+(?:ONLY\s+)?|UPDATE\s+|DELETE\s+FROM\s+)(?:hoso24\.)?(\w+)",
    re.IGNORECASE,
)
_REPEATABLE = re.compile(
    r"^(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS|DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS|"
    r"REINDEX\b.*\bCONCURRENTLY|ALTER\s+TABLE\s+\S+\s+VALIDATE\s+CONSTRAINT|ALTER\s+INDEX\s+\S+\s+ATTACH\s+PARTITION)\b",
    re.IGNORECASE,
)
_HIDES_AN_END = re.compile(r"'[^'\n]*(?:;|--)[^'\n]*'|\$")
_SIZES = re.compile(r"\(\s*\d+(?:\s*,\s*\d+)*\s*\)")
_DROPPED_INDEX = re.compile(r"\bDROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS\s+(\w+)", re.IGNORECASE)
_MADE_INDEX = re.compile(r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+(\w+)", re.IGNORECASE)
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$|;|[^-/'$;]+|.", re.DOTALL)


def statements(sql: str) -> list[str]:
    """The statements on one line each: no comments, strings emptied, the bodies of DO blocks and functions kept."""
    found, body = [""], None
    for token in _TOKEN.finditer(sql):
        text = token[0]
        if text.startswith(("--", "/*")):
            continue
        if text.startswith("$") and token[1] is not None:
            body = None if body == text else body or text
            found[-1] += " "
        elif text == ";":
            found.append("")  # inside a body as well: its statements are held against the rules one by one
        else:
            found[-1] += "''" if text.startswith("'") else text
    return [statement for each in found if (statement := " ".join(each.split()))]


def violations(migration: Migration, earlier: Sequence[Migration] = ()) -> list[str]:
    """What a migration does that it must not, one sentence each. `earlier`: those that are applied before it."""
    text = statements(migration.sql)
    created = {name.lower() for statement in text for name in _CREATED.findall(statement)}
    found = list(_form(migration, text))
    for statement in (_SIZES.sub("()", each) for each in text):
        touched = {name.lower() for name in _TOUCHED.findall(statement)}
        if touched and touched <= created:
            continue  # a table that has only just been made is not used yet
        rules = TIME if migration.asks_for else COMPATIBILITY + TIME
        found += [f"{rule.name}: {statement!r}: {rule.reason}" for rule in rules if rule.pattern.search(statement)]
        found += _not_null(statement, [*earlier, migration])
    return found


def _form(migration: Migration, text: Sequence[str]) -> Iterator[str]:
    """Whether the file says of itself what it has to."""
    concurrent = [statement for statement in text if re.search(r"\bCONCURRENTLY\b", statement, re.IGNORECASE)]
    if concurrent and not migration.outside_a_transaction:
        yield f"outside a transaction: {concurrent[0]!r} cannot run in one: the line is missing that says so"
    if migration.outside_a_transaction:
        yield from (
            f"repeatable: {statement!r}: outside a transaction a statement may be run again after a failure"
            for statement in text
            if not _REPEATABLE.match(statement)
        )
        if _HIDES_AN_END.search(migration.sql):
            yield "repeatable: outside a transaction no quotes hold a semicolon or a comment: statements end at `;`"
    made = {name for statement in text for name in _MADE_INDEX.findall(statement)}
    gone = {name for statement in text for name in _DROPPED_INDEX.findall(statement)} - made
    if gone and not migration.asks_for:
        yield f"drop index: {', '.join(sorted(gone))}: an older release may need it"
    if migration.asks_for and not SINCE.search(migration.sql):
        yield "contract: a line is missing: -- Contract: not needed since release X.Y.Z, because …"
    if migration.asks_for >= migration.version:
        yield "contract: it cannot be taken away by the migration programs have to know to do without it"
    if "contract" in migration.name and not migration.asks_for:
        yield "contract: the name has to say which migration programs have to know: NNNN_contract_NNNN_what"


def _not_null(statement: str, so_far: Sequence[Migration]) -> list[str]:
    """SET NOT NULL scans the table under a lock, unless a validated check says that there is nothing to find."""
    told = {
        (table.lower(), column.lower())
        for table in _ALTERED.findall(statement)
        for column in _SET_NOT_NULL.findall(statement)
    }
    before = [each for migration in so_far for each in statements(migration.sql)]
    validated = {name.lower() for each in before for name in _VALIDATED.findall(each)}
    checked = {
        (table.lower(), column.lower())
        for each in before
        for table in _ALTERED.findall(each)
        for name, column in _CHECKED.findall(each)
        if name.lower() in validated
    }
    return [f"set not null: {table}.{column} has no validated check" for table, column in sorted(told - checked)]

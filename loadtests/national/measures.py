"""What Postgres itself says: sizes, how much log was written, what a vacuum takes."""

import time
from dataclasses import dataclass
from typing import Any

from loadtests.national.findings import Relation, Vacuum
from loadtests.system.installation import CHECKPOINT_SECONDS, Installation

TABLES = ("dossier", "event")
VACUUM_SECONDS = 4 * 3600.0
AT_ONCE = 1000
"""Dossiers moved on in one transaction."""

# The partitions of a partitioned table, or the table itself.
LEAVES = """
SELECT oid AS relid
  FROM pg_class
 WHERE relkind = 'r'
   AND (oid = $1::text::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::text::regclass))
"""

SIZES = f"""
WITH leaf AS ({LEAVES})
SELECT coalesce(sum(pg_relation_size(relid)), 0)::bigint                            AS heap,
       coalesce(sum(pg_table_size(relid) - pg_relation_size(relid)), 0)::bigint     AS rest
  FROM leaf
"""

# An index of a partition is known by the name of the one it is a part of.
INDEXES = f"""
WITH leaf AS ({LEAVES})
SELECT coalesce(whole.inhparent, each.indexrelid)::regclass::text AS name,
       sum(pg_relation_size(each.indexrelid))::bigint             AS bytes
  FROM leaf
  JOIN pg_index AS each ON each.indrelid = leaf.relid
  LEFT JOIN pg_inherits AS whole ON whole.inhrelid = each.indexrelid
 GROUP BY 1
 ORDER BY 1
"""

LOG = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS bytes,
       wal_records                                                 AS records,
       wal_fpi                                                     AS full_pages
  FROM pg_stat_wal
"""

ACTIVITY = f"""
SELECT coalesce(sum(n_dead_tup), 0)::bigint                   AS dead,
       coalesce(sum(n_tup_upd), 0)::bigint                    AS changed,
       coalesce(sum(n_tup_hot_upd), 0)::bigint                AS in_place,
       coalesce(sum(autovacuum_count), 0)::bigint             AS autovacuums
  FROM unnest($1::text[]) AS wanted (name)
 CROSS JOIN LATERAL ({LEAVES.replace("$1::text", "wanted.name")}) AS leaf
  JOIN pg_stat_user_tables AS stat ON stat.relid = leaf.relid
"""

# As the ledger moves a dossier on: the next version, and its last step once more. The log gets no entry, because the
# chain of hashes is not this program's to go on with.
CHANGE = """
UPDATE dossier
   SET version = version + 1,
       timeline = timeline || (timeline -> -1)
 WHERE code = ANY ($1)
"""


@dataclass(frozen=True)
class Log:
    """How far the log has come, in bytes since the first; records and full pages since the statistics began."""

    bytes: int
    records: int
    full_pages: int


def log(system: Installation) -> Log:
    """Where the log is now."""
    return Log(**system.ask("admin", lambda admin: admin.fetchrow(LOG)))


def database_bytes(system: Installation) -> int:
    """All of the database, without its log."""
    return int(system.ask("admin", lambda admin: admin.fetchval("SELECT pg_database_size(current_database())")))


def counted(system: Installation) -> dict[str, Relation]:
    """The tables that grow, each with its partitions: no estimates."""

    async def work(owner: Any) -> dict[str, Relation]:
        found = {}
        for table in TABLES:
            sizes = await owner.fetchrow(SIZES, table)
            indexes = {row["name"]: row["bytes"] for row in await owner.fetch(INDEXES, table)}
            rows = await owner.fetchval(f"SELECT count(*) FROM {table}", timeout=VACUUM_SECONDS)
            found[table] = Relation(rows, sizes["heap"], sizes["rest"], indexes)
        return found

    return system.ask("owner", work)


@dataclass(frozen=True)
class Activity:
    """What has become of rows since the statistics began; `dead`, now."""

    dead: int
    changed: int
    in_place: int
    autovacuums: int


def activity(system: Installation) -> Activity:
    """Of both tables."""

    async def read(owner: Any) -> Activity:
        return Activity(**await owner.fetchrow(ACTIVITY, list(TABLES)))

    return system.ask("owner", read)


def vacuum(system: Installation) -> float:
    """Vacuum and analyse both tables; the seconds that took."""

    async def work(owner: Any) -> float:
        began = time.monotonic()
        for table in TABLES:
            await owner.execute(f"VACUUM (ANALYZE) {table}", timeout=VACUUM_SECONDS)
        return time.monotonic() - began

    return system.ask("owner", work)


def after_changes(system: Installation, codes: list[str], loaded: tuple[Activity, float]) -> Vacuum:
    """Move these dossiers on and vacuum after that. `loaded`: what was found before the vacuum after the load, and how
    long that took."""

    async def change(writer: Any) -> int:
        count = 0
        for start in range(0, len(codes), AT_ONCE):
            status = await writer.execute(CHANGE, codes[start : start + AT_ONCE], timeout=CHECKPOINT_SECONDS)
            count += int(status.rpartition(" ")[2])
        await writer.execute("SELECT pg_stat_force_next_flush()")
        return count

    before, began = activity(system), log(system)
    changed = system.ask("writer", change)
    after, ended = activity(system), log(system)
    return Vacuum(
        after_load_seconds=loaded[1],
        after_load_dead=loaded[0].dead,
        autovacuums=loaded[0].autovacuums,
        changed=changed,
        in_place=after.in_place - before.in_place,
        change_wal_bytes=ended.bytes - began.bytes,
        dead=after.dead,
        seconds=vacuum(system),
    )

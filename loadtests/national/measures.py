"""What Postgres itself says: sizes, how much log was written."""

from typing import Any

from loadtests.national.findings import Relation
from loadtests.system.installation import Installation

TABLES = ("dossier", "event")
VACUUM_SECONDS = 4 * 3600.0

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

LOG = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


def log(system: Installation) -> int:
    """How far the log has come, in bytes since the first."""
    return int(system.ask("admin", lambda admin: admin.fetchval(LOG)))


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


def vacuum(system: Installation) -> None:
    """Vacuum and analyse both tables."""

    async def work(owner: Any) -> None:
        for table in TABLES:
            await owner.execute(f"VACUUM (ANALYZE) {table}", timeout=VACUUM_SECONDS)

    system.ask("owner", work)

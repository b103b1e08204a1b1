"""Up to where the log is settled: nothing is written behind it any more, so whoever has read that far has read all."""

from typing import Final

AFTER: Final = 12
"""Seconds after which an epoch's events are settled: a transaction that read the epoch before has ended within ten
(lookup/schema/roles.sql), so that nothing is written behind what was read."""

EPOCH: Final = f"""(SELECT coalesce(max(number) FILTER (WHERE started_at <= now() - interval '{AFTER} s'),
                        min(number))
          FROM epoch)"""
"""SQL: the newest epoch that is settled."""

BEFORE_OPEN_ONES: Final = f"(epoch, xid) < ({EPOCH}, pg_snapshot_xmin(pg_current_snapshot()))"
"""SQL: the condition on rows of the log that no open transaction can still get behind."""

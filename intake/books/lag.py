"""How far delivery lags behind the log, as the heartbeat row says it: what a client's many changes are held up by.

With each heartbeat the relay writes `delivered_at`, which is `at` less the time that the oldest undelivered change has
waited. While more changes wait than a batch holds it writes that ten times a second, and leaves `at`. So the lag is the
difference of the two. The time since `delivered_at` would be up to a second on an idle system. A relay that is halted,
or does not know what is delivered, leaves `delivered_at` as it was.
"""

from typing import Any, Final

LAG: Final = """
SELECT extract(epoch FROM greatest(
           CASE WHEN clock_timestamp() - at < interval '1.5 seconds' THEN at - delivered_at
                ELSE clock_timestamp() - delivered_at END,
           interval '0'))::float8
  FROM heartbeat
 WHERE delivered_at IS NOT NULL
"""
"""One value, for a statement of its own or in brackets within another. Any role that reads `heartbeat`."""


async def lag(connection: Any) -> float | None:
    """Seconds for which the oldest change has waited for its delivery; 0 when none waits.

    It grows with the clock while no relay leads, and while the relay is halted. None until a relay of this release has
    led: it is not known. Raises what the connection raises.
    """
    seconds: float | None = await connection.fetchval(LAG)
    return seconds

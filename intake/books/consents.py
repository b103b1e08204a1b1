"""Table `consent`: where an applicant agreed to be told what becomes of a dossier.

It is no part of the books: an address is personal data, and changes without an event.
"""

from collections.abc import Mapping
from typing import Any

# What was agreed to before and stands goes on: a notice that is on its way does not lose it.
GIVE = """
INSERT INTO consent AS c (code, channel, address, given_by)
VALUES ($1, $2, $3, $4)
ON CONFLICT (code, channel) DO UPDATE
   SET address      = excluded.address,
       given_at     = CASE WHEN c.withdrawn_at IS NULL AND c.address = excluded.address THEN c.given_at ELSE now() END,
       given_by     = excluded.given_by,
       withdrawn_at = NULL
"""

WITHDRAW = """
UPDATE consent
   SET withdrawn_at = now()
 WHERE code = $1
   AND channel = $2
   AND withdrawn_at IS NULL
"""


async def give(connection: Any, code: str, addresses: Mapping[str, str], by: str) -> None:
    """Write down that the applicant agreed: channel → address. `by`: who wrote it down, a client or an officer.

    In the transaction of a reception, or of its own. Raises what the connection raises.
    """
    for channel, address in addresses.items():
        await connection.execute(GIVE, code, channel, address, by)


async def withdraw(connection: Any, code: str, channel: str) -> None:
    """From now on nothing more is told by this channel; safe to repeat. Raises what the connection raises."""
    await connection.execute(WITHDRAW, code, channel)

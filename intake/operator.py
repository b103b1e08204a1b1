"""What an operator's commands do to one dossier: its lookup key for who has none, its owner, and its removal.

Each is an event of the log, sealed, or a row in the log of reads; `by` is the person who called the command.
"""

from datetime import UTC, datetime
from typing import Any

from intake.books.erase import erase
from intake.books.ledger import OPERATOR, operate
from intake.books.reads import note_read
from intake.books.seal import SealKeys
from intake.clients import ClientRefused, find
from intake.refusals import DossierHeld, UnknownDossier
from intake.rules.apply import code_day
from intake.rules.changes import OwnerChange, Reissue, Removal
from intake.rules.scope import may_change
from lookup.catalogue import CatalogueCopy
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing
from lookup.status import Status

KEY_SERIAL = """
SELECT key_serial
  FROM dossier
 WHERE code = $1
   AND NOT removed
"""

HOLDER = """
SELECT agency, origin
  FROM dossier
 WHERE code = $1
"""

IS_REMOVED = """
SELECT removed,
       EXISTS (SELECT FROM hold AS h WHERE h.code = d.code AND h.kind = 'legal' AND h.lifted_at IS NULL) AS held
  FROM dossier AS d
 WHERE code = $1
"""


async def lookup_key(writer: Any, keys: KeyRing, code: DossierCode, *, by: str) -> str:
    """The lookup key of a dossier, noted in the log of reads first. Raises UnknownDossier, Unavailable."""
    async with writer.transaction():
        serial = await writer.fetchval(KEY_SERIAL, code.text)
        if serial is None:
            raise UnknownDossier
        await note_read(writer, by, OPERATOR, code.text, "key")
    return keys.key(code, serial)


async def new_lookup_key(
    writer: Any, keys: KeyRing, seals: SealKeys, code: DossierCode, *, by: str, reason: str | None
) -> str:
    """A new lookup key; all earlier ones of the dossier open it no longer once the change is delivered.

    Raises UnknownDossier, KeysUsedUp, Unavailable; then the old key is still good.
    """
    async with writer.transaction():
        await note_read(writer, by, OPERATOR, code.text, "key")
        after = await operate(writer, seals, code, Reissue(reason=reason), actor=by)
    return keys.key(code, after.key_serial)


async def change_owner(
    writer: Any, seals: SealKeys, code: DossierCode, client: str | None, *, by: str, reason: str | None
) -> int:
    """Make this client's synchronisation set the dossier's status, or with None that of any client of the scope.

    The dossier's version after it; the present one when the owner is the same already. Raises UnknownDossier, and
    ClientRefused for a client that could not synchronise this dossier: of all that is sent nothing would be applied.
    """
    async with writer.transaction():
        if client is not None:
            await _require_sync(writer, client, code)
        after = await operate(writer, seals, code, OwnerChange(owner=client, reason=reason), actor=by)
    return after.version


async def _require_sync(writer: Any, client: str, code: DossierCode) -> None:
    found = await find(writer, client)
    row = await writer.fetchrow(HOLDER, code.text)
    if row is None:
        raise UnknownDossier
    catalogue, today = await CatalogueCopy(writer).get(), code_day(datetime.now(UTC))
    if not may_change(catalogue, found.agency, today, row["agency"], row["origin"], Status.PROCESSING):
        raise ClientRefused(
            f"The scope of client {client} is {found.agency}, and {code.text} is held by {row['agency']}, which is "
            f"outside it; `hoso24 client scope {client} --agency …` changes the scope."
        )


async def remove(
    writer: Any, archivist: Any, seals: SealKeys, code: DossierCode, *, by: str, reason: str
) -> tuple[bool, int]:
    """Remove a dossier for good and erase what its events say: whether it was there, and how many events were erased.

    The row is emptied by an event; then the archivist empties the events. When it was interrupted in between, the same
    call goes on. Raises UnknownDossier if there is none, DossierHeld, ReasonRequired, and what the connections raise.
    """
    row = await writer.fetchrow(IS_REMOVED, code.text)
    if row is None:
        raise UnknownDossier
    removed = row["removed"]
    if row["held"] and not removed:
        raise DossierHeld
    if not removed:
        async with writer.transaction():
            await operate(writer, seals, code, Removal(reason=reason), actor=by)
    return not removed, await erase(archivist, code.text)

"""What an operator's commands do to one dossier: its lookup key for who has none, and its removal.

Each is an event of the log, sealed, or a row in the log of reads; `by` is the person who called the command.
"""

from typing import Any

from intake.books.erase import erase
from intake.books.ledger import OPERATOR, operate
from intake.books.reads import note_read
from intake.books.seal import SealKeys
from intake.refusals import UnknownDossier
from intake.rules.changes import Reissue, Removal
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing

KEY_SERIAL = """
SELECT key_serial
  FROM dossier
 WHERE code = $1
   AND NOT removed
"""

IS_REMOVED = """
SELECT removed
  FROM dossier
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


async def remove(
    writer: Any, archivist: Any, seals: SealKeys, code: DossierCode, *, by: str, reason: str
) -> tuple[bool, int]:
    """Remove a dossier for good and erase what its events say: whether it was there, and how many events were erased.

    The row is emptied by an event; then the archivist empties the events. When it was interrupted in between, the same
    call goes on. Raises UnknownDossier if there is none, ReasonRequired, and what the connections raise.
    """
    removed = await writer.fetchval(IS_REMOVED, code.text)
    if removed is None:
        raise UnknownDossier
    if not removed:
        async with writer.transaction():
            await operate(writer, seals, code, Removal(reason=reason), actor=by)
    return not removed, await erase(archivist, code.text)

"""Access to dossiers: which view a request gets, and whether it is slowed, held back or refused.

JSON, pages and early answers all use this, and each lookup is counted here or under the labels named here.
"""

import asyncio
from typing import NoReturn

from multidict import CIMultiDictProxy

from lookup import code as codes
from lookup import metrics
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing, MalformedKey
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Limits, Rate, TooManyRequests
from lookup.reading.reader import Found, Missing, Reader
from lookup.reading.shedding import REFUSED_AFTER, Overloaded
from ops.errors import Kind, Refusal
from ops.http.access import note_held_back
from ops.http.client_address import FORWARDED, Clients
from ops.observe import tracing


class DossierNotFound(Refusal):
    """No dossier has this code or number."""

    kind = Kind.NOT_FOUND
    code = "dossier_not_found"
    title = "There is no dossier with this code."
    title_vi = "Không có hồ sơ nào mang mã này."


class DossierOrKeyNotFound(Refusal):
    """No dossier has this code with this key. Deliberately does not say which of the two is wrong."""

    kind = Kind.NOT_FOUND
    code = "dossier_or_key_not_found"
    title = "No dossier matches this code and this lookup key together."
    title_vi = "Không có hồ sơ nào khớp với mã hồ sơ và mã tra cứu này."


class AccessPolicy:
    """Looks up one dossier at a time: checks the key, reads, and slows a client that probes."""

    def __init__(self, reader: Reader, keys: KeyRing, *, limits: Limits, clients: Clients) -> None:
        self.reader = reader
        self._keys = keys
        self._limits = limits
        self._clients = clients

    def client(self, peer: str | None, asked: CIMultiDictProxy[str]) -> bytes | None:
        """The client as rates count it; None for a partner, which has no rate.

        `peer`: the address of the connection; `asked`: the request's headers.
        """
        return self._clients.client(peer, ",".join(asked.getall(FORWARDED, ())))

    def trusts(self, peer: str | None) -> bool:
        """Whether this address is one of our proxies."""
        return self._clients.trusts(peer)

    async def find(
        self, code: DossierCode, key: str | None = None, at_least: int = 0, client: bytes | None = None
    ) -> Found:
        """The dossier, for anyone (`key` None) or for its holder. Each call is counted once in lookup_answers_total.

        Raises DossierNotFound, DossierOrKeyNotFound, MalformedKey, StatusUnavailable, Overloaded or TooManyRequests. A
        wrong key for a code is refused before anything is read, so that response and timing do not reveal whether the
        code exists. The answer is held back when the client exceeds a rate.
        """
        source, outcome = "nowhere", "unavailable"
        try:
            found = await self._read(code, key, at_least, client)
            source = found.source
            if isinstance(found, Missing):
                outcome = "missing"
                raise DossierNotFound if key is None else DossierOrKeyNotFound
            outcome = "stale" if found.stale else "found"
            metrics.ANSWER_AGE.observe(found.age / SECOND)
            return found
        except Refusal as refusal:
            if source == "nowhere":
                _, outcome = self.refused(refusal)
            raise
        finally:
            metrics.answers(source, outcome).inc()

    async def _read(self, code: DossierCode, key: str | None, at_least: int, client: bytes | None) -> Found | Missing:
        if key is None:
            found = await self._reader_find(code, at_least, client)
            seconds = self.toll(client, code, found.source, missing=isinstance(found, Missing))
            await self.hold_back(client, seconds)
            return found
        serial = self._keys.serial(code, key)
        if serial is None and code.scheme is not codes.Scheme.D:
            await self._wrong_key(client, "forged")
        # Intake made this key when it registered the dossier. A cached "none" may be older than that, stored when an
        # enumerator asked for the code before it was issued.
        found = await self._reader_find(code, at_least, client, issued=serial is not None)
        if isinstance(found, Missing):
            if serial is None:
                await self._wrong_key(client, "forged")
            await self.hold_back(client, self._limits.probed(client, Rate.MISSING))
            return found
        if found.record.code != code.text:  # asked by official number: the key is the code's
            serial = self._keys.serial(codes.parse(found.record.code), key)
        if serial != found.record.key_serial:
            await self._wrong_key(client, "forged" if serial is None else "superseded")
        return found

    async def _reader_find(
        self, code: DossierCode, at_least: int, client: bytes | None, *, issued: bool = False
    ) -> Found | Missing:
        async def before_primary() -> None:
            await self.hold_back(client, self._limits.probed(client, Rate.PRIMARY))

        try:
            return await self.reader.find(
                code, at_least, issued=issued, before_primary=before_primary if at_least else None
            )
        except Overloaded:
            with tracing.span("turn away"):
                await asyncio.sleep(REFUSED_AFTER)
            raise

    async def _wrong_key(self, client: bytes | None, reason: str) -> NoReturn:
        metrics.WRONG_KEYS.labels(reason).inc()
        await self.hold_back(client, self._limits.probed(client, Rate.WRONG_KEY))
        raise DossierOrKeyNotFound

    def toll(self, client: bytes | None, code: DossierCode, source: str, *, missing: bool) -> float:
        """Charge a lookup without a key. Returns the seconds its answer has to be held back, 0.0 for none.

        `source`: where the answer came from. A dossier found in process memory is free.
        """
        if missing:
            return self._limits.probed(client, Rate.MISSING)
        return 0.0 if source == "memory" else self._limits.found(client, code)

    async def hold_back(self, client: bytes | None, seconds: float) -> None:
        """Wait `seconds`. Raises TooManyRequests when HELD_BACK answers of this client wait already."""
        if seconds:
            note_held_back()
            with tracing.span("hold back"):
                await self._limits.hold_back(client, seconds)

    @staticmethod
    def refused(refusal: Refusal) -> tuple[str, str]:
        """The source and outcome under which a lookup refused before its answer is counted."""
        return "nowhere", _REFUSED.get(type(refusal), "unavailable")


_REFUSED: dict[type[Refusal], str] = {
    DossierOrKeyNotFound: "wrong_key",
    MalformedKey: "wrong_key",
    Overloaded: "shed",
    TooManyRequests: "limited",
}
"""Refusal → outcome of a lookup refused before its answer; any other refusal counts as "unavailable"."""

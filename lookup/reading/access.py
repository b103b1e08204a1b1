"""Access to dossiers: which view a request gets, and whether it is refused.

JSON, pages and early answers all use this, and each lookup is counted here or under the labels named here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn

from multidict import CIMultiDictProxy

from lookup import code as codes
from lookup import metrics
from lookup.code import DossierCode, prefix_of
from lookup.lookup_key import KeyRing, MalformedKey
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Asker, Limits, Rate, TooManyRequests
from lookup.reading.read_through import VersionNotReached
from lookup.reading.reader import Found, Missing, Reader
from lookup.reading.shedding import REFUSED_AFTER, Overloaded
from ops.errors import Kind, Refusal
from ops.http.client_address import FORWARDED, Clients
from ops.observe import tracing

UNKNOWN: Asker = (None, "")
"""An asker without an address."""


class DossierNotFound(Refusal):
    """No dossier has this code or number."""

    kind = Kind.NOT_FOUND
    code = "dossier_not_found"
    title = "There is no application with this code in this system yet."
    title_vi = "Hệ thống này chưa có hồ sơ mang mã này."
    advice = "Compare the code with the receipt. A dossier received just now is here within seconds."
    advice_vi = "So lại mã với giấy tiếp nhận. Hồ sơ vừa tiếp nhận sẽ có ở đây sau vài giây."
    repeating_helps = True


class DossierOrKeyNotFound(Refusal):
    """No dossier has this code with this key. Deliberately does not say which of the two is wrong."""

    kind = Kind.NOT_FOUND
    code = "dossier_or_key_not_found"
    title = "No application matches both the code and the access key."
    title_vi = "Không có hồ sơ nào khớp với cả hai mã này."
    advice = "Compare both with the newest receipt: a key that was issued anew replaces the one before."
    advice_vi = "So lại cả hai mã với giấy tiếp nhận mới nhất: mã tra cứu cấp lại thay thế mã trước."


class KeyRequired(Refusal):
    """This installation shows no status without its key. Says nothing about the code."""

    kind = Kind.FORBIDDEN
    code = "lookup_key_required"
    title = "The access key on the receipt is needed to see this application."
    title_vi = "Cần có mã tra cứu in trên giấy tiếp nhận để xem hồ sơ này."
    advice = "Send the access key on the receipt in the header Hoso24-Key."
    advice_vi = "Gửi mã tra cứu in trên giấy tiếp nhận trong tiêu đề Hoso24-Key."


class AccessPolicy:
    """Looks up one dossier at a time: checks the key, reads, and refuses a client over its limits."""

    def __init__(
        self, reader: Reader, keys: KeyRing, *, limits: Limits, clients: Clients, key_required: bool = False
    ) -> None:
        self.reader = reader
        self._keys = keys
        self._limits = limits
        self._clients = clients
        self.key_required = key_required
        """Whether nothing is shown without a key."""
        self.knows = limits.knows
        """Whether an asker was shown this code lately, by the hash of both: then it is shown again."""

    @staticmethod
    def asker(peer: str | None, asked: CIMultiDictProxy[str]) -> Asker:
        """Who asks, as limits remember it. `peer`: the address of the connection; `asked`: the request's headers."""
        return peer or None, ",".join(asked.getall(FORWARDED, ()))

    def trusts(self, peer: str | None) -> bool:
        """Whether this address is one of our proxies."""
        return self._clients.trusts(peer)

    async def find(self, code: DossierCode, key: str | None = None, at_least: int = 0, asker: Asker = UNKNOWN) -> Found:
        """The dossier, for anyone (`key` None) or for its holder. Each call is counted once in lookup_answers_total.

        Raises DossierNotFound, DossierOrKeyNotFound, KeyRequired, MalformedKey, StatusUnavailable, VersionNotReached,
        Overloaded or TooManyRequests. A wrong key for a code is refused before the dossier is read, so that response
        and timing do not reveal whether the code exists. Without a key, a client over a limit is refused before
        anything is read.
        """
        source, outcome = "nowhere", "unavailable"
        try:
            found = await self._read(code, key, at_least, asker)
            source = found.source
            if isinstance(found, Missing):
                outcome = "missing"
                raise self.not_found(asker, DossierNotFound if key is None else DossierOrKeyNotFound)
            outcome = "stale" if found.stale else "found"
            metrics.ANSWER_AGE.observe(found.age / SECOND)
            return found
        except Refusal as refusal:
            if source == "nowhere":
                source, outcome = self.refused(refusal)
            raise
        finally:
            metrics.answers(source, outcome).inc()

    async def _read(self, code: DossierCode, key: str | None, at_least: int, asker: Asker) -> Found | Missing:
        if key is None:
            if self.key_required:
                raise KeyRequired
            _raise(self.is_over(asker, code.text))
            found = await self._reader_find(code, at_least, asker)
            _raise(self.missed(asker) if isinstance(found, Missing) else self.disclose(asker, code.text))
            return found
        serial = self._keys.serial(code, key)
        if serial is None:
            # It can only be the key of the code behind an official number. Whether there is a dossier with the code
            # that was typed is not looked at, so that it makes no difference to what is read, nor to the time.
            code, serial = await self._key_of_number(code, key)
        if serial is None:
            self._wrong_key(asker, "forged")
        # Intake made this key when it registered the dossier. A cached "none" may be older than that, stored when an
        # enumerator asked for the code before it was issued.
        found = await self._reader_find(code, at_least, asker, issued=True)
        if isinstance(found, Missing):
            _raise(self.missed(asker))
            return found
        if found.record.code != code.text:  # there is no such dossier any more, but a number that looks like its code
            self._wrong_key(asker, "forged")
        if serial != found.record.key_serial:
            self._wrong_key(asker, "superseded")
        return found

    async def _key_of_number(self, number: DossierCode, key: str) -> tuple[DossierCode, int | None]:
        """The code behind an official number, and the serial of its key if this is one."""
        if number.scheme is not codes.Scheme.D:
            return number, None
        async with _told_later():
            code = await self.reader.behind(number)
        return (number, None) if code is None else (code, self._keys.serial(code, key))

    async def _reader_find(
        self, code: DossierCode, at_least: int, asker: Asker, *, issued: bool = False
    ) -> Found | Missing:
        def before_primary() -> None:
            _raise(self._limits.probed(self._client(asker), Rate.PRIMARY))

        async with _told_later():
            return await self.reader.find(
                code, at_least, issued=issued, before_primary=before_primary if at_least else None
            )

    def _wrong_key(self, asker: Asker, reason: str) -> NoReturn:
        metrics.WRONG_KEYS.labels(reason).inc()
        client = self._client(asker)
        _raise(self._limits.probed(client, Rate.WRONG_KEY))
        raise DossierOrKeyNotFound().with_headers(self._limits.headers(client, Rate.WRONG_KEY))

    def is_over(self, asker: Asker, code: str) -> TooManyRequests | None:
        """The refusal for a code that would be shown without its key, before anything is read for it, if any."""
        return self._limits.is_over(hash((asker, code)), self._client(asker), prefix_of(code))

    def disclose(self, asker: Asker, code: str) -> TooManyRequests | None:
        """Charge a dossier that is about to be shown without its key; the refusal if it must not be shown.

        A code this asker was shown before is free.
        """
        pair = hash((asker, code))
        return None if self.knows(pair) else self.disclose_first(pair, asker, code)

    def disclose_first(self, pair: int, asker: Asker, code: str) -> TooManyRequests | None:
        """The same, of a pair of asker and code that `knows` does not know."""
        return self._limits.disclose(pair, self._clients.client(*asker), prefix_of(code))

    def missed(self, asker: Asker) -> TooManyRequests | None:
        """Charge a code that does not exist; the refusal if its client asked for too many."""
        return self._limits.probed(self._client(asker), Rate.MISSING)

    def rated(self, asker: Asker) -> TooManyRequests | None:
        """Charge a rating of the pages; the refusal if its client sent too many."""
        return self._limits.probed(self._client(asker), Rate.RATING)

    def not_found(self, asker: Asker, of: type[Refusal]) -> Refusal:
        """The refusal `of` this class of a code that `missed` charged, with what is left of the rate in its headers."""
        return of().with_headers(self._limits.headers(self._client(asker), Rate.MISSING))

    def rate_headers(self, asker: Asker) -> Mapping[str, str]:
        """What is left of this asker's allowances, as headers of an answer to several lookups."""
        return self._limits.headers(self._client(asker), Rate.MISSING, dossiers=True)

    def _client(self, asker: Asker) -> bytes | None:
        """The client as limits count it; None for a partner."""
        return self._clients.client(*asker)

    @staticmethod
    def refused(refusal: Refusal) -> tuple[str, str]:
        """The source and outcome under which a lookup refused before its answer is counted."""
        source = "postgres" if isinstance(refusal, VersionNotReached) else "nowhere"
        return source, _REFUSED.get(type(refusal), "unavailable")


_REFUSED: dict[type[Refusal], str] = {
    DossierOrKeyNotFound: "wrong_key",
    KeyRequired: "key_required",
    MalformedKey: "wrong_key",
    Overloaded: "shed",
    TooManyRequests: "limited",
    VersionNotReached: "not_reached",
}
"""Refusal → outcome of a lookup refused before its answer; any other refusal counts as "unavailable"."""


@contextlib.asynccontextmanager
async def _told_later() -> AsyncIterator[None]:
    """Around a read: a refusal for overload goes on after REFUSED_AFTER seconds."""
    try:
        yield
    except Overloaded:
        with tracing.span("turn away"):
            await asyncio.sleep(REFUSED_AFTER)
        raise


def _raise(refusal: TooManyRequests | None) -> None:
    if refusal is not None:
        raise refusal

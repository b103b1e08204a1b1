"""The slip with a dossier's lookup key, for applicants who have none: of an import, or whose receipt is lost."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from intake.desk.forms import read_form
from intake.desk.frame import DOSSIER, Desk, may
from intake.desk.layout import answer
from intake.desk.shown import office_on_paper
from intake.papers.rendering import Press, Printing
from intake.refusals import VersionMismatch
from intake.rules.requests import KeyRequest, read_value
from lookup import code as codes
from lookup.clock import local


class KeySlipPages:
    """For officers who may correct; others find nothing here."""

    def __init__(self, desk: Desk, press: Press) -> None:
        self._desk = desk
        self._press = press

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.post(f"{DOSSIER}/{{code}}/ma-tra-cuu", self.slip)]

    async def slip(self, request: web.Request) -> web.Response:
        """The slip as PDF; the read of the key is logged before. With the field `reissue` the keys before it are dead.

        The same form sent again makes no second new key. Raises UnknownDossier, also of a dossier that this officer may
        not correct; KeysUsedUp, PaperNotReady, Unavailable.
        """
        officer, code = may(request, "correct"), codes.parse(request.match_info["code"])
        form, catalogue = await read_form(request), await self._desk.catalogue.get()
        reissue, keyed = bool(form.get("reissue")), form.keyed(officer)
        # The page stays open, and its forms have one key: this one has its own, and reading the key is repeated.
        once = uuid.uuid5(uuid.UUID(keyed.key), "key_reissued") if reissue else uuid.uuid4()
        asked = {"reissue": reissue, "reason": form.get("reason"), "expected_version": form.version}
        wanted = read_value(asked if reissue else {}, KeyRequest)
        try:
            told = await self._desk.ledger.key(replace(keyed, key=str(once)), code, wanted, catalogue)
        except VersionMismatch:
            return await self._desk.stale(request, code, form)
        content = {
            "form": "key",
            "code": code.text,
            "agency": office_on_paper(catalogue, officer.agency, self._desk.today()),
            "issued_at": local(datetime.now(UTC)),
        }
        printing = Printing(site=self._desk.public_url, key=self._desk.keys.key(code, told["key_serial"]))
        made = await self._press.paper(msgspec.json.encode(content).decode(), printing)
        return answer(request, made, "application/pdf", name=f"{code.path}-ma-tra-cuu.pdf")

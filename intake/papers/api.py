"""The JSON API of papers: those of a dossier, and one that changes nothing else.

Papers that a change makes are named in that change's answer.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from intake.admission import ADMISSION, CLIENT
from intake.answers import Issued, PaperList, PaperView
from intake.api import DOSSIERS, IN_THE_PATH, KEYED, OF_A_DOSSIER, keyed
from intake.books.ledger import Ledger
from intake.books.paper_rows import PaperAltered, content_of, stamp_of
from intake.papers.printing import Printer
from intake.refusals import (
    BadDate,
    MoveNotAllowed,
    NoPapers,
    PaperErased,
    PaperNotReady,
    ReasonRequired,
    UnknownDossier,
    UnknownPaper,
)
from intake.rules.changes import IssuePaper
from intake.rules.requests import NewPaper
from lookup import code as codes
from lookup.catalogue import CatalogueCopy
from lookup.clock import local
from lookup.code import DossierCode, MalformedCode
from lookup.lookup_key import KeyRing
from ops.http.endpoints import Endpoint, Example
from ops.http.parameters import Parameter


class PapersApi:
    """The endpoints; each method is one."""

    def __init__(self, ledger: Ledger, catalogue: CatalogueCopy, keys: KeyRing, site: str) -> None:
        """`keys`: what lookup keys are derived by. `site`: the address at which citizens reach the lookup."""
        self._ledger = ledger
        self._catalogue = catalogue
        self.printer = Printer(ledger, keys, site)

    def endpoints(self) -> list[Endpoint]:
        """Those below a dossier."""
        papers = f"{DOSSIERS}/{{code}}/papers"
        return [
            Endpoint(
                method="GET",
                path=papers,
                handler=self.papers,
                gives=PaperList,
                parameters=(IN_THE_PATH,),
                refuses=(*ADMISSION, MalformedCode, UnknownDossier),
                action="read",
            ),
            Endpoint(
                method="GET",
                path=papers + r"/{version:\d+}.pdf",
                handler=self.paper,
                gives=None,
                media="application/pdf",
                parameters=(IN_THE_PATH, _VERSION),
                refuses=(*ADMISSION, MalformedCode, UnknownDossier, UnknownPaper, PaperErased, PaperNotReady),
                action="read",
            ),
            Endpoint(
                method="POST",
                path=papers,
                handler=self.issue,
                name="issue_paper",
                takes=NewPaper,
                gives=Issued,
                parameters=(IN_THE_PATH, KEYED),
                refuses=(*OF_A_DOSSIER, NoPapers, MoveNotAllowed, ReasonRequired, BadDate),
                action="move",
                example=Example(body={"form": "apology", "reason": "Chờ kết quả xác minh (ví dụ)."}),
            ),
        ]

    async def papers(self, request: web.Request) -> PaperList:
        """The papers of a dossier with their stamps, for a client whose scope covers an agency of it; logged."""
        code = codes.parse(request.match_info["code"])
        rows = await self._ledger.papers(request[CLIENT], code, await self._catalogue.get())
        return PaperList(code.text, [_view(code, row) for row in rows])

    async def paper(self, request: web.Request) -> web.Response:
        """The paper that was issued with this version, as PDF, made anew each time. Read and print are logged.

        A receipt has the lookup key on it, if the client may correct or submitted the dossier.

        From the second print on it says which it is.
        """
        code = codes.parse(request.match_info["code"])
        version = int(request.match_info["version"])
        made = await self.printer.paper(request[CLIENT], code, version, await self._catalogue.get())
        headers = {"Content-Disposition": f'inline; filename="{code.path}-{version}.pdf"'}
        return web.Response(body=made, content_type="application/pdf", headers=headers | {"Cache-Control": "no-store"})

    async def issue(self, request: web.Request, new: NewPaper) -> Issued:
        """Issue a control slip, or an apology without a new date."""
        code = codes.parse(request.match_info["code"])
        answer = await self._ledger.one_stop(
            await keyed(request, f"{code.path}/papers"),
            code,
            IssuePaper(form=new.form, reason=new.reason),
            officer=new.officer,
            expected_version=new.expected_version,
            catalogue=await self._catalogue.get(),
        )
        return msgspec.convert(answer, Issued)


def _view(code: DossierCode, row: Mapping[str, Any]) -> PaperView:
    try:
        content, altered = content_of(row), False
    except PaperAltered:
        content, altered = None, True
    return PaperView(
        **{name: row[name] for name in _AS_THEY_ARE},
        issued_at=local(row["issued_at"]),
        digest=row["digest"].hex(),
        stamp=None if content is None else stamp_of(row, content).text(code),
        erased=row["erased_at"] is not None,
        altered=altered,
    )


_VERSION = Parameter(
    name="version",
    place="path",
    says="The dossier's version with which the paper was issued.",
    type=int,
    required=True,
    example=1,
)
_AS_THEY_ARE = ("agency", "form", "year", "number", "version", "form_version", "issued_by", "key_id")

"""What the desk's pages share beside their layout: the ledger, the log of reads, refusals as pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal

from aiohttp import web

from intake.books.ledger import Ledger
from intake.books.reads import note_reads
from intake.desk.forms import Form
from intake.desk.layout import INBOX, OFFICER, SIGN_IN, page
from intake.desk.officers import CLIENT, Officer, office_of
from intake.desk.words import WORDS
from intake.refusals import UnknownDossier, VersionMismatch
from lookup.catalogue import CatalogueCopy
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing
from ops.errors import Kind, Refusal
from ops.http.problems import HTTP_STATUS, completed
from ops.observe import logs
from ops.stores.postgres import Postgres

Screen = Literal["inbox", "search", "dossier", "paper", "handover", "register", "key", "unit"]
"""What is shown, for the log of reads."""

# `issuer|subject`, as Officer.actor spells it; another source's actor is no officer's.
SINCE = """
SELECT e.version, e.occurred_at, e.recorded_at, e.kind, e.status, e.source, e.actor, o.name
  FROM event AS e
  LEFT JOIN officer AS o ON e.source = 'desk' AND o.issuer || '|' || o.subject = e.actor
 WHERE e.code = $1 AND e.version > $2
 ORDER BY e.version DESC
"""

DOSSIER: Final = f"{INBOX}/ho-so"
"""Below it is a dossier's page, under its code's path."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What pages work with. All of it raises Unavailable while PostgreSQL is away."""

    postgres: Postgres
    ledger: Ledger
    catalogue: CatalogueCopy
    keys: KeyRing
    public_url: str

    def today(self) -> date:
        """The day in Vietnam."""
        return datetime.now(UTC).astimezone(VIETNAM).date()

    def office(self, officer: Officer) -> frozenset[str]:
        """The agencies whose work is this officer's office's today."""
        return office_of(self.catalogue.current, officer.agency, self.today())

    async def read_logged(self, officer: Officer, codes: Sequence[str], screen: Screen) -> None:
        """Record that this officer is shown the personal data of these dossiers; call it before they are put on a page.

        Raises Unavailable whenever that cannot be written: then none may be shown.
        """
        await note_reads(self.postgres, officer.actor, CLIENT, codes, screen)

    async def stale(self, request: web.Request, code: DossierCode, form: Form) -> web.Response:
        """The page for a form made from an older version: who changed the dossier, and the typed text to send again.

        Only for an officer who may read the dossier, as whoever gets a VersionMismatch may.
        """
        since = await self.postgres.fetch(SINCE, code.text, form.version or 0)
        says = WORDS["stale.says.nobody"]
        if since:
            last = since[0]
            when = f"{last['recorded_at'].astimezone(VIETNAM):%H:%M ngày %d/%m/%Y}"
            says = WORDS["stale.says"].format(name=last["name"] or last["source"], when=when)
        version = since[0]["version"] if since else form.version or 0
        context = {
            "heading": WORDS["stale.title"],
            "says": says,
            "link": {"href": f"{DOSSIER}/{code.path}", "says": WORDS["stale.look"]},
            "action": request.path,
            "fields": form.with_version(version),
            "typed": form.typed,
        }
        return page(request, "again.html", context, status=HTTP_STATUS[VersionMismatch.kind])


def officer_of(request: web.Request) -> Officer:
    """The signed-in officer of a page below INBOX."""
    return request[OFFICER]


def session_over(request: web.Request, form: Form) -> web.Response:
    """The page for a form whose session has ended: where to sign in, and the same form to be sent again."""
    context = {
        "heading": WORDS["over.title"],
        "says": WORDS["over.says"],
        "link": {"href": SIGN_IN, "says": WORDS["over.sign_in"]},
        "action": form.address,
        "fields": form.fields,
        "typed": form.typed,
    }
    return page(request, "again.html", context, status=401)


def refusal_page(request: web.Request, refusal: Refusal) -> web.Response:
    """Any refusal as a page: what is wrong, the request's id where it is our fault, and the way back."""
    heading, says = WORDS["problem.title"], refusal.detail_vi or refusal.title_vi
    if isinstance(refusal, UnknownDossier):
        heading, says = WORDS["problem.not_found"], WORDS["problem.unknown_dossier"]
    elif refusal.kind is Kind.NOT_FOUND:
        heading = WORDS["problem.not_found"]
    elif refusal.kind is Kind.UNAVAILABLE:
        says = WORDS["problem.unavailable"]
    sentences = [says]
    if refusal.kind in (Kind.UNAVAILABLE, Kind.INTERNAL):
        sentences.append(f"{WORDS['problem.request_id']} {logs.request_id.get() or ''}")
    context = {
        "heading": heading,
        "says": sentences,
        "button": None,
        "link": {"href": INBOX, "says": WORDS["problem.back"]},
    }
    return page(request, "message.html", context, status=HTTP_STATUS[refusal.kind])


def render_problem(request: web.Request, refusal: Refusal) -> web.StreamResponse:
    """What the middleware of problems answers."""
    return completed(refusal_page(request, refusal), refusal)

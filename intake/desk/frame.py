"""What the desk's pages share beside their layout: the ledger, the log of reads, refusals as pages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, cast

from aiohttp import web

from intake.books.ledger import Ledger
from intake.books.reads import note_reads
from intake.desk.forms import OVERRIDE, Form
from intake.desk.layout import INBOX, OFFICER, SIGN_IN, page
from intake.desk.officers import CLIENT, Officer, office_of
from intake.desk.words import WORDS
from intake.refusals import PolicyAsks, PolicyBlocks, UnknownDossier, VersionMismatch
from intake.rules.requests import InvalidContent
from lookup.catalogue import CatalogueCopy
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing
from ops.errors import Kind, NoSuchPath, Refusal
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

SHOWN_AGAIN: Final = frozenset({Kind.INVALID, Kind.UNPROCESSABLE, Kind.CONFLICT, Kind.UNAVAILABLE})
"""Refusals after which a form is shown again with what was typed; its once-key stays."""

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
        newest = form.with_version(since[0]["version"] if since else form.version or 0)
        link = {"href": f"{DOSSIER}/{code.path}", "says": WORDS["stale.look"]}
        return again(request, newest, WORDS["stale.title"], [says], link=link, status=HTTP_STATUS[VersionMismatch.kind])


def again(
    request: web.Request,
    form: Form,
    heading: str,
    says: Sequence[str],
    *,
    link: Mapping[str, str],
    status: int,
    asks: bool = False,
) -> web.Response:
    """A page that says what became of a form, and has it once more to be sent; texts can be edited.

    `asks`: with a field for the reason why a rule does not hold here.
    """
    given = [(name, value) for name, value in form.fields if not (asks and name == OVERRIDE)]
    context = {
        "heading": heading,
        "says": says,
        "link": link,
        "action": form.address,
        "hidden": [(name, value) for name, value in given if f"field.{name}" not in WORDS],
        "edited": [(name, WORDS[f"field.{name}"], value) for name, value in given if f"field.{name}" in WORDS],
        "asked": OVERRIDE if asks else None,
    }
    return page(request, "again.html", context, status=status)


def officer_of(request: web.Request) -> Officer:
    """The signed-in officer of a page below INBOX."""
    return request[OFFICER]


def may(request: web.Request, action: str) -> Officer:
    """The signed-in officer, who may do this. Raises NoSuchPath for one who may not: there is nothing for him here."""
    officer = officer_of(request)
    if action not in officer.actions:
        raise NoSuchPath
    return officer


def session_over(request: web.Request, form: Form) -> web.Response:
    """The page for a form whose session has ended: where to sign in, and the same form to be sent again."""
    link = {"href": SIGN_IN, "says": WORDS["over.sign_in"]}
    return again(request, form, WORDS["over.title"], [WORDS["over.says"]], link=link, status=401)


def says_of(refusal: Refusal) -> str:
    """What a refusal says to an officer: of a rule the rule, of a field that is wrong its name."""
    if isinstance(refusal, PolicyAsks):
        return " ".join(WORDS["policy.asks"].format(**_rule(told)) for told in _rules(refusal.members["rules"]))
    if isinstance(refusal, PolicyBlocks):
        return WORDS["policy.blocks"].format(**_rule(refusal.members))
    if isinstance(refusal, InvalidContent) and (field := _FIELD.search(refusal.detail)):
        return WORDS["problem.field"].format(field=WORDS.get(f"field.{field[1]}", field[1]))
    return refusal.detail_vi if refusal.detail_vi != refusal.detail else refusal.title_vi


def _rules(told: Any) -> Sequence[Mapping[str, Any]]:
    return cast(Sequence[Mapping[str, Any]], told)


def _rule(told: Mapping[str, Any]) -> dict[str, str]:
    """A rule and its article in an officer's words."""
    name, source = str(told["rule"]), str(told["source"])
    article = _ARTICLE.fullmatch(source)
    if article:
        clause = f"khoản {article[3]} " if article[3] else ""
        source = f"{clause}Điều {article[2]} Nghị định {article[1]}"
    return {"rule": WORDS[f"rule.{name}"].format(value=told["value"]), "source": source}


_FIELD: Final = re.compile(r"(?:\$\.|^)(?:applicant\.|on_receipt\.|notify\.)?([a-z_]+)")
"""The last name in where msgspec says a fault is, or in ours."""
_ARTICLE: Final = re.compile(r"Decree (\d+/\d+) art\. (\d+)(?:\((\d+)\))?")


def refusal_page(request: web.Request, refusal: Refusal) -> web.Response:
    """Any refusal as a page: what is wrong, the request's id where it is our fault, and the way back."""
    heading, says = WORDS["problem.title"], says_of(refusal)
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

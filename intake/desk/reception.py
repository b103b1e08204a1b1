"""Reception at the counter: choose the service, fill in one form, get a code and a paper."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from intake.desk.forms import ONCE, Form, lines_of, new_once, read_form
from intake.desk.frame import DOSSIER, SHOWN_AGAIN, Desk, may, officer_of, says_of
from intake.desk.layout import RECEPTION, page, see_other
from intake.desk.shown import moment_words
from intake.desk.words import WORDS
from intake.refusals import ReasonRequired
from intake.rules.due_dates import due_date
from intake.rules.requests import Submission, Transition, read_value
from intake.rules.workdays import HOURS_PER_DAY, calendar_of
from lookup import code as codes
from lookup.catalogue import Catalogue, Service, in_force
from lookup.clock import VIETNAM
from lookup.status import Status
from ops.errors import NoSuchPath, Refusal
from ops.http.problems import HTTP_STATUS

INSTEAD: Final[Mapping[str, Status]] = {
    "receive": Status.RECEIVED,
    "supplement": Status.SUPPLEMENT_REQUIRED,
    "reject": Status.REJECTED,
}
"""The form's buttons: what the dossier is at the end."""
_LINES: Final = ("name", "id", "phone", "email", "address")


class ReceptionPages:
    """For officers who may receive; others find nothing here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        form = f"{RECEPTION}/{{service}}"
        return [web.get(RECEPTION, self.choose), web.get(form, self.form), web.post(form, self.receive)]

    async def choose(self, request: web.Request) -> web.Response:
        """The services that can be applied for at a counter today; a typed code or the only one found leads on."""
        may(request, "receive")
        wanted = request.query.get("tt", "").strip()
        catalogue = await self._desk.catalogue.get()
        services = _at_a_counter(catalogue)
        typed = wanted.casefold()
        exact = [each for each in services if wanted and typed.split(" ")[0] == each.code.casefold()]
        found = exact or [each for each in services if all(word in _named(each) for word in typed.split())]
        if wanted and len(found) == 1:
            return see_other(f"{RECEPTION}/{found[0].code}")
        return page(request, "services.html", {"here": RECEPTION, "services": found or services, "wanted": wanted})

    async def form(self, request: web.Request) -> web.Response:
        """The form of one service, with the due date that it would get now."""
        may(request, "receive")
        catalogue = await self._desk.catalogue.get()
        return self._form(request, _service(catalogue, request.match_info["service"]), catalogue)

    async def receive(self, request: web.Request) -> web.Response:
        """Receive the dossier, with its paper in the same transaction; the answer leads to its page.

        Where documents are missing, or it is turned away, it is taken in as submitted and moved on at once: both have a
        paper of their own. The same form sent again does it once. After a refusal the form is shown again.
        """
        officer = may(request, "receive")
        typed = await read_form(request)
        catalogue = await self._desk.catalogue.get()
        service = _service(catalogue, request.match_info["service"])
        try:
            what = INSTEAD[typed.get("do", "receive")]
        except KeyError:
            raise NoSuchPath from None
        try:
            transition = _moved_on(typed, what, officer.name)
            submission = read_value(_submission(typed, service, what, officer.agency, officer.name), Submission)
            keyed = typed.keyed(officer)
            answer = await self._desk.ledger.receive(keyed, submission, catalogue)
            code = codes.parse(answer["code"])
            if transition is not None:
                once = str(uuid.uuid5(uuid.UUID(keyed.key), what.slug))
                await self._desk.ledger.move(replace(keyed, key=once), code, transition, catalogue)
        except Refusal as refusal:
            if refusal.kind not in SHOWN_AGAIN:
                raise
            return self._form(request, service, catalogue, typed, refusal)
        return see_other(f"{DOSSIER}/{code.path}?moi=1")

    def _form(
        self,
        request: web.Request,
        service: Service,
        catalogue: Catalogue,
        typed: Form | None = None,
        refusal: Refusal | None = None,
    ) -> web.Response:
        officer, now = officer_of(request), datetime.now(UTC)
        papers = [] if service.papers is None else list(service.papers.list)
        chosen = None if typed is None else set(typed.all("document"))
        context = {
            "here": RECEPTION,
            "service": service,
            "action": f"{RECEPTION}/{service.code}",
            "once": (typed.get(ONCE) if typed else None) or new_once(),
            "cases": _cases(service, officer.agency, catalogue, now),
            "case": (typed.get("case") if typed else None) or "default",
            "result_by": (typed.get("result_by") if typed else None) or "counter",
            "documents": [
                (str(n), each.vi, each.copies, chosen is None or str(n) in chosen) for n, each in enumerate(papers)
            ],
            "typed": dict(typed.items()) if typed else {},
            "wrong": None if refusal is None else says_of(refusal),
        }
        status = 200 if refusal is None else HTTP_STATUS[refusal.kind]
        return page(request, "reception.html", context, status=status)


def _at_a_counter(catalogue: Catalogue) -> list[Service]:
    today = datetime.now(UTC).astimezone(VIETNAM).date()
    open_ones = (each for each in catalogue.services.values() if in_force(each, today))
    return sorted(
        (each for each in open_ones if each.channels is None or "direct" in each.channels), key=lambda each: each.code
    )


def _named(service: Service) -> str:
    return f"{service.code} {service.name_vi}".casefold()


def _service(catalogue: Catalogue, code: str) -> Service:
    """The service. Raises NoSuchPath for one that there is not."""
    service = catalogue.services.get(code)
    if service is None:
        raise NoSuchPath
    return service


def _cases(service: Service, agency: str, catalogue: Catalogue, now: datetime) -> list[tuple[str, str, str]]:
    """Each case of the service: its code, its name, and what is promised if it is received now."""
    calendar, today = calendar_of(catalogue, agency), now.astimezone(VIETNAM).date()
    found = []
    for case in sorted({each.service_case for each in service.times}, key=lambda each: (each != "default", each)):
        limit = service.time_limit(case, "direct", today)
        due = due_date(service, case, "direct", now, calendar)
        if limit is None or due is None:
            promised = WORDS["reception.no_date"]
        else:
            promised = moment_words(due, weekday=True)
            if limit.hours is not None and limit.hours % HOURS_PER_DAY == 0:
                promised += WORDS["reception.working_days"].format(days=limit.hours // HOURS_PER_DAY)
        found.append((case, WORDS.get(f"case.{case}", case), promised))
    return found


def _submission(typed: Form, service: Service, what: Status, agency: str, officer: str) -> dict[str, Any]:
    """The body of a reception as the API takes it. Raises ReasonRequired for a consent without an address."""
    applicant = {name: typed.get(name) for name in _LINES if typed.get(name)}
    listed = [] if service.papers is None else list(service.papers.list)
    brought = [
        {"name": each.vi, "copies": each.copies} for n, each in enumerate(listed) if str(n) in typed.all("document")
    ]
    brought += [{"name": line} for line in lines_of(typed, "more")]
    body: dict[str, Any] = {
        "agency": agency,
        "service": service.code,
        "service_case": typed.get("case") or "default",
        "channel": "direct",
        "status": Status.RECEIVED.slug if what is Status.RECEIVED else Status.SUBMITTED.slug,
        "applicant": applicant,
        "officer": officer,
        "subject": typed.get("subject") or None,
    }
    if what is Status.RECEIVED:
        on_receipt: dict[str, Any] = {"documents": brought, "result_by": typed.get("result_by") or None}
        if service.papers is not None:
            on_receipt["sets"] = service.papers.sets
        if typed.get("for_name"):
            acts = {name: typed.get(f"for_{name}") or None for name in ("name", "id", "authority")}
            on_receipt["representative"] = acts
        body["on_receipt"] = on_receipt
    if typed.get("agrees"):
        notify = {"mail": applicant.get("email"), "gateway": applicant.get("phone")}
        if not any(notify.values()):
            raise ReasonRequired("Consent needs an address.", detail_vi=WORDS["reception.no_address"])
        body["notify"] = notify
    return body


def _moved_on(typed: Form, what: Status, officer: str) -> Transition | None:
    """What follows a reception that is not accepted. Raises ReasonRequired before anything is received."""
    if what is Status.RECEIVED:
        return None
    lacking = what is Status.SUPPLEMENT_REQUIRED
    note, items = typed.get("note", ""), lines_of(typed, "items") if lacking else []
    if not note or (lacking and not items):
        word = "reception.needs_items" if lacking else "reception.needs_reason"
        raise ReasonRequired("A supplement and a refusal say why.", detail_vi=WORDS[word])
    return read_value({"to": what.slug, "note": note, "items": items, "officer": officer}, Transition)

"""The intake's JSON API: receive a dossier, move it, bind its official number, correct it, read it as an officer."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import web

from intake import examples
from intake.admission import ADMISSION, CLIENT
from intake.answers import Bound, Corrected, IssuedKey, Moved, OfficersApplicant, OfficersView, Received, TaskView
from intake.books.ledger import KeyedRequest, Ledger, task_told
from intake.books.task_rows import tasks_in
from intake.refusals import (
    AgencyEnded,
    AgencyNotBegun,
    BackdatedTooFar,
    BadDate,
    CannotNumber,
    DatesOutOfOrder,
    KeyRequired,
    KeyReused,
    KeysUsedUp,
    MoveNotAllowed,
    NumberTaken,
    OutcomeUnknown,
    PolicyAsks,
    PolicyBlocks,
    ReasonRequired,
    ServiceEnded,
    ServiceNotBegun,
    StillRunning,
    TargetNotAllowed,
    TasksLive,
    UnknownAgency,
    UnknownDossier,
    UnknownService,
    VersionMismatch,
)
from intake.rules.requests import (
    CorrectionRequest,
    InvalidContent,
    KeyRequest,
    MalformedJson,
    OfficialNumber,
    Submission,
    Transition,
    UnknownStatus,
    fingerprint,
)
from lookup import code as codes
from lookup.catalogue import CatalogueCopy
from lookup.clock import local
from lookup.code import DossierCode, MalformedCode
from lookup.lookup_key import KeyRing
from lookup.status import Status
from ops.errors import Refusal
from ops.http.endpoints import Endpoint, Reply
from ops.http.openapi import About
from ops.http.parameters import Parameter

IDEMPOTENCY_KEY = "Idempotency-Key"
DOSSIERS = "/api/v1/dossiers"

IN_THE_PATH = Parameter(
    name="code",
    place="path",
    says="The dossier's code, in any spelling.",
    required=True,
    example=examples.CODE,
)
KEYED = Parameter(
    name=IDEMPOTENCY_KEY,
    place="header",
    says="A value of the client's own for this change. A repeat with the same key gets the first one's answer.",
    type=Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern="^[!-~]([ -~]*[!-~])?$")],
    required=True,
    example="5f1c9a72-d3e8-4b06-9d51-0c6a7e2b8f13",
)

ABOUT = About(
    title="HoSo24 intake: the API for desks, portals and business systems",
    says=(
        "Receives dossiers, moves them, and shows them to officers. Any change may be sent again with the same "
        "`Idempotency-Key`: it is done once, and each repeat gets the first one's answer."
    ),
    credentials="The operator makes it by `hoso24 client add` and shows it once.",
)

_CHANGE: tuple[type[Refusal], ...] = (
    *(*ADMISSION, MalformedJson, InvalidContent),
    *(KeyRequired, KeyReused, StillRunning, OutcomeUnknown),
)
"""What any change may be refused with."""
OF_A_DOSSIER: tuple[type[Refusal], ...] = (*_CHANGE, MalformedCode, UnknownDossier, VersionMismatch)
"""What any change of a dossier that is there may be refused with."""


class IntakeApi:
    """The endpoints for desks, portals and business systems; each method is one endpoint."""

    def __init__(
        self,
        ledger: Ledger,
        catalogue: CatalogueCopy,
        keys: KeyRing,
        public_url: str,
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._keys = keys
        self._public_url = public_url.rstrip("/")

    def endpoints(self) -> list[Endpoint]:
        """Everything about one dossier. `intake.rules.requests.read` makes the bodies."""
        of_one = f"{DOSSIERS}/{{code}}"
        return [
            Endpoint(
                method="POST",
                path=DOSSIERS,
                handler=self.receive,
                takes=Submission,
                gives=Received,
                status=201,
                parameters=(KEYED,),
                example=examples.RECEIVE,
                refuses=(
                    *(*_CHANGE, UnknownStatus, UnknownAgency, AgencyEnded, AgencyNotBegun, CannotNumber),
                    *(UnknownService, ServiceEnded, ServiceNotBegun, BadDate, BackdatedTooFar, TasksLive),
                ),
                action="receive",
            ),
            Endpoint(
                method="GET",
                path=of_one,
                handler=self.officers_view,
                gives=OfficersView,
                parameters=(IN_THE_PATH,),
                refuses=(*ADMISSION, MalformedCode, UnknownDossier),
                action="read",
            ),
            Endpoint(
                method="POST",
                path=f"{of_one}/transitions",
                handler=self.move,
                takes=Transition,
                gives=Moved,
                parameters=(IN_THE_PATH, KEYED),
                example=examples.MOVE,
                refuses=(
                    *(*OF_A_DOSSIER, UnknownStatus, MoveNotAllowed, ReasonRequired, UnknownAgency, TargetNotAllowed),
                    *(TasksLive, PolicyBlocks, PolicyAsks),
                    *(BadDate, DatesOutOfOrder, BackdatedTooFar),
                ),
                action="move",
            ),
            Endpoint(
                method="PUT",
                path=f"{of_one}/official-number",
                handler=self.bind_number,
                takes=OfficialNumber,
                gives=Bound,
                parameters=(IN_THE_PATH, KEYED),
                example=examples.BIND,
                refuses=(*OF_A_DOSSIER, NumberTaken),
                action="bind",
            ),
            Endpoint(
                method="POST",
                path=f"{of_one}/corrections",
                handler=self.correct,
                takes=CorrectionRequest,
                gives=Corrected,
                parameters=(IN_THE_PATH, KEYED),
                example=examples.CORRECT,
                refuses=(
                    *(*OF_A_DOSSIER, ReasonRequired, UnknownAgency, UnknownService, NumberTaken),
                    *(BadDate, DatesOutOfOrder),
                ),
                action="correct",
            ),
            Endpoint(
                method="POST",
                path=f"{of_one}/key",
                handler=self.key,
                takes=KeyRequest,
                gives=IssuedKey,
                parameters=(IN_THE_PATH, KEYED),
                example=examples.KEY,
                refuses=(*OF_A_DOSSIER, KeysUsedUp),
                action="correct",
            ),
        ]

    async def receive(self, request: web.Request, submission: Submission) -> Reply[Received]:
        """Receive a dossier; the answer has its code, lookup key, status, due date, version and receipt.

        An online application is not accepted yet: it is answered with a confirmation, and the move that accepts it with
        the receipt and the due date. With `result` it is completed and returned as well.
        """
        asked = await keyed(request, request.path)
        answer = await self._ledger.receive(asked, submission, await self._catalogue.get())
        code = codes.parse(answer["code"])
        told: dict[str, Any] = {"lookup_key": self._keys.key(code, answer["key_serial"])}
        if submission.result is None or submission.receipt:
            told["receipt" if answer["received_at"] else "confirmation"] = self._slip(code, answer)
        return Reply(msgspec.convert(answer | told, Received), {"Location": f"{DOSSIERS}/{code.path}"})

    async def move(self, request: web.Request, transition: Transition) -> Moved:
        """Move a dossier; the answer has its new version, and the receipt if the move accepts it."""
        code = codes.parse(request.match_info["code"])
        asked = await keyed(request, f"{code.path}/transitions")
        answer = await self._ledger.move(asked, code, transition, await self._catalogue.get())
        accepted = answer.get("accepted")
        told = {} if accepted is None else {"receipt": self._slip(code, accepted)}
        return msgspec.convert(answer | told, Moved)

    async def bind_number(self, request: web.Request, bound: OfficialNumber) -> Bound:
        """Bind the official number of a dossier."""
        code = codes.parse(request.match_info["code"])
        asked = await keyed(request, f"{code.path}/official-number")
        answer = await self._ledger.bind_number(asked, code, bound, await self._catalogue.get())
        return msgspec.convert(answer, Bound)

    async def correct(self, request: web.Request, correction: CorrectionRequest) -> Corrected:
        """Correct what was written wrongly; the answer names the corrected fields."""
        code = codes.parse(request.match_info["code"])
        asked = await keyed(request, f"{code.path}/corrections")
        answer = await self._ledger.correct(asked, code, correction, await self._catalogue.get())
        return msgspec.convert(answer, Corrected)

    async def key(self, request: web.Request, wanted: KeyRequest) -> IssuedKey:
        """The lookup key for an applicant who has none, and the link that opens the dossier's page with it."""
        code = codes.parse(request.match_info["code"])
        asked = await keyed(request, f"{code.path}/key")
        answer = await self._ledger.key(asked, code, wanted, await self._catalogue.get())
        key = self._keys.key(code, answer["key_serial"])
        return IssuedKey(code.text, answer["version"], key, self._link(code, key))

    async def officers_view(self, request: web.Request) -> OfficersView:
        """The dossier with its applicant, for a client whose scope covers an agency that has to do with it."""
        code = codes.parse(request.match_info["code"])
        row = await self._ledger.officers_view(request[CLIENT], code, await self._catalogue.get())
        return _officers_view(row)

    def _slip(self, code: DossierCode, accepted: Mapping[str, Any]) -> dict[str, Any]:
        """A receipt; of an online application the confirmation that it has come in."""
        link = self._link(code, self._keys.key(code, accepted["key_serial"]))
        return {**accepted, "number": code.text, "link": link}

    def _link(self, code: DossierCode, key: str) -> str:
        return f"{self._public_url}/tra-cuu/{code.path}?key={key}"


def _officers_view(row: Any) -> OfficersView:
    status = Status(row["status"])
    as_they_are = {name: row[name] for name in _AS_THEY_ARE}
    times = {name: local(row[name]) for name in _TIMES}
    applicant = OfficersApplicant(*(row[f"applicant_{name}"] for name in OfficersApplicant.__struct_fields__))
    return OfficersView(
        **as_they_are,
        **times,
        status=status.slug,
        status_number=status.value,
        final=status.final,
        pauses=msgspec.Raw(row["pauses"].encode()),
        timeline=msgspec.Raw(row["timeline"].encode()),
        applicant=applicant,
        tasks=[msgspec.convert(task_told(task), TaskView) for task in tasks_in(row["tasks"])],
        next=[after.slug for after in Status if status.may_become(after)],
    )


_AS_THEY_ARE = (
    *("code", "version", "service", "service_case", "agency", "origin", "channel", "official_number", "outcome"),
    *("reason", "action_needed", "supplements", "reappointments", "subject"),
)
_TIMES = ("submitted_at", "received_at", "due_at", "finished_at", "returned_at")


async def keyed(request: web.Request, path: str) -> KeyedRequest:
    """The request under its idempotency key, which is quoted (as in the IETF draft) or bare.

    Raises KeyRequired, InvalidContent.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        raise KeyRequired(
            f"Send {IDEMPOTENCY_KEY} with a value of your own, and the same one when you repeat a request."
        )
    key = key.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidContent(f"{IDEMPOTENCY_KEY}: a key has 1 to 255 printable ASCII characters")
    return KeyedRequest(request[CLIENT], key, fingerprint(path, await request.read()))  # read already: aiohttp keeps it

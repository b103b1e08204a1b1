"""The JSON API of the one-stop's own work: tasks, re-appointments, who leads, and a dossier's history.

Whoever leads gives tasks and takes them back; each agency ends its own, or asks the lead. Nobody sees or touches those
of a dossier that its scope does not cover.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from intake.admission import ADMISSION, CLIENT
from intake.answers import Consent, History, Inbox, InboxTask, OfficersEvent, Tasked
from intake.api import DOSSIERS, IN_THE_PATH, KEYED, OF_A_DOSSIER, keyed
from intake.books.ledger import Ledger, OneStop
from intake.refusals import (
    BadDate,
    MoveNotAllowed,
    OutcomeUnknown,
    PolicyAsks,
    PolicyBlocks,
    ReasonRequired,
    TargetNotAllowed,
    TooManyTasks,
    UnknownAgency,
    UnknownDossier,
    WrongTask,
)
from intake.rules.changes import AskLead, EndTask, Lead, OpenTask, PutOff
from intake.rules.channels import Channel, NoAddress, checked
from intake.rules.requests import (
    EARLIEST,
    LATEST,
    ConsentRequest,
    InvalidContent,
    MalformedJson,
    NewDueDate,
    NewLead,
    NewTask,
    TaskStep,
)
from intake.rules.tasks import MOST, End
from lookup import code as codes
from lookup.catalogue import CatalogueCopy
from lookup.clock import local
from lookup.code import MalformedCode
from lookup.status import Status
from ops.errors import NoSuchPath, Refusal
from ops.http.endpoints import Endpoint, Example
from ops.http.parameters import InvalidParameter, Parameter

_NUMBER = Parameter(
    name="number",
    place="path",
    says="The number of the task.",
    type=Annotated[int, msgspec.Meta(ge=1, le=12)],
    required=True,
    example=2,
)
_CHANNEL = Parameter(
    name="channel",
    place="path",
    says="mail, or gateway for the installation's gateway of text messages.",
    type=Channel,
    required=True,
    example="mail",
)
_OF_CONSENTS: tuple[type[Refusal], ...] = (*ADMISSION, MalformedCode, UnknownDossier, OutcomeUnknown)
_FIRST: Final = ("-infinity", "", 0)


class InboxQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose live tasks: `agency`, by default the client's own; those due before a time; those behind `after`."""

    agency: Annotated[str, msgspec.Meta(description="Whose tasks; by default the client's own agency.")] | None = None
    due_before: Annotated[datetime, msgspec.Meta(tz=True, description="Only tasks due before then.")] | None = None
    after: Annotated[str, msgspec.Meta(description="The cursor `next` of the page before.")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500, description="Tasks of a page, at most.")] = 100


class OneStopApi:
    """The endpoints; each method is one."""

    def __init__(self, ledger: Ledger, catalogue: CatalogueCopy) -> None:
        self._ledger = ledger
        self._catalogue = catalogue

    def endpoints(self) -> list[Endpoint]:
        """Those below a dossier, and the inbox."""
        of_one = f"{DOSSIERS}/{{code}}"
        over: tuple[type[Refusal], ...] = (*OF_A_DOSSIER, MoveNotAllowed, ReasonRequired)
        ends = [
            Endpoint(
                method="POST",
                path=rf"{of_one}/tasks/{{number:\d+}}/{word}",
                handler=handler,
                name=name,
                takes=TaskStep,
                gives=Tasked,
                parameters=(IN_THE_PATH, _NUMBER, KEYED),
                refuses=(*over, WrongTask, *more),
                action="move",
                example=Example(body={"reason": "Không thuộc thẩm quyền (ví dụ)."}),
            )
            for word, handler, name, more in (
                ("done", self.done, "end_task", ()),
                ("refuse", self.refuse, "refuse_task", ()),
                ("cancel", self.cancel, "cancel_task", ()),
                ("ask", self.ask, "ask_about_task", (TooManyTasks,)),
            )
        ]
        return [
            Endpoint(
                method="POST",
                path=f"{of_one}/tasks",
                handler=self.open_task,
                takes=NewTask,
                gives=Tasked,
                parameters=(IN_THE_PATH, KEYED),
                refuses=(*over, UnknownAgency, TargetNotAllowed, BadDate, TooManyTasks, WrongTask),
                action="move",
                example=Example(body={"agency": "G99.01", "work": "Thẩm định (ví dụ)"}),
            ),
            *ends,
            Endpoint(
                method="POST",
                path=f"{of_one}/re-appointments",
                handler=self.put_off,
                name="re_appoint",
                takes=NewDueDate,
                gives=Tasked,
                parameters=(IN_THE_PATH, KEYED),
                refuses=(*over, BadDate, PolicyBlocks, PolicyAsks),
                action="move",
                example=Example(body={"due_at": "2027-03-31T16:00:00+07:00", "reason": "Chờ xác minh (ví dụ)."}),
            ),
            Endpoint(
                method="POST",
                path=f"{of_one}/lead",
                handler=self.lead,
                name="change_lead",
                takes=NewLead,
                gives=Tasked,
                parameters=(IN_THE_PATH, KEYED),
                refuses=(*over, UnknownAgency, TargetNotAllowed),
                action="correct",
                example=Example(body={"agency": "G99.01", "reason": "Đúng thẩm quyền (ví dụ)."}),
            ),
            Endpoint(
                method="PUT",
                path=f"{of_one}/consents/{{channel:mail|gateway}}",
                handler=self.agree,
                name="consent",
                takes=ConsentRequest,
                gives=Consent,
                parameters=(IN_THE_PATH, _CHANNEL),
                refuses=(*_OF_CONSENTS, MalformedJson, InvalidContent),
                action="receive",
                example=Example(body={"address": "nguoi-nop@vi-du.example"}),
            ),
            Endpoint(
                method="DELETE",
                path=f"{of_one}/consents/{{channel:mail|gateway}}",
                handler=self.disagree,
                name="withdraw_consent",
                gives=Consent,
                parameters=(IN_THE_PATH, _CHANNEL),
                refuses=_OF_CONSENTS,
                action="receive",
            ),
            Endpoint(
                method="GET",
                path=f"{of_one}/events",
                handler=self.history,
                name="dossier_events",
                gives=History,
                parameters=(IN_THE_PATH,),
                refuses=(*ADMISSION, MalformedCode, UnknownDossier),
                action="read",
            ),
            Endpoint(
                method="GET",
                path="/api/v1/tasks",
                handler=self.inbox,
                name="tasks",
                asks=InboxQuery,
                gives=Inbox,
                refuses=ADMISSION,
                action="read",
            ),
        ]

    async def open_task(self, request: web.Request, new: NewTask) -> Tasked:
        """Give an agency a task, in order after another one or at once."""
        change = OpenTask(agency=new.agency, kind=new.kind, work=new.work, after=new.after, due_at=new.due_at)
        return await self._changed(request, change, new, "tasks")

    async def done(self, request: web.Request, step: TaskStep) -> Tasked:
        """End a task of the client's own agency: it is done."""
        return await self._end(request, step, "done")

    async def refuse(self, request: web.Request, step: TaskStep) -> Tasked:
        """End a task of the client's own agency: it will not be done, and why."""
        return await self._end(request, step, "refused")

    async def cancel(self, request: web.Request, step: TaskStep) -> Tasked:
        """Take a task back, as the lead."""
        return await self._end(request, step, "cancelled")

    async def ask(self, request: web.Request, step: TaskStep) -> Tasked:
        """Ask the lead something about a task of the client's own agency, which waits for the answer."""
        number = _number(request)
        return await self._changed(request, AskLead(number=number, question=step.reason or ""), step, f"{number}/ask")

    async def agree(self, request: web.Request, new: ConsentRequest) -> Consent:
        """Write down that the applicant agreed to be told by mail or by the gateway what becomes of the dossier."""
        channel: Channel = "mail" if request.match_info["channel"] == "mail" else "gateway"
        try:
            address = checked(channel, new.address)
        except NoAddress as wrong:
            raise InvalidContent(f"address: {str(wrong).partition(': ')[2]}") from None
        return await self._consent(request, channel, address)

    async def disagree(self, request: web.Request) -> Consent:
        """Write down that the applicant is not to be told by it any more. Safe to repeat."""
        return await self._consent(request, "mail" if request.match_info["channel"] == "mail" else "gateway", None)

    async def _consent(self, request: web.Request, channel: Channel, address: str | None) -> Consent:
        code = codes.parse(request.match_info["code"])
        await self._ledger.agree(request[CLIENT], code, channel, address, await self._catalogue.get())
        return Consent(code.text, channel, address is not None)

    async def put_off(self, request: web.Request, new: NewDueDate) -> Tasked:
        """Promise a later due date, with an apology; live tasks move with it."""
        change = PutOff(due_at=new.due_at, reason=new.reason, override=new.override)
        return await self._changed(request, change, new, "re-appointments")

    async def lead(self, request: web.Request, new: NewLead) -> Tasked:
        """Let another agency lead, in the same status."""
        return await self._changed(request, Lead(agency=new.agency, reason=new.reason), new, "lead")

    async def history(self, request: web.Request) -> History:
        """The dossier's events with officers and notes, for a client whose scope covers an agency of it; logged."""
        code = codes.parse(request.match_info["code"])
        events = await self._ledger.history(request[CLIENT], code, await self._catalogue.get())
        return History(code.text, msgspec.convert(events, list[OfficersEvent]))

    async def inbox(self, request: web.Request, asked: InboxQuery) -> Inbox:
        """The live tasks of an agency by due date; `next` has those behind them."""
        client, catalogue = request[CLIENT], await self._catalogue.get()
        agency = asked.agency or client.agency
        client.require("read", agency, catalogue)
        after = _FIRST if asked.after is None else _place(asked.after)
        before = asked.due_before and min(max(asked.due_before, EARLIEST), LATEST)
        rows = await self._ledger.tasks(agency, before=before, after=after, limit=asked.limit + 1)
        shown = rows[: asked.limit]
        more = _mark(shown[-1]) if len(rows) > asked.limit else None
        return Inbox([_inbox_task(row) for row in shown], more)

    async def _end(self, request: web.Request, step: TaskStep, end: End) -> Tasked:
        number = _number(request)
        change = EndTask(number=number, end=end, reason=step.reason)
        return await self._changed(request, change, step, f"{number}/{end}")

    async def _changed(
        self, request: web.Request, change: OneStop, said: NewTask | TaskStep | NewDueDate | NewLead, path: str
    ) -> Tasked:
        code = codes.parse(request.match_info["code"])
        answer = await self._ledger.one_stop(
            await keyed(request, f"{code.path}/{path}"),
            code,
            change,
            officer=said.officer,
            expected_version=said.expected_version,
            catalogue=await self._catalogue.get(),
        )
        return msgspec.convert(answer, Tasked)


def _inbox_task(row: Mapping[str, Any]) -> InboxTask:
    named = {name: row[name] for name in InboxTask.__struct_fields__}
    times = {name: local(row[name]) for name in ("due_at", "opened_at")}
    return InboxTask(**named | times | {"status": Status(row["status"]).slug})


def _mark(row: Mapping[str, Any]) -> str:
    """Where a page ended, as `after` takes it."""
    at = row["due_at"].isoformat() if row["due_at"] else "infinity"
    return base64.urlsafe_b64encode(f"{at} {row['code']} {row['number']}".encode()).decode().rstrip("=")


def _place(mark: str) -> tuple[str, str, int]:
    """The place of such a mark. Raises InvalidParameter."""
    try:
        at, code, number = base64.urlsafe_b64decode(mark + "=" * (-len(mark) % 4)).decode().split(" ")
        at = at if at == "infinity" else datetime.fromisoformat(at).isoformat()
        if not 1 <= int(number) <= MOST:
            raise ValueError(number)
        return at, codes.parse(code).text, int(number)
    except (binascii.Error, UnicodeDecodeError, ValueError, codes.MalformedCode):
        raise InvalidParameter("after: send `next` of the page before, as it was") from None


def _number(request: web.Request) -> int:
    """The task's number in the path. Raises NoSuchPath for what is none."""
    text = request.match_info["number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 2):
        raise NoSuchPath
    return int(text)

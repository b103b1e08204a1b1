"""What a notice says: as a mail, and as the body for a gateway. The same at every attempt, down to the id."""

from collections.abc import Mapping
from datetime import datetime, time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from intake.notices import words
from intake.notices.rows import Leased
from intake.notices.tokens import Tokens
from lookup import code as codes
from lookup.clock import VIETNAM
from ops.http.endpoints import encode

WITHDRAW: Final = "/thong-bao/thoi"
"""Below it the token that withdraws a consent."""
TEXTS_FROM, TEXTS_UNTIL = time(7), time(21)
"""The hours in Vietnam in which the gateway is called: what it sends may wake its receiver."""

_POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Messages:
    """Makes messages. `public_url`: where citizens read a status; `sender`: the address that mails come from;
    `withdraw_url`: where they reach the pages of the notices, if it is another.
    """

    def __init__(self, tokens: Tokens, public_url: str, sender: str, withdraw_url: str | None = None) -> None:
        self._tokens = tokens
        self._url = public_url.rstrip("/")
        self._withdraw = (withdraw_url or public_url).rstrip("/") + WITHDRAW
        self._site = urlsplit(public_url).netloc
        self._sender = sender

    def mail(self, row: Leased, address: str) -> EmailMessage:
        """The mail of a notice, to be sent to this address."""
        wanted = f"{self._withdraw}/{self._tokens.token(row.code, row.channel)}"
        kind = _kind(row)
        vietnamese, english = self._whole(row, "vi"), self._whole(row, "en")
        body = words.MAIL.format(
            said=vietnamese,
            said_en=english,
            link=f"{self._url}/tra-cuu/{codes.parse(row.code).path}",
            contact=_joined(row.agency_vi, row.phone),
            contact_en=_joined(row.agency_en, row.phone),
            unsubscribe=wanted,
        )
        message = self._message(
            address,
            f"Hồ sơ {row.code}: {words.SUBJECTS[kind]}",
            body,
            made_at=row.made_at,
            message_id=self._tokens.notice_id(row.code, row.version, row.channel),
        )
        message["List-Unsubscribe"] = f"<{wanted}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        return message

    def text(self, row: Leased, address: str) -> tuple[str, bytes]:
        """The id of a notice, and the body for the gateway."""
        said, last = self._told(row, words.VIETNAMESE[_kind(row)], "vi")
        text = f"{said} {last}".strip()
        if len(text) > words.LONGEST_TEXT:
            text = said
        identity = f"nt_{self._tokens.notice_id(row.code, row.version, row.channel)}"
        return identity, encode({"id": identity, "kind": row.kind, "to": address, "text": text, "code": row.code})

    def morning(
        self, agency: str, address: str, now: datetime, owed: Mapping[str, list[str]], *, hours: int
    ) -> EmailMessage:
        """The mail to the head of a unit: what is owed → the codes. `hours`: for a decision on an application."""
        day = now.astimezone(VIETNAM)
        counted = {name: len(owed.get(name, ())) for name in words.MORNING_LISTS}
        lists = "".join(
            f"\n{title}:\n" + "".join(f"  {code}\n" for code in owed[name])
            for name, title in words.MORNING_LISTS.items()
            if owed.get(name)
        )
        return self._message(
            address,
            words.MORNING_SUBJECT.format(date=f"{day:%d/%m/%Y}"),
            words.MORNING.format(hours=hours, **counted) + lists,
            made_at=now,
            message_id=self._tokens.notice_id(agency, day.toordinal(), "morning"),
        )

    def _message(self, to: str, subject: str, body: str, *, made_at: datetime, message_id: str) -> EmailMessage:
        message = EmailMessage(policy=_POLICY)
        message["From"] = Address(addr_spec=self._sender)
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = format_datetime(made_at)
        message["Message-ID"] = f"<{message_id}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no machine answers it
        message.set_content(body, cte="quoted-printable")
        return message

    def _whole(self, row: Leased, lang: str) -> str:
        """As a mail says it, which has a link in place of the site's name."""
        said = (words.VIETNAMESE if lang == "vi" else words.ENGLISH)[_kind(row)]
        told = self._told(row, said, lang)
        return told.sentence if "{site}" in said.last else f"{told.sentence} {told.last}".strip()

    def _told(self, row: Leased, said: words.Said, lang: str) -> words.Said:
        when = "" if row.due_at is None else _when(row.due_at, lang)
        filled = {"code": row.code, "when": when, "site": self._site, "phone": row.phone or ""}
        last = "" if "{phone}" in said.last and not row.phone else said.last.format_map(filled)
        return words.Said(said.sentence.format_map(filled), last)


def may_text(now: datetime) -> bool:
    """Whether the gateway may be called at this moment."""
    return TEXTS_FROM <= now.astimezone(VIETNAM).time() < TEXTS_UNTIL


def _kind(row: Leased) -> str:
    if row.kind == "accepted" and row.due_at is None:
        return "accepted_without_date"
    return row.kind


def _joined(name: str, phone: str | None) -> str:
    return f"{name}, {phone}" if phone else name


def _when(at: datetime, lang: str) -> str:
    at = at.astimezone(VIETNAM)
    if lang == "vi":
        return f"{at:%H:%M} ngày {at:%d/%m/%Y}"
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M}"

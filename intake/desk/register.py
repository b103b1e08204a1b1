"""The register of an office, sổ theo dõi hồ sơ: what it accepted on a day, as a page, as CSV and on A4."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from intake.desk.frame import DOSSIER, Desk, officer_of
from intake.desk.layout import REGISTER, answer, page
from intake.desk.officers import Officer
from intake.desk.shown import name_and_tail, office_on_paper
from intake.desk.words import WORDS
from intake.papers.rendering import Press, Printing
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM, local

ROWS: Final = 2_000
"""Rows of a day that are shown."""
PRINT_SECONDS: Final = 10.0
"""Seconds that the A4 of a full register may take; 2,000 rows are about 1.3 s of one processor."""
FIRST_DAY: Final = date(1990, 1, 1)

# The second condition of both is that of the index event_of_a_day. $1: the office. $2, $3: from when to before when.
# A dossier whose result was handed over at once has several events of that moment. $4: rows.
ACCEPTED = """
WITH accepted AS (
    SELECT code, min(received_at) AS at
      FROM event
     WHERE origin = ANY ($1)
       AND NOT bulk AND (occurred_at = received_at OR status IN (3, 5, 10))
       AND occurred_at >= $2
       AND occurred_at < $3
       AND occurred_at = received_at
       AND kind IN ('received', 'moved')
     GROUP BY code
     ORDER BY at, code
     LIMIT $4
)
SELECT d.code, d.service, d.agency, d.applicant_name, d.applicant_id, d.applicant_address, d.applicant_phone,
       d.received_at, d.due_at, d.returned_at, receipt.result_by
  FROM accepted
  JOIN dossier AS d ON d.code = accepted.code
  LEFT JOIN LATERAL (SELECT content->>'result_by' AS result_by
                       FROM paper
                      WHERE paper.code = d.code
                        AND form = 'receipt'
                      ORDER BY version DESC
                      LIMIT 1) AS receipt ON true
 WHERE NOT d.removed
 ORDER BY d.received_at, d.code
"""

TOTALS = """
SELECT count(DISTINCT code) FILTER (WHERE occurred_at = received_at) AS received,
       count(DISTINCT code) FILTER (WHERE status = 10)               AS returned,
       count(DISTINCT code) FILTER (WHERE status = 5)                AS supplement,
       count(DISTINCT code) FILTER (WHERE status = 3)                AS rejected
  FROM event
 WHERE origin = ANY ($1)
   AND NOT bulk AND (occurred_at = received_at OR status IN (3, 5, 10))
   AND occurred_at >= $2
   AND occurred_at < $3
   AND kind IN ('received', 'moved')
"""

CAPTIONS: Final = (
    *("STT", "Mã hồ sơ", "Tên thủ tục hành chính", "Tên cá nhân, tổ chức", "Địa chỉ, số điện thoại"),
    *("Cơ quan chủ trì giải quyết", "Nhận hồ sơ", "Hẹn trả kết quả", "Trả kết quả", "Phương thức nhận kết quả"),
    *("Ký nhận", "Ghi chú"),
)
"""The first line of the CSV: the columns of the form, as the A4 has them."""

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, even in quotes."""


class NoDay(ValueError):
    """The text is no day of which there is a register; the message is a name of WORDS that says why."""


class RegisterPages:
    """The register of the officer's office; nobody reads another office's."""

    def __init__(self, desk: Desk, press: Press) -> None:
        self._desk = desk
        self._press = press

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [
            web.get(REGISTER, self.register),
            web.get(f"{REGISTER}.csv", self.as_csv),
            web.get(f"{REGISTER}.pdf", self.as_pdf),
        ]

    async def register(self, request: web.Request) -> web.Response:
        """The day's dossiers with its totals; `ngay` is the day, today without it.

        Names are shown, so the read is logged first. Raises Unavailable.
        """
        today = self._desk.today()
        try:
            day = day_in(request.query.get("ngay"), today)
        except NoDay as no_day:
            return self._without_a_day(request, today, str(no_day))
        officer, catalogue = officer_of(request), await self._desk.catalogue.get()
        rows = await self._rows(officer, day)
        office = sorted(self._desk.office(officer))
        (totals,) = await self._desk.postgres.fetch(TOTALS, office, *_hours(day))
        return page(
            request,
            "register.html",
            {
                "here": REGISTER,
                "day": day,
                "today": today,
                "before": day - timedelta(days=1) if day > FIRST_DAY else None,
                "after": day + timedelta(days=1) if day < today else None,
                "office": catalogue.agency_view(officer.agency).name or officer.agency,
                "totals": [(f"register.{name}", totals[name]) for name in _TOTALS],
                "more": len(rows) > ROWS,
                "most": f"{ROWS:,}".replace(",", "."),
                "rows": [_on_the_page(row, catalogue) for row in rows[:ROWS]],
                "wrong": None,
            },
        )

    async def as_csv(self, request: web.Request) -> web.Response:
        """The day's dossiers as CSV (RFC 4180, UTF-8 with the mark by which spreadsheets know it). Raises Unavailable.

        It has the columns of the form. No cell is a formula. The read is logged first.
        """
        today = self._desk.today()
        try:
            day = day_in(request.query.get("ngay"), today)
        except NoDay as no_day:
            return self._without_a_day(request, today, str(no_day))
        catalogue = await self._desk.catalogue.get()
        rows = (await self._rows(officer_of(request), day))[:ROWS]
        response = answer(request, csv_of(rows, catalogue), "text/csv", name=f"so-theo-doi-{day}.csv")
        response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="so-theo-doi-{day}.csv"'
        return response

    async def as_pdf(self, request: web.Request) -> web.Response:
        """The day's dossiers on A4, by the form of the register. The read is logged first.

        Raises Unavailable; PaperNotReady if it is not made within PRINT_SECONDS.
        """
        today = self._desk.today()
        try:
            day = day_in(request.query.get("ngay"), today)
        except NoDay as no_day:
            return self._without_a_day(request, today, str(no_day))
        officer, catalogue = officer_of(request), await self._desk.catalogue.get()
        rows = (await self._rows(officer, day))[:ROWS]
        content = {
            "form": "register",
            "agency": office_on_paper(catalogue, officer.agency, today),
            "issued_at": local(datetime.now(UTC)),
            "first_day": day.isoformat(),
            "last_day": day.isoformat(),
            "rows": [_on_paper(row, catalogue) for row in rows],
        }
        printing = Printing(site=self._desk.public_url)
        made = await self._press.paper(msgspec.json.encode(content).decode(), printing, limit=PRINT_SECONDS)
        return answer(request, made, "application/pdf", name=f"so-theo-doi-{day}.pdf")

    async def _rows(self, officer: Officer, day: date) -> Sequence[Any]:
        """One more than ROWS at most; the officer is noted as their reader."""
        office = sorted(self._desk.office(officer))
        rows: Sequence[Any] = await self._desk.postgres.fetch(ACCEPTED, office, *_hours(day), ROWS + 1)
        await self._desk.read_logged(officer, [row["code"] for row in rows[:ROWS]], "register")
        return rows

    def _without_a_day(self, request: web.Request, today: date, word: str) -> web.Response:
        """The form alone, and what is wrong with the day that was asked for."""
        context = {"here": REGISTER, "day": None, "today": today, "wrong": WORDS[word]}
        return page(request, "register.html", context, status=400)


_TIMES: Final = ("received_at", "due_at", "returned_at")
_TOTALS: Final = ("received", "returned", "supplement", "rejected")


def day_in(text: str | None, today: date) -> date:
    """The day that an address names, `today` if it names none. Raises NoDay."""
    if not text:
        return today
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or day < FIRST_DAY:
        raise NoDay("register.no_day")
    if day > today:
        raise NoDay("register.not_yet")
    return day


def csv_of(rows: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> bytes:
    """The rows of ACCEPTED as CSV, below CAPTIONS."""
    text = io.StringIO()
    written = csv.writer(text)
    written.writerow(CAPTIONS)
    for number, row in enumerate(rows, start=1):
        told = _on_paper(row, catalogue)
        times = (_written(row[name]) for name in _TIMES)
        names = (told[name] for name in ("code", "service", "applicant", "contact", "lead"))
        written.writerow([number, *map(_no_formula, [*names, *times, told["way"]]), "", ""])
    return text.getvalue().encode("utf-8-sig")


def _no_formula(cell: str) -> str:
    """The cell as text, whatever a spreadsheet makes of it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _on_the_page(row: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    return _line(row, catalogue) | {
        "href": f"{DOSSIER}/{codes.parse(row['code']).path}",
        "applicant": name_and_tail(row["applicant_name"], row["applicant_id"]),
        "times": [_written(row[name]) for name in _TIMES],
    }


def _on_paper(row: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    return _line(row, catalogue) | {
        "applicant": row["applicant_name"] or "",
        "contact": ", ".join(each for each in (row["applicant_address"], row["applicant_phone"]) if each),
        **{name: local(row[name]) for name in _TIMES},
    }


def _line(row: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    return {
        "code": row["code"],
        "service": catalogue.service_view(row["service"]).name or row["service"],
        "lead": catalogue.agency_view(row["agency"]).name or row["agency"],
        "way": WORDS[f"result_by.{row['result_by']}"] if row["result_by"] else "",
    }


def _written(at: datetime | None) -> str:
    return f"{at.astimezone(VIETNAM):%H:%M %d/%m/%Y}" if at else ""


def _hours(day: date) -> tuple[datetime, datetime]:
    """When a day in Vietnam begins and when the next one does."""
    begins = datetime.combine(day, time(), VIETNAM)
    return begins, begins + timedelta(days=1)

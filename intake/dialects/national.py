"""The national dossier-synchronisation form: Vietnamese field names, dates as yyyyMMddHHmmss in UTC+7.

One JSON object a line: the fields of the service DongBoHoSoMC, and under TienTrinh the progress entries of
CapNhatTienDoHoSoMC, oldest first; a synchronisation sends such an entry alone, too. Any value may be a JSON number or
text; one that says nothing may be absent, null, "", [] or {}. `DonViXuLy` is the agency's code. docs/imports.md says
which fields are kept, and as what.

Where TienTrinh is missing, the dates say the steps, and the present status without a date is no step of the timeline.
"""

import functools
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from intake.dialects import History, HistoryStep, Person, Refused, cleaned, ends
from intake.rules.texts import UnclearText, clean
from lookup import code as codes
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.status import Status

CHANNELS = {1: "direct", 2: "online", 3: "postal"}
MOST_ENTRIES = 400
"""Of a list."""
_DATE = re.compile(r"[0-9]{14}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_CASE = "Trường hợp: "
_SINCE = {
    Status.SUBMITTED: "NgayNopHoSo",
    Status.RECEIVED: "NgayTiepNhan",
    Status.REJECTED: "NgayTuChoi",
    Status.COMPLETED: "NgayKetThucXuLy",
    Status.RETURNED: "NgayTra",
}
"""The field that says when a dossier took this status."""

_STATUSES = {str(status.value): status for status in Status}
_Form = dict[str, Any]


def read(form: _Form) -> History:
    """The history in this object. Raises Refused."""
    code = _code(form)
    status = _status(form, "TrangThaiHoSo")
    agency = _needed(form, "DonViXuLy", 300)
    channel = CHANNELS.get(number := _number(form, "KenhThucHien"))
    if channel is None:
        raise Refused("wrong_shape", f"KenhThucHien: {number} is not 1, 2 or 3")
    dates = {status: _date(form, field) for status, field in _SINCE.items()}
    submitted = dates[Status.SUBMITTED]
    if submitted is None:
        raise Refused("bad_date", "NgayNopHoSo: the date of submission is missing")
    entries = _list(form, "TienTrinh")
    steps = _told(entries, agency, submitted, dates) if entries else _dated(form, status, agency, channel, dates)
    if steps[-1].status is not status:
        raise Refused(
            "history_disagrees", f"TrangThaiHoSo is {status.value}, the last TrangThai is {steps[-1].status.value}"
        )
    steps = _supplemented(steps, _list(form, "DanhSachHoSoBoSung"))
    finished_at, returned_at = ends(steps, dates[Status.COMPLETED], dates[Status.RETURNED])
    other = _text(form, "ThongTinKhac", 4000, lines=True) or ""
    return History(
        code=code,
        agency=agency,
        service=_needed(form, "MaTTHC", 300),
        service_case=other.removeprefix(_CASE) if other.startswith(_CASE) else "default",
        channel=channel,
        submitted_at=submitted,
        received_at=dates[Status.RECEIVED]
        or next((step.at for step in steps if step.status is Status.RECEIVED and step.timed), None),
        due_at=_date(form, "NgayHenTra"),
        finished_at=finished_at,
        returned_at=returned_at,
        applicant=_applicant(form),
        subject=_text(form, "TrichYeuHoSo", 1000),
        steps=steps,
    )


class Progress(NamedTuple):
    """One entry of CapNhatTienDoHoSoMC. `at` is None where it does not say when."""

    code: DossierCode
    status: Status
    at: datetime | None
    department: str | None
    officer: str | None
    note: str | None


def read_progress(form: _Form) -> Progress:
    """The entry in this object. Raises Refused."""
    return Progress(
        _code(form),
        _status(form, "TrangThai"),
        _date(form, "ThoiDiemXuLy"),
        _text(form, "PhongBanXuLy", 300),
        _text(form, "NguoiXuLy", 100),
        _text(form, "NoiDungXuLy", 4000, lines=True),
    )


def canonical(form: Any) -> Any:
    """The same object for every spelling of it: what says nothing is left out, numbers are texts."""
    if isinstance(form, dict):
        told = {name: canonical(value) for name, value in form.items()}
        return {name: value for name, value in told.items() if value not in (None, "", [], {})}
    if isinstance(form, list):
        return [canonical(value) for value in form]
    if isinstance(form, str):
        return form.strip()
    return form if form is None else str(form)


def _code(form: _Form) -> DossierCode:
    try:
        return codes.parse(_text(form, "MaHoSo", codes.LONGEST) or "")
    except codes.MalformedCode as error:
        raise Refused("malformed_code", error.detail) from None


def _applicant(form: _Form) -> Person:
    kind = 1 if _said(form, "LoaiDoiTuong") is None else _number(form, "LoaiDoiTuong")
    if kind not in range(1, 5):
        raise Refused("wrong_shape", f"LoaiDoiTuong: {kind} is not 1 to 4")
    identity = _said(form, "DinhDanhCHS") or {}
    if not isinstance(identity, dict):
        raise Refused("wrong_shape", "DinhDanhCHS: no object")
    return Person(
        kind=kind,
        name=_needed(form, "ChuHoSo", 300),
        id=_text(identity, "SoDinhDanh", 300) or _text(form, "SoGiayToChuHoSo", 300),
        phone=_text(form, "SoDienThoai", 300),
        email=_text(form, "Email", 300),
        address=None,
    )


# -- steps -----------------------------------------------------------------------------------------------------------

_Dates = dict[Status, datetime | None]


def _told(entries: list[_Form], agency: str, submitted: datetime, dates: _Dates) -> tuple[HistoryStep, ...]:
    """The steps of TienTrinh. An entry without a time takes the date of its status, if there is one."""
    steps: list[HistoryStep] = []
    for entry in entries:
        status = _status(entry, "TrangThai")
        at = _date(entry, "ThoiDiemXuLy") or dates.get(status)
        steps.append(
            HistoryStep(
                at or (steps[-1].at if steps else submitted),
                status,
                agency,
                _text(entry, "PhongBanXuLy", 300),
                _text(entry, "NguoiXuLy", 100),
                _text(entry, "NoiDungXuLy", 4000, lines=True),
                timed=at is not None,
            )
        )
    return tuple(steps)


def _dated(form: _Form, status: Status, agency: str, channel: str, dates: _Dates) -> tuple[HistoryStep, ...]:
    """The steps that the dates of a dossier without TienTrinh say, and last its present status."""
    said = [(at, step) for step, at in dates.items() if at is not None and _led_to(step, status, channel)]
    said += [
        (at, Status.SUPPLEMENT_REQUIRED)
        for entry in _list(form, "DanhSachHoSoBoSung")
        if (at := _date(entry, "NgayBoSung")) is not None
    ]
    said.sort(key=lambda step: step[0])  # by time alone: those of one time stay in the order of the statuses
    steps = [HistoryStep(at, step, agency) for at, step in said]
    if not steps or steps[-1].status is not status:
        brought = [_date(entry, "NgayTiepNhanBoSung") for entry in _list(form, "DanhSachHoSoBoSung")]
        known = [at for at in (dates[Status.SUBMITTED], *brought, *(at for at, _ in said)) if at is not None]
        steps.append(HistoryStep(max(known), status, agency, timed=False))
    return tuple(steps)


def _led_to(step: Status, status: Status, channel: str) -> bool:
    """Whether the date of this step belongs to a dossier of that status: only an online one was ever submitted first,
    and of what comes at the end, only what the status says has come."""
    if step is Status.SUBMITTED:
        return channel == "online" or status is Status.SUBMITTED
    if step is Status.RECEIVED:
        return status not in (Status.SUBMITTED, Status.REJECTED)
    return step is status or (step is Status.COMPLETED and status is Status.RETURNED)


def _supplemented(steps: tuple[HistoryStep, ...], entries: list[_Form]) -> tuple[HistoryStep, ...]:
    """The steps that ask for a supplement, in order, with what DanhSachHoSoBoSung says of each."""
    left: Iterator[_Form] = iter(entries)
    return tuple(_asked(step, next(left, {})) if step.status is Status.SUPPLEMENT_REQUIRED else step for step in steps)


def _asked(step: HistoryStep, entry: _Form) -> HistoryStep:
    content = _text(entry, "NoiDungBoSung", 4000, lines=True)
    is_said = content is None or content.casefold() in (step.note or "").casefold()
    return HistoryStep(
        step.at,
        step.status,
        step.agency,
        step.department,
        step.officer or _text(entry, "NguoiYeuCauBoSung", 100),
        step.note,
        items=() if content is None or is_said else (content,),
        due_before=_date(entry, "NgayHenTraTruoc"),
        timed=step.timed,
    )


# -- values ----------------------------------------------------------------------------------------------------------


def _said(form: _Form, field: str) -> Any:
    """The value; None if it says nothing."""
    value = form.get(field)
    if not value and value is not False and value != 0:
        return None
    return None if isinstance(value, str) and value.isspace() else value


def _text(form: _Form, field: str, longest: int, *, lines: bool = False) -> str | None:
    value = form.get(field)
    if value is None or value == "":
        return None
    if type(value) is str:
        if len(value) <= _OFTEN_SAID:
            try:
                return _cleaned_often(value, longest, lines)
            except UnclearText:
                pass  # and once more, with the field's name
        return None if value.isspace() else cleaned(field, value, longest, lines=lines)
    if value in ([], {}):
        return None
    if type(value) is not int:
        raise Refused("wrong_shape", f"{field}: neither a text nor a whole number")
    return cleaned(field, str(value), longest, lines=lines)


_OFTEN_SAID = 120
"""Characters; of shorter texts many come again and again: names of units, of officers, of statuses."""


@functools.lru_cache(maxsize=8192)
def _cleaned_often(text: str, longest: int, lines: bool) -> str | None:
    return None if text.isspace() else clean(text, longest, lines=lines)


def _needed(form: _Form, field: str, longest: int) -> str:
    text = _text(form, field, longest)
    if text is None:
        raise Refused("wrong_shape", f"{field}: it is missing")
    return text


def _number(form: _Form, field: str) -> int:
    value = form.get(field)
    if type(value) is int:
        return value
    text = _needed(form, field, 40)
    if not _INTEGER.fullmatch(text):
        raise Refused("wrong_shape", f"{field}: {text[:20]!r} is no whole number")
    return int(text)


def _list(form: _Form, field: str) -> list[_Form]:
    entries = _said(form, field) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Refused("wrong_shape", f"{field}: no list of objects")
    if len(entries) > MOST_ENTRIES:
        raise Refused("wrong_shape", f"{field}: {len(entries)} entries; there may be {MOST_ENTRIES}")
    return entries


def _status(form: _Form, field: str) -> Status:
    value = form.get(field)
    if type(value) is str and value in _STATUSES:
        return _STATUSES[value]
    number = _number(form, field)
    try:
        return Status(number)
    except ValueError:
        raise Refused("unknown_status", f"{field}: {number} is not a national status (1 to 10)") from None


def _date(form: _Form, field: str) -> datetime | None:
    text = form.get(field)
    if text is None or text == "":
        return None
    if type(text) is not str:
        text = _text(form, field, 40)
        if text is None:
            return None
    try:
        return _moment(text)
    except ValueError:
        text = text.strip()
        fault = f"{text} does not exist" if _DATE.fullmatch(text) else f"{text[:20]!r} is not yyyyMMddHHmmss"
        raise Refused("bad_date", f"{field}: {fault}") from None


@functools.lru_cache(maxsize=1024)
def _moment(text: str) -> datetime | None:
    """The time that this says; None for white space. Raises ValueError."""
    text = text.strip()
    if not _DATE.fullmatch(text):
        if text:
            raise ValueError
        return None
    return datetime.fromisoformat(f"{text[:8]}T{text[8:]}").replace(tzinfo=VIETNAM)

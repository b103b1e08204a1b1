"""The national dossier-synchronisation form: Vietnamese field names, dates as yyyyMMddHHmmss in UTC+7.

One JSON object a line: the fields of the service DongBoHoSoMC, and under TienTrinh the progress entries of
CapNhatTienDoHoSoMC, oldest first. Numbers may be JSON numbers or text, absent fields may be empty or null. Fields that
the lookup does not need (papers, fees, attachments) are ignored. `DonViXuLy` is the agency's code.
"""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from intake.bulk.dialects import History, HistoryStep, Person, Refused
from lookup import code as codes
from lookup.clock import VIETNAM
from lookup.status import Status

CHANNELS = {1: "direct", 2: "online", 3: "postal"}
_DATE = re.compile(r"[0-9]{14}", re.ASCII)
_CASE = "Trường hợp: "

_Text = Annotated[str, Meta(max_length=4000)]
_Short = Annotated[str, Meta(max_length=300)]


class Identity(msgspec.Struct):
    """DinhDanhCHS."""

    number: _Short | None = msgspec.field(name="SoDinhDanh", default=None)


class ProgressEntry(msgspec.Struct):
    """One entry of TienTrinh."""

    at: str = msgspec.field(name="ThoiDiemXuLy")
    status: int = msgspec.field(name="TrangThai")
    department: _Short | None = msgspec.field(name="PhongBanXuLy", default=None)
    officer: Annotated[str, Meta(max_length=100)] | None = msgspec.field(name="NguoiXuLy", default=None)
    note: _Text | None = msgspec.field(name="NoiDungXuLy", default=None)


class NationalDossier(msgspec.Struct):
    """The fields of the form that the lookup uses."""

    code: str = msgspec.field(name="MaHoSo")
    service: _Short = msgspec.field(name="MaTTHC")
    agency: _Short = msgspec.field(name="DonViXuLy")
    status: int = msgspec.field(name="TrangThaiHoSo")
    channel: int = msgspec.field(name="KenhThucHien")
    submitted: str = msgspec.field(name="NgayNopHoSo")
    applicant: _Short = msgspec.field(name="ChuHoSo")
    applicant_kind: Annotated[int, Meta(ge=1, le=4)] = msgspec.field(name="LoaiDoiTuong", default=1)
    identity: Identity | None = msgspec.field(name="DinhDanhCHS", default=None)
    phone: _Short | None = msgspec.field(name="SoDienThoai", default=None)
    email: _Short | None = msgspec.field(name="Email", default=None)
    subject: Annotated[str, Meta(max_length=1000)] | None = msgspec.field(name="TrichYeuHoSo", default=None)
    other: _Text | None = msgspec.field(name="ThongTinKhac", default=None)
    received: str | None = msgspec.field(name="NgayTiepNhan", default=None)
    due: str | None = msgspec.field(name="NgayHenTra", default=None)
    finished: str | None = msgspec.field(name="NgayKetThucXuLy", default=None)
    returned: str | None = msgspec.field(name="NgayTra", default=None)
    refused: str | None = msgspec.field(name="NgayTuChoi", default=None)
    progress: list[ProgressEntry] | None = msgspec.field(name="TienTrinh", default=None)


_decoder = msgspec.json.Decoder(NationalDossier, strict=False)


def read(line: bytes) -> History:
    """The history in this line. Raises Refused."""
    try:
        form = _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise Refused("wrong_shape", str(error)) from None
    try:
        code = codes.parse(form.code)
    except codes.MalformedCode as error:
        raise Refused("malformed_code", error.detail) from None
    status = _status(form.status)
    submitted = _date("NgayNopHoSo", form.submitted)
    if submitted is None:
        raise Refused("bad_date", "NgayNopHoSo: the date of submission is missing")
    steps = _steps(form, status, submitted)
    last = steps[-1]
    finished = _date("NgayKetThucXuLy", form.finished)
    returned = _date("NgayTra", form.returned)
    due = _date("NgayHenTra", form.due)
    if due is not None and due < submitted:
        raise Refused("dates_out_of_order", "NgayHenTra is before NgayNopHoSo")
    _date("NgayTuChoi", form.refused)
    return History(
        code=code,
        agency=form.agency,
        service=form.service,
        service_case=form.other.removeprefix(_CASE) if form.other and form.other.startswith(_CASE) else "default",
        channel=_channel(form.channel),
        submitted_at=submitted,
        received_at=_date("NgayTiepNhan", form.received),
        due_at=due,
        finished_at=(finished or last.at) if status in (Status.COMPLETED, Status.RETURNED) else None,
        returned_at=(returned or last.at) if status is Status.RETURNED else None,
        applicant=Person(
            kind=form.applicant_kind,
            name=form.applicant,
            id=(form.identity and form.identity.number) or None,
            phone=form.phone or None,
            email=form.email or None,
            address=None,
        ),
        subject=form.subject or None,
        steps=steps,
    )


def _steps(form: NationalDossier, status: Status, submitted: datetime) -> tuple[HistoryStep, ...]:
    steps = tuple(
        HistoryStep(
            at=_date("ThoiDiemXuLy", entry.at) or submitted,
            status=_status(entry.status),
            agency=form.agency,
            department=entry.department or None,
            officer=entry.officer or None,
            note=entry.note or None,
        )
        for entry in form.progress or ()
    )
    if not steps:  # some systems send the present status without a history
        return (HistoryStep(submitted, status, form.agency, None, None, None),)
    if steps[-1].status is not status:
        raise Refused(
            "history_disagrees",
            f"TrangThaiHoSo is {status.value}, the last TrangThai is {steps[-1].status.value}",
        )
    return steps


def _status(number: int) -> Status:
    try:
        return Status(number)
    except ValueError:
        raise Refused("unknown_status", f"{number} is not a national status (1 to 10)") from None


def _channel(number: int) -> str:
    try:
        return CHANNELS[number]
    except KeyError:
        raise Refused("wrong_shape", f"KenhThucHien: {number} is not 1, 2 or 3") from None


def _date(field: str, text: str | None) -> datetime | None:
    if not text:
        return None
    if not _DATE.fullmatch(text):
        raise Refused("bad_date", f"{field}: {text[:20]!r} is not yyyyMMddHHmmss")
    try:
        return datetime(
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[8:10]),
            int(text[10:12]),
            int(text[12:]),
            tzinfo=VIETNAM,
        )
    except ValueError:
        raise Refused("bad_date", f"{field}: {text} does not exist") from None

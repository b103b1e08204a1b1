"""Made-up dossiers in the national synchronisation form, to fill an empty database and to test the import.

Agencies and services are those of the sample catalogue; people and companies are fictitious. A dossier is one walk
through the allowed moves on an axis of working seconds, cut off at the end of the day `until`. The same arguments give
the same bytes.
"""

import random
import sys
import unicodedata
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta
from functools import cache
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

import holidays
import msgspec
from rich.console import Console
from rich.progress import Progress

from lookup.catalogue import Agency, Service, load

Dossier = dict[str, Any]
T = TypeVar("T")

BROKEN_KINDS = (
    "bad_date",
    "unknown_status",
    "wrong_type",
    "truncated",
    "nul_byte",
    "escaped_nul",
    "unknown_agency",
    "missing_code",
    "malformed_code",
    "oversized",
)
"""The kinds of broken lines. A file has one `oversized` line, and only if it has 1000 lines or more."""


def dossiers(n: int, *, seed: int = 24, until: date, days: int = 365, first: int = 1) -> Iterator[Dossier]:
    """`n` dossiers submitted during the `days` up to and including `until`, oldest first.

    Every sequence of codes begins with `first`, so that two samples can have different codes in one database. Raises
    ValueError for a negative `n` or no days.
    """
    if n < 0 or days < 1:
        raise ValueError("a sample has no negative size and covers at least one day")
    bureau = _Bureau(seed, _Calendar(until, days), first)
    done = [round(n * share) for share in accumulate(bureau.calendar.traffic)]
    for day, (before, after) in zip(bureau.calendar.days, pairwise([0, *done]), strict=True):
        for moment in sorted(bureau.random() for _ in range(after - before)):
            yield bureau.dossier(day, _second_of_day(moment))


def lines(
    n: int, *, seed: int = 24, until: date, days: int = 365, broken: float = 0.0, first: int = 1
) -> Iterator[bytes]:
    """The same dossiers as NDJSON, each line with its newline. The share `broken` of the lines is broken by
    `plan_breaks`; the other lines are the same as without it."""
    breaks = plan_breaks(n, broken, seed)
    for number, dossier in enumerate(dossiers(n, seed=seed, until=until, days=days, first=first), 1):
        kind = breaks.get(number)
        yield (_encode(dossier) if kind is None else _spoilt(kind, number, dossier)) + b"\n"


def write(
    target: str | Path | BinaryIO,
    n: int,
    *,
    seed: int = 24,
    until: date,
    days: int = 365,
    broken: float = 0.0,
    first: int = 1,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write the lines to a path or an open binary stream; returns the number of bytes.

    Calls `progress` with the number of lines after every thousand lines.
    """
    source = lines(n, seed=seed, until=until, days=days, broken=broken, first=first)
    size = 0
    with _opened(target) as stream:
        while batch := list(islice(source, 1000)):
            chunk = b"".join(batch)
            stream.write(chunk)
            size += len(chunk)
            if progress:
                progress(len(batch))
    return size


def plan_breaks(n: int, broken: float, seed: int = 24) -> dict[int, str]:
    """The broken lines of such a file: line number, counted from 1 → one of BROKEN_KINDS."""
    if not 0 <= broken <= 1:
        raise ValueError("the broken share lies between 0 and 1")
    count = max(1, round(n * broken)) if broken and n else 0
    numbers = _dice(f"{seed}:breaks").sample(range(1, n + 1), count)
    *small, oversized = BROKEN_KINDS
    plan = {number: small[i % len(small)] for i, number in enumerate(numbers)}
    if plan and n >= 1000:
        plan[numbers[-1]] = oversized
    return dict(sorted(plan.items()))


_encode = msgspec.json.Encoder().encode


def _opened(target: str | Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return Path(target).open("wb") if isinstance(target, str | Path) else nullcontext(target)


def _dice(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311  it has to be repeatable


class _Draw(Generic[T]):
    """Values with weights; a number in [0, 1) draws one."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._values = list(weights)
        *self._bounds, self._total = accumulate(weights.values())

    def __call__(self, chance: float) -> T:
        return self._values[bisect(self._bounds, chance * self._total)]


class _Service(Service, frozen=True, eq=False):
    """A service that can be drawn."""

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(time.service_case for time in self.times))


@cache
def _agencies() -> list[Agency]:
    return load.sample()[0]


@cache
def _services() -> list[_Service]:
    return [_Service(**msgspec.structs.asdict(service)) for service in load.sample()[1]]


@cache
def _time_limit(service: _Service, case: str, channel: str, day: date) -> int:
    """The time limit in working seconds; the sample's services have theirs in working hours."""
    limit = service.time_limit(case, channel, day)
    if limit is None or limit.hours is None:
        raise ValueError(f"the catalogue has no time limit in working hours for {service.code} on {day}")
    return limit.hours * _HOUR


_HOUR = 3600
_WORKDAY = 8 * _HOUR
_OPENS, _LUNCH, _REOPENS, _CLOSES = 7 * _HOUR, 11 * _HOUR + 1800, 13 * _HOUR + 1800, 17 * _HOUR


def _clock(second: int) -> str:
    return f"{second // _HOUR:02d}{second // 60 % 60:02d}{second % 60:02d}"


_WORKING_CLOCK = [_clock(second) for second in (*range(_OPENS, _LUNCH), *range(_REOPENS, _CLOSES))]


def _is_open(second: int) -> bool:
    return _OPENS <= second < _LUNCH or _REOPENS <= second < _CLOSES


def _worked(second: int) -> int:
    """The working seconds of a working day before this second of the day."""
    return min(max(second - _OPENS, 0), _LUNCH - _OPENS) + min(max(second - _REOPENS, 0), _CLOSES - _REOPENS)


# Submissions by hour of the day: counters in the mornings, phones in the evenings, some in every hour.
_BY_HOUR = (0.6, 0.4, 0.2, 0.2, 0.2, 0.5, 1.5, 7, 13, 13, 11, 6, 3, 8, 11, 10, 7, 3, 2.5, 3, 4, 4, 3, 1.5)
_HOUR_BOUNDS = [0.0, *accumulate(_BY_HOUR)]


def _second_of_day(share: float) -> int:
    """The second of the day by which this share of its dossiers is submitted."""
    arrived = share * _HOUR_BOUNDS[-1]
    hour = bisect(_HOUR_BOUNDS, arrived, 1, 24) - 1
    return min(int((hour + (arrived - _HOUR_BOUNDS[hour]) / _BY_HOUR[hour]) * _HOUR), 24 * _HOUR - 1)


class _Day(NamedTuple):
    date: date
    text: str
    working: bool
    opening: int
    """The point on the axis at the opening of this day, or of the next working day."""


class _Calendar:
    """The days of the sample, and the axis of working seconds over them and the time after them."""

    def __init__(self, until: date, days: int) -> None:
        longest = max(time.hours or 0 for service in _services() for time in service.times)
        start = until - timedelta(days - 1)
        # Twice the longest limit in days leaves room for its weekends, thirty more for the New Year.
        span = [start + timedelta(i) for i in range(days + longest // 8 * 2 + 30)]
        vietnam = holidays.country_holidays("VN", years=range(start.year, span[-1].year + 1))
        working = [day for day in span if vietnam.is_working_day(day)]
        self._texts = [f"{day:%Y%m%d}" for day in working]
        self.now = bisect(working, until) * _WORKDAY - 1
        at_work = set(working)
        self.days: list[_Day] = []
        for day in span[:days]:
            passed = self.days[-1].opening + _WORKDAY * self.days[-1].working if self.days else 0
            self.days.append(_Day(day, f"{day:%Y%m%d}", day in at_work, passed))
        self.traffic = _traffic(self.days)

    def stamp(self, at: int) -> str:
        """A point on the axis as yyyyMMddHHmmss; empty for 0, which means never."""
        if not at:
            return ""
        day, second = divmod(at, _WORKDAY)
        return self._texts[day] + _WORKING_CLOCK[second]


def _traffic(days: list[_Day]) -> list[float]:
    """Each day's share of the submissions: the longer the offices were closed, the busier the days after."""
    weights: list[float] = []
    rush = closed = 0.0
    for day in days:
        closed = 0 if day.working else closed + 1
        weights.append(1 + rush if day.working else 0.12)
        rush = max(rush * 0.7, 0.13 * min(closed, 8))
    total = sum(weights)
    return [weight / total for weight in weights]


# The legs of a walk: the hours they take at least, and the spread above that. A leg in _WORK also takes a part of the
# service's time limit.
_LEGS = {
    (1, 2): (0.1, 7), (1, 3): (0.5, 7), (1, 5): (0.3, 7), (1, 7): (0.2, 12),
    (2, 4): (0.05, 4), (2, 5): (0.5, 8), (2, 6): (0.1, 4), (2, 7): (1, 16), (2, 8): (1, 16), (2, 9): (0.1, 2),
    (4, 4): (0.1, 1), (4, 5): (1, 20), (4, 6): (0.1, 1), (4, 7): (2, 40), (4, 8): (0.1, 1), (4, 9): (0.1, 1),
    (5, 2): (2, 64), (5, 3): (8, 64), (5, 4): (2, 64), (5, 7): (4, 80), (5, 8): (16, 80),
    (6, 4): (0.5, 30), (6, 7): (4, 60), (6, 9): (0.5, 30),
    (8, 4): (16, 100), (8, 7): (8, 80), (8, 10): (8, 80),
    (9, 4): (2, 16), (9, 10): (0.1, 40),
}  # fmt: skip
_WORK = {(4, 4), (4, 6), (4, 8), (4, 9)}

_AT_THE_DOOR: dict[tuple[int, ...], float] = {(2,): 930, (5, 2): 45, (3,): 12, (7,): 5, (5, 3): 5, (5, 7): 3}
_INSIDE: dict[tuple[int, ...], float] = {
    (4, 9, 10): 560, (4, 4, 9, 10): 180, (4, 4, 4, 9, 10): 25, (9, 10): 90,
    (4, 5, 4, 9, 10): 45, (4, 5, 2, 4, 9, 10): 12, (5, 4, 9, 10): 10, (4, 5, 7): 5, (4, 5, 3): 2, (4, 5): 3,
    (4, 6, 4, 9, 10): 22, (6, 9, 10): 10, (4, 6, 7): 2,
    (4, 8, 4, 9, 10): 12, (4, 8, 10): 3, (4, 8, 7): 1, (5, 8, 10): 1, (8, 4, 9, 10): 1,
    (4, 7): 8, (7,): 3, (4, 9, 4, 9, 10): 5,
}  # fmt: skip


class _Step(NamedTuple):
    status: int
    least: int
    spread: int
    part: float
    """The share of the work on the dossier."""


_Course = tuple[_Step, ...]


def _course(statuses: tuple[int, ...]) -> _Course:
    legs = list(pairwise(statuses))
    part = 0.95 / max(1, sum(leg in _WORK for leg in legs))
    steps = [_Step(statuses[0], 0, 0, 0.0)]
    for leg in legs:
        least, spread = _LEGS[leg]
        steps.append(_Step(leg[1], int(least * _HOUR), int(spread * _HOUR), part if leg in _WORK else 0.0))
    return tuple(steps)


def _online_courses() -> dict[_Course, float]:
    """Every course of acceptance with every course of processing; by law a supplement is asked for once."""
    courses = {}
    for door, door_weight in _AT_THE_DOOR.items():
        for inside, weight in (_INSIDE if door[-1] == 2 else {(): sum(_INSIDE.values())}).items():
            statuses = (1, *door, *inside)
            if statuses.count(5) < 2:
                courses[_course(statuses)] = door_weight * weight
    return courses


_COURSES = {
    "online": _Draw(_online_courses()),
    "direct": _Draw({_course((2, *inside)): weight for inside, weight in _INSIDE.items()}),
}
_COURSES["postal"] = _COURSES["direct"]

_CHANNELS = {"direct": "1", "online": "2", "postal": "3"}
_CHANNEL = _Draw({"direct": 46, "online": 48, "postal": 6})


class _Move(NamedTuple):
    status: int
    at: int
    stamp: str
    due: int
    """The due date after this move; 0 before there is one."""


_POPULARITY = {
    "S.001": 24, "S.002": 5, "S.003": 6, "S.004": 14, "S.005": 16, "S.006": 10, "S.011": 8, "S.013": 5,
}  # fmt: skip
_FIELDS = {
    "BHXH-Thu": ("Thu, sổ, thẻ bảo hiểm", "Phòng Quản lý thu và sổ, thẻ"),
    "BHXH-CSBH": ("Chính sách bảo hiểm", "Phòng Chế độ bảo hiểm"),
    "BHXH-THCS": ("Chi trả chế độ", "Phòng Kế hoạch tài chính"),
}
_ONE_STOP = "Bộ phận Một cửa"
_DESKS = {
    1: ("Cổng dịch vụ công", "", "Hồ sơ được nộp trực tuyến"),
    2: (_ONE_STOP, "Cán bộ một cửa", "Tiếp nhận hồ sơ, hẹn trả kết quả"),
    3: (_ONE_STOP, "Cán bộ một cửa", "Từ chối tiếp nhận: không thuộc phạm vi giải quyết"),
    4: ("", "Chuyên viên", "Thụ lý hồ sơ"),
    5: (_ONE_STOP, "Cán bộ một cửa", "Đề nghị bổ sung bản chính giấy tờ chứng minh"),
    6: (_ONE_STOP, "Cán bộ một cửa", "Đề nghị nộp phí theo thông báo"),
    7: (_ONE_STOP, "Cán bộ một cửa", "Người nộp rút hồ sơ"),
    8: ("", "Chuyên viên", "Tạm dừng, chờ ý kiến cơ quan phối hợp"),
    9: ("", "Lãnh đạo phòng", "Đã ký kết quả giải quyết"),
    10: (_ONE_STOP, "Cán bộ một cửa", "Đã trả kết quả"),
}
_NEXT_UNIT = ("Phòng Thanh tra, kiểm tra", "Chuyên viên", "Thẩm định hồ sơ")
_HANDED_OVER = {"1": "Trả tại Bộ phận Một cửa", "2": "Trả bản điện tử", "3": "Trả qua bưu chính"}


class _Bureau:
    """Makes dossiers: from random numbers, the calendar, people, and the numbers issued so far."""

    def __init__(self, seed: int, calendar: _Calendar, first: int) -> None:
        self.random = _dice(seed).random
        self.calendar = calendar
        self._agencies = _Draw({agency.code: _busyness(agency.code) for agency in _agencies()})
        self._services = _Draw(
            {
                (service, case): _POPULARITY.get(service.code, 1) * (1 if case == "default" else 0.2)
                for service in _services()
                for case in service.cases
            }
        )
        self._people = [_person(self.random) for _ in range(4096)]
        titles = dict.fromkeys(title for _, title, _ in _DESKS.values())
        self._staff = {
            agency.code: {title: self._someone()[0] if title else "Hệ thống" for title in titles}
            for agency in _agencies()
        }
        self._issued: defaultdict[str, int] = defaultdict(lambda: first - 1)

    def dossier(self, day: _Day, second: int) -> Dossier:
        """One dossier submitted at that second, with its moves up to the end of the sample."""
        at = day.opening + (_worked(second) if day.working else 0)
        channel = _CHANNEL(self.random()) if day.working and _is_open(second) else "online"
        service, case = self._services(self.random())
        limit = _time_limit(service, case, channel, day.date)
        events = self._history(_COURSES[channel](self.random()), service, limit, at, day.text + _clock(second))
        return self._form(self._agencies(self.random()), service, case, _CHANNELS[channel], events)

    def _history(self, course: _Course, service: _Service, limit: int, at: int, stamp: str) -> list[_Move]:
        random, now = self.random, self.calendar.now
        late = random() < 0.04
        work = limit * (1.05 + 0.8 * random() if late else 0.25 + 0.7 * random())
        due = at + limit if course[0].status == 2 else 0
        events = [_Move(course[0].status, at, stamp, due)]
        for status, least, spread, part in course[1:]:
            last = events[-1]
            at = last.at + least + int(spread * random() ** 2 + part * work)
            if at > now:
                break
            due = _due(last, status, at, service, limit)
            events.append(_Move(status, at, self.calendar.stamp(at), due))
        return events

    def _form(self, agency: str, service: _Service, case: str, channel: str, events: list[_Move]) -> Dossier:
        status, _, latest, due = events[-1]
        first = {event.status: event.stamp for event in reversed(events)}
        field, department = _FIELDS[service.field_code]
        code = self._code(agency, first.get(2, events[0].stamp))
        applicant = self._applicant(service.field_code)
        online, done = channel == "2", status in {9, 10}
        # A correction sends finished work back, so only the last finish counts.
        finished = {event.status: event.stamp for event in events}.get(9, latest) if done else ""
        return {
            "MaHoSo": code,
            "MaTTHC": service.code,
            "TenTTHC": service.name_vi,
            "MaLinhVuc": service.field_code,
            "TenLinhVuc": field,
            "KenhThucHien": channel,
            **applicant,
            "ThongTinKhac": "" if case == "default" else f"Trường hợp: {case}",
            "TrichYeuHoSo": f"{service.name_vi} - {applicant['ChuHoSo']}",
            "NgayNopHoSo": events[0].stamp,
            "NgayTiepNhan": first.get(2, ""),
            "NgayHenTra": self.calendar.stamp(due),
            "TrangThaiHoSo": str(status),
            "NgayKetThucXuLy": finished,
            "NgayTra": latest if status == 10 else "",
            "NgayTuChoi": latest if status == 3 else "",
            "ThongTinTra": _HANDED_OVER[channel] if status == 10 else "",
            "HinhThuc": channel,
            "DonViXuLy": agency,
            "GhiChu": "",
            "NoiNopHoSo": "1" if online else "2",
            "HoSoCoThanhPhanSoHoa": "1" if online else "0",
            "TaiKhoanDuocXacThucVoiVNeID": "1" if online else "0",
            "DuocThanhToanTrucTuyen": "1" if online and 6 in first else "0",
            "TaiLieuNop": _papers(service) if online else [],
            "DanhSachLePhi": [dict(_FEE)] if 6 in first else [],
            "DanhSachTepDinhKemKhac": [],
            "DanhSachHoSoBoSung": self._supplements(code, agency, events) if 5 in first else [],
            "DanhSachGiayToKetQua": _results(code) if done else [],
            "DSKetNoiCSDL": [],
            "TienTrinh": self._progress(code, agency, department, events),
        }

    def _progress(self, code: str, agency: str, department: str, events: list[_Move]) -> list[Dossier]:
        staff = self._staff[agency]
        steps = []
        before, began = 0, events[0].stamp
        for status, _, stamp, due in events:
            desk, title, note = _NEXT_UNIT if status == before == 4 else _DESKS[status]
            steps.append(
                {
                    "MaHoSo": code,
                    "NguoiXuLy": staff[title],
                    "ChucDanh": title,
                    "ThoiDiemXuLy": stamp,
                    "PhongBanXuLy": desk or department,
                    "NoiDungXuLy": note,
                    "TrangThai": str(status),
                    "NgayBatDau": began,
                    "NgayKetThucTheoQuyDinh": self.calendar.stamp(due),
                }
            )
            before, began = status, stamp
        return steps

    def _supplements(self, code: str, agency: str, events: list[_Move]) -> list[Dossier]:
        """One entry for each supplement asked for; its later fields are empty until the papers have arrived."""
        entries: list[Dossier] = []
        officer = self._staff[agency][_DESKS[5][1]]
        for asked, came in pairwise([*events, None]):
            if asked is None or asked.status != 5:
                continue
            brought = came is not None and came.status in {2, 4}
            entries.append(
                {
                    "HoSoBoSungId": f"{code}-BS{len(entries) + 1}",
                    "NguoiYeuCauBoSung": officer,
                    "NoiDungBoSung": "Bản chính giấy tờ chứng minh",
                    "NgayBoSung": asked.stamp,
                    "NguoiTiepNhanBoSung": officer if brought else "",
                    "NgayTiepNhanBoSung": came.stamp if came and brought else "",
                    "TrangThaiBoSung": "1" if brought else "0",
                    "NgayHenTraTruoc": self.calendar.stamp(asked.due),
                    "NgayHenTraMoi": self.calendar.stamp(came.due) if came and brought else "",
                }
            )
        return entries

    def _code(self, agency: str, stamp: str) -> str:
        """The next code of the agency's day; of its year if the agency's identifier has five digits."""
        if agency.isdigit():
            series = f"/{stamp[:4]}/{agency}"
            self._issued[series] += 1
            return f"{self._issued[series]:05d}{series}"
        series = f"{_printed(agency)}-{stamp[2:8]}-"
        self._issued[series] += 1
        return f"{series}{self._issued[series]:04d}"

    def _applicant(self, field_code: str) -> Dossier:
        random = self.random
        number = int(random() * 1e9)
        name, mailbox = self._someone()
        company = random() < (0.4 if field_code == "BHXH-Thu" else 0.08)
        old_card = number % 100 < 3
        identity = f"999{number // 1000:06d}" if old_card else f"999{number:09d}"
        tax_number = f"999{number % 10_000_000:07d}"
        return {
            "ChuHoSo": f"{_COMPANIES(random())} {name.split()[-1]} (hư cấu)" if company else name,
            "SoGiayToChuHoSo": tax_number if company else identity,
            "LoaiDoiTuong": "2" if company else "1",
            "MaDoiTuong": tax_number if company else "",
            "DinhDanhCHS": {"LoaiDinhDanh": "2" if old_card else "1", "SoDinhDanh": identity},
            "Email": f"{mailbox}@example.com" if number % 10 < 4 else "",
            "Fax": "",
            "SoDienThoai": f"0000{number % 1_000_000:06d}",
        }

    def _someone(self) -> tuple[str, str]:
        return self._people[int(self.random() * len(self._people))]


def _due(last: _Move, status: int, at: int, service: _Service, limit: int) -> int:
    """The due date after this move: set at reception, and changed at the end of a pause by the service's policy."""
    if status == 2 and not last.due:
        return at + limit
    ends = (last.status == 5 and status in {2, 4}) or (last.status in {6, 8} and status in {4, 9, 10})
    policy = service.clock_after(last.status) if ends else "none"
    return {"restart": at + limit, "shift": last.due + at - last.at, "none": last.due}[policy]


def _busyness(agency: str) -> float:
    """The weight of an agency: head offices get few dossiers, the smallest units most."""
    if agency.isdigit():
        return 3
    if agency.startswith("G"):
        return (0.5, 3, 4)[agency.count(".")]
    return (0.1, 1, 5)[agency.count(".")]


@cache
def _printed(agency: str) -> str:
    """The identifier as codes have it. One province still uses the older scheme, level 1 last."""
    if not agency.startswith("G99.12"):
        return agency
    level_1, level_2, level_3 = [*agency.split("."), "00"][:3]
    return f"000.{level_3}.{level_2}.{level_1}"


_FEE = {"TenPhiLePhi": "Phí cấp bản sao", "HinhThucThu": "1", "Gia": "10000"}


def _papers(service: _Service) -> list[Dossier]:
    return [
        {
            "MaThanhPhanHoSo": f"{service.code}.01",
            "TenTepDinhKem": "to-khai.pdf",
            "DuocSoHoa": "1",
            "DuocTaiSuDung": "0",
            "DuocLayTuKhoDMQG": "0",
        }
    ]


def _results(code: str) -> list[Dossier]:
    return [
        {
            "TenGiayTo": "Kết quả giải quyết",
            "MaThanhPhanHoSo": "",
            "GiayToId": f"{code}-KQ1",
            "DuongDanTepTinKetQua": "",
            "MaGiayToKetQua": "KQ.01",
        }
    ]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FAMILY = _Draw({
    "Nguyễn": 38, "Trần": 12, "Lê": 10, "Phạm": 7, "Hoàng": 3, "Huỳnh": 3, "Phan": 4, "Vũ": 2, "Võ": 2,
    "Đặng": 2, "Bùi": 2, "Đỗ": 1.5, "Hồ": 1.3, "Ngô": 1.3, "Dương": 1, "Lý": 0.5, "Đinh": 0.5,
})  # fmt: skip
_MIDDLE_AND_GIVEN = (
    (
        _words("Thị Thị Thị Ngọc Thu Thanh Minh Bích Phương Diệu"),
        _words(
            "Anh Bích Chi Dung Giang Hà Hằng Hạnh Hoa Hương Huyền Lan Linh Loan Mai Nga Ngân Nhung Oanh "
            "Phượng Quỳnh Tâm Thảo Thủy Trang Trinh Tuyết Uyên Vân Yến"
        ),
    ),
    (
        _words("Văn Văn Văn Đức Hữu Quang Minh Ngọc Công Xuân"),
        _words(
            "An Bảo Bình Cường Đạt Dũng Duy Giang Hải Hiếu Hoàng Hùng Huy Khánh Khoa Kiên Lâm Long Nam Nghĩa "
            "Phong Phúc Quân Sơn Tài Thắng Thịnh Toàn Trung Tuấn Việt Vinh"
        ),
    ),
)
_COMPANIES = _Draw({f"Công ty {kind} {word}": 1 for kind in ("TNHH", "cổ phần") for word in (
    "An", "Đại", "Gia", "Hồng", "Kim", "Phú", "Tân", "Thiên", "Trường", "Vạn",
)})  # fmt: skip


def _person(random: Callable[[], float]) -> tuple[str, str]:
    """A name, and a mailbox made from it."""
    middle, given = _MIDDLE_AND_GIVEN[random() < 0.5]
    words = (_FAMILY(random()), middle[int(random() * len(middle))], given[int(random() * len(given))])
    name = " ".join(words)
    bare = unicodedata.normalize("NFD", name.lower().replace("đ", "d"))
    return name, ".".join("".join(c for c in bare if not unicodedata.combining(c)).split())


def _spoilt(kind: str, number: int, dossier: Dossier) -> bytes:
    if spoil := _SPOIL_DOSSIER.get(kind):
        spoil(dossier, number)
        return _encode(dossier)
    return _SPOIL_LINE[kind](_encode(dossier))


def _unknown_status(dossier: Dossier, _: int) -> None:
    dossier["TrangThaiHoSo"] = dossier["TienTrinh"][-1]["TrangThai"] = "42"


def _unknown_agency(dossier: Dossier, number: int) -> None:
    dossier["DonViXuLy"] = "Z98.77"
    _rename(dossier, f"Z98.77-{dossier['NgayNopHoSo'][2:8]}-{number:04d}")


def _rename(dossier: Dossier, code: str) -> None:
    for record in (dossier, *dossier["TienTrinh"]):
        record["MaHoSo"] = code


def _lose_code(dossier: Dossier, _: int) -> None:
    for record in (dossier, *dossier["TienTrinh"]):
        del record["MaHoSo"]


_SPOIL_DOSSIER: dict[str, Callable[[Dossier, int], None]] = {
    "bad_date": lambda dossier, _: dossier.update(NgayTiepNhan="20261350256199"),
    "unknown_status": _unknown_status,
    "wrong_type": lambda dossier, _: dossier.update(TienTrinh=[7]),
    "escaped_nul": lambda dossier, _: dossier.update(ChuHoSo=dossier["ChuHoSo"] + "\0"),
    "unknown_agency": _unknown_agency,
    "missing_code": _lose_code,
    "malformed_code": lambda dossier, number: _rename(dossier, f"G99..1-{number}-?"),
    "oversized": lambda dossier, _: dossier.update(GhiChu="x" * (10 << 20)),
}
_SPOIL_LINE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda line: line[: len(line) * 3 // 5],
    # A raw NUL is not JSON; the escaped NUL above is.
    "nul_byte": lambda line: line.replace(b'"ChuHoSo":"', b'"ChuHoSo":"\0', 1),
}


def run_sample(
    output: Path | None, count: int, *, seed: int, until: date, days: int, broken: float, first: int = 1
) -> None:
    """Write sample dossiers to a file, showing the progress, or to standard output."""
    with Progress(console=Console(stderr=True), disable=output is None) as progress:
        task = progress.add_task(output.name if output else "", total=count)
        write(
            output or sys.stdout.buffer,
            count,
            seed=seed,
            until=until,
            days=days,
            broken=broken,
            first=first,
            progress=lambda lines: progress.update(task, advance=lines),
        )

"""The two forms in which histories come, and every reason for which a line is refused."""

import re
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake import bulk, dialects
from intake.dialects import REASONS, Refused, read_line
from intake.dialects.national import _date
from lookup.clock import VIETNAM
from lookup.code import Scheme
from lookup.status import Status

CODE = "G99.01.02-261008-0975"


def at(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=VIETNAM)


def national(**fields: Any) -> dict[str, Any]:
    """A dossier in the national form; a field given as None is left out."""
    form = {
        "MaHoSo": CODE,
        "MaTTHC": "S.004",
        "DonViXuLy": "G99.01.02",
        "TrangThaiHoSo": 4,
        "KenhThucHien": 2,
        "NgayNopHoSo": "20261008083000",
        "NgayTiepNhan": "20261008090000",
        "NgayHenTra": "20261022090000",
        "ChuHoSo": "Nguyễn Văn Mẫu (hư cấu)",
        "LoaiDoiTuong": 1,
        "DinhDanhCHS": {"LoaiDinhDanh": 1, "SoDinhDanh": "999000000001"},
        "SoDienThoai": "0000000001",
        "TienTrinh": [
            {"ThoiDiemXuLy": "20261008083000", "TrangThai": 1},
            {"ThoiDiemXuLy": "20261008090000", "TrangThai": 2, "PhongBanXuLy": "Một cửa"},
            {
                "ThoiDiemXuLy": "20261009100000",
                "TrangThai": 4,
                "PhongBanXuLy": "Phòng Chế độ",
                "NguoiXuLy": "Cán bộ Mẫu",
                "NoiDungXuLy": "Thẩm định",
            },
        ],
    } | fields
    return {name: value for name, value in form.items() if value is not None}


def plain(**fields: Any) -> dict[str, Any]:
    """A dossier in our own form; a field given as None is left out."""
    form = {
        "code": CODE,
        "agency": "G99.01.02",
        "service": "S.004",
        "submitted_at": "2026-10-08T08:30:00+07:00",
        "due_at": "2026-10-22T09:00:00+07:00",
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": "999000000001"},
        "steps": [
            {"at": "2026-10-08T08:30:00+07:00", "status": "submitted"},
            {"at": "2026-10-08T09:00:00+07:00", "status": "received", "department": "Một cửa"},
            {"at": "2026-10-09T03:00:00Z", "status": "processing", "agency": "G99.01", "officer": "Cán bộ Mẫu"},
        ],
    } | fields
    return {name: value for name, value in form.items() if value is not None}


def line(form: Any) -> bytes:
    return msgspec.json.encode(form) + b"\n"


def reason(raw: bytes) -> str:
    """Why this line is refused."""
    with pytest.raises(Refused) as refused:
        read_line(raw)
    assert refused.value.reason in REASONS
    assert refused.value.detail
    return refused.value.reason


# -- the national form -------------------------------------------------------------------------------------


def test_national_form_is_read_whole() -> None:
    history = read_line(line(national()))
    assert (history.code.text, history.code.scheme) == (CODE, Scheme.B)
    assert (history.agency, history.service, history.service_case) == ("G99.01.02", "S.004", "default")
    assert history.channel == "online"
    assert history.submitted_at == at("20261008083000")
    assert history.received_at == at("20261008090000")
    assert history.due_at == at("20261022090000")
    assert (history.finished_at, history.returned_at) == (None, None)
    assert (history.applicant.name, history.applicant.id) == ("Nguyễn Văn Mẫu (hư cấu)", "999000000001")
    assert [step.status.value for step in history.steps] == [1, 2, 4]
    last = history.steps[-1]
    assert (last.at, last.department, last.officer) == (at("20261009100000"), "Phòng Chế độ", "Cán bộ Mẫu")
    assert last.note == "Thẩm định"
    assert not history.irregular


def test_national_numbers_may_come_as_text() -> None:
    steps = [{"ThoiDiemXuLy": "20261008083000", "TrangThai": "4"}]
    texts = national(TrangThaiHoSo="4", KenhThucHien="1", LoaiDoiTuong="2", TienTrinh=steps)
    history = read_line(line(texts))
    assert (history.steps[0].status, history.channel, history.applicant.kind) == (Status.PROCESSING, "direct", 2)


def test_national_dates_may_be_empty_or_absent() -> None:
    empty = {"NgayTiepNhan": "", "NgayHenTra": "", "NgayKetThucXuLy": "", "NgayTra": "", "NgayTuChoi": ""}
    absent = dict.fromkeys(empty)
    for fields in (empty, absent):
        history = read_line(line(national(**fields)))
        assert history.received_at == at("20261008090000"), "taken from the step, since it is not said"
        assert (history.due_at, history.finished_at, history.returned_at) == (None,) * 3


@pytest.mark.parametrize("steps", [None, [], "", {}])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [(1, "08083000", True), (2, "08090000", True), (4, "08090000", False)]),
        ({"KenhThucHien": 1}, [(2, "08090000", True), (4, "08090000", False)]),
        ({"KenhThucHien": 1, "NgayTiepNhan": ""}, [(4, "08083000", False)]),
        ({"NgayTiepNhan": ""}, [(1, "08083000", True), (4, "08083000", False)]),
        ({"TrangThaiHoSo": 1, "NgayTiepNhan": None}, [(1, "08083000", True)]),
        ({"TrangThaiHoSo": 2}, [(1, "08083000", True), (2, "08090000", True)]),
        ({"TrangThaiHoSo": 3, "NgayTuChoi": "20261010080000"}, [(1, "08083000", True), (3, "10080000", True)]),
        ({"TrangThaiHoSo": 3}, [(1, "08083000", True), (3, "08083000", False)]),
        (
            {"TrangThaiHoSo": 9, "NgayKetThucXuLy": "20261020080000", "NgayTra": "20261021080000"},
            [(1, "08083000", True), (2, "08090000", True), (9, "20080000", True)],
        ),
        (
            {"TrangThaiHoSo": 10, "NgayKetThucXuLy": "20261020080000", "NgayTra": "20261021080000"},
            [(1, "08083000", True), (2, "08090000", True), (9, "20080000", True), (10, "21080000", True)],
        ),
        (
            {"TrangThaiHoSo": 5, "DanhSachHoSoBoSung": [{"NgayBoSung": "20261012080000", "NoiDungBoSung": "Sổ"}]},
            [(1, "08083000", True), (2, "08090000", True), (5, "12080000", True)],
        ),
        (
            {"DanhSachHoSoBoSung": [{"NgayBoSung": "20261012080000", "NgayTiepNhanBoSung": "20261013080000"}]},
            [(1, "08083000", True), (2, "08090000", True), (5, "12080000", True), (4, "13080000", False)],
        ),
    ],
)
def test_national_form_without_steps_has_those_that_its_dates_say(
    fields: dict[str, Any], expected: list[Any], steps: Any
) -> None:
    history = read_line(line(national(**{"TienTrinh": steps} | fields)))
    assert [(step.status, step.at, step.timed) for step in history.steps] == [
        (status, at(f"202610{stamp}"), timed) for status, stamp, timed in expected
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"TrangThaiHoSo": 9},
        {"TrangThaiHoSo": 10},
        {"TrangThaiHoSo": 10, "NgayKetThucXuLy": "20261020080000"},
    ],
)
def test_end_without_any_date_is_refused(fields: dict[str, Any]) -> None:
    assert reason(line(national(TienTrinh=None, **fields))) == "bad_date"
    steps = [{"ThoiDiemXuLy": "", "TrangThai": fields["TrangThaiHoSo"]}]
    assert reason(line(national(**fields | {"TienTrinh": steps}))) == "bad_date"


def test_step_without_a_time_takes_the_date_of_its_status_or_is_marked() -> None:
    steps = [{"TrangThai": status} for status in (1, 2, 4)]
    history = read_line(line(national(TienTrinh=steps)))
    assert [(step.at, step.timed) for step in history.steps] == [
        (at("20261008083000"), True),
        (at("20261008090000"), True),
        (at("20261008090000"), False),
    ]


def test_national_values_are_numbers_or_text_and_say_nothing_in_five_ways() -> None:
    steps = [{"ThoiDiemXuLy": 20261008083000, "TrangThai": "1", "PhongBanXuLy": 12, "NguoiXuLy": [], "NoiDungXuLy": {}}]
    form = national(
        TrangThaiHoSo=1,
        NgayNopHoSo=20261008083000,
        NgayTiepNhan=[],
        NgayHenTra={},
        SoDienThoai=900000001,
        Email=" ",
        DinhDanhCHS=[],
        SoGiayToChuHoSo=999000000002,
        LoaiDoiTuong="",
        TrichYeuHoSo=12,
        TienTrinh=steps,
        DanhSachHoSoBoSung="",
    )
    history = read_line(line(form))
    assert (history.submitted_at, history.received_at, history.due_at) == (at("20261008083000"), None, None)
    who = history.applicant
    assert (who.kind, who.id, who.phone, who.email, history.subject) == (1, "999000000002", "900000001", None, "12")
    assert (history.steps[0].department, history.steps[0].officer, history.steps[0].note) == ("12", None, None)


def test_supplements_bring_what_is_asked_for_and_the_due_date_before() -> None:
    steps = [
        {"ThoiDiemXuLy": f"202610{day:02d}080000", "TrangThai": status, "NoiDungXuLy": note}
        for day, status, note in ((9, 2, ""), (10, 5, "Thiếu giấy tờ"), (11, 4, ""), (12, 5, ""))
    ]
    asked = [
        {"NgayBoSung": "20261010080000", "NoiDungBoSung": "Sổ", "NgayHenTraTruoc": "20261022090000"},
        {"NoiDungBoSung": "Thẻ", "NguoiYeuCauBoSung": "Cán bộ Mẫu"},
    ]
    history = read_line(line(national(TrangThaiHoSo=5, TienTrinh=steps, DanhSachHoSoBoSung=asked)))
    first, second = (step for step in history.steps if step.status is Status.SUPPLEMENT_REQUIRED)
    assert (first.note, first.items, first.due_before) == ("Thiếu giấy tờ", ("Sổ",), at("20261022090000"))
    assert (second.note, second.items, second.officer, second.due_before) == (None, ("Thẻ",), "Cán bộ Mẫu", None)


def test_national_ends_are_taken_from_the_last_step_when_they_are_not_said() -> None:
    steps = [{"ThoiDiemXuLy": f"202610{day}100000", "TrangThai": status} for day, status in ((12, 9), (14, 10))]
    history = read_line(line(national(TrangThaiHoSo=10, TienTrinh=steps)))
    assert (history.finished_at, history.returned_at) == (at("20261012100000"), at("20261014100000"))
    said = national(TrangThaiHoSo=10, TienTrinh=steps, NgayKetThucXuLy="20261012100000", NgayTra="20261015080000")
    history = read_line(line(said))
    assert (history.finished_at, history.returned_at) == (at("20261012100000"), at("20261015080000"))


def test_ends_of_a_dossier_under_way_are_not_believed() -> None:
    history = read_line(line(national(NgayKetThucXuLy="20261012100000", NgayTra="20261015080000")))
    assert (history.finished_at, history.returned_at) == (None, None)


def test_case_stands_in_the_other_information() -> None:
    assert read_line(line(national(ThongTinKhac="Trường hợp: verification"))).service_case == "verification"
    assert read_line(line(national(ThongTinKhac="Nộp thay"))).service_case == "default"


def test_fields_that_say_nothing_about_status_are_passed_over() -> None:
    assert read_line(line(national(TaiLieuNop=[{"TenTepDinhKem": "x"}], DanhSachLePhi=[1, 2], Fax=None)))


def test_official_number_is_a_code_too() -> None:
    assert read_line(line(national(MaHoSo="1234/2026/99901"))).code.text == "01234/2026/99901"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"MaTTHC": None}, "wrong_shape"),
        ({"MaTTHC": 4.5}, "wrong_shape"),
        ({"MaTTHC": True}, "wrong_shape"),
        ({"ChuHoSo": None}, "wrong_shape"),
        ({"ChuHoSo": ""}, "wrong_shape"),
        ({"ChuHoSo": "   "}, "wrong_shape"),
        ({"ChuHoSo": "x" * 301}, "unclear_text"),
        ({"ChuHoSo": "\u200b\ufeff"}, "unclear_text"),
        ({"ChuHoSo": "Nguyễn \u202eVăn Mẫu"}, "unclear_text"),
        ({"TrichYeuHoSo": "x\x1bx"}, "unclear_text"),
        ({"DinhDanhCHS": "999000000001"}, "wrong_shape"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008083000", "TrangThai": 1}] * 401}, "wrong_shape"),
        ({"LoaiDoiTuong": 5}, "wrong_shape"),
        ({"KenhThucHien": 4}, "wrong_shape"),
        ({"KenhThucHien": "online"}, "wrong_shape"),
        ({"TienTrinh": {"TrangThai": 4}}, "wrong_shape"),
        ({"TienTrinh": [4]}, "wrong_shape"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008083000"}]}, "wrong_shape"),
        ({"MaHoSo": 12}, "malformed_code"),
        ({"TrangThaiHoSo": 4.5}, "wrong_shape"),
        ({"TrangThaiHoSo": ""}, "wrong_shape"),
        ({"MaHoSo": ""}, "malformed_code"),
        ({"MaHoSo": "G99.01.02-260230-0975"}, "malformed_code"),
        ({"MaHoSo": "'; DROP TABLE dossier"}, "malformed_code"),
        ({"TrangThaiHoSo": 0}, "unknown_status"),
        ({"TrangThaiHoSo": 11}, "unknown_status"),
        ({"TrangThaiHoSo": -4}, "unknown_status"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008083000", "TrangThai": 99}]}, "unknown_status"),
        ({"NgayNopHoSo": ""}, "bad_date"),
        ({"NgayNopHoSo": "20260230083000"}, "bad_date"),
        ({"NgayNopHoSo": "20261008"}, "bad_date"),
        ({"NgayNopHoSo": "2026-10-08T08:30:00+07:00"}, "bad_date"),
        ({"NgayNopHoSo": "٢٠٢٦١٠٠٨٠٨٣٠٠٠"}, "bad_date"),
        ({"NgayNopHoSo": "00000000000000"}, "bad_date"),
        ({"NgayHenTra": "20261322090000"}, "bad_date"),
        ({"NgayTuChoi": "20261008250000"}, "bad_date"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008083060", "TrangThai": 4}]}, "bad_date"),
        ({"NgayHenTra": "20261008082959"}, "dates_out_of_order"),
        ({"TrangThaiHoSo": 9}, "history_disagrees"),
        ({"NgayTiepNhan": "20261008082959"}, "dates_out_of_order"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008082959", "TrangThai": 4}]}, "dates_out_of_order"),
    ],
)
def test_national_line_is_refused_for_a_reason(fields: dict[str, Any], expected: str) -> None:
    assert reason(line(national(**fields))) == expected


# -- our own form ------------------------------------------------------------------------------------------


def test_plain_form_is_read_whole() -> None:
    history = read_line(line(plain(channel="postal", service_case="verification", subject="Cấp sổ")))
    assert (history.code.text, history.channel, history.service_case) == (CODE, "postal", "verification")
    assert history.submitted_at == at("20261008083000")
    assert history.received_at == at("20261008090000"), "taken from the step, since it is not said"
    assert history.due_at == at("20261022090000")
    assert [step.agency for step in history.steps] == ["G99.01.02", "G99.01.02", "G99.01"]
    assert history.steps[-1].at == at("20261009100000")
    assert (history.applicant.kind, history.subject) == (1, "Cấp sổ")
    assert not history.irregular


def test_plain_ends_are_taken_from_the_last_step_when_they_are_not_said() -> None:
    steps = [
        {"at": "2026-10-08T08:30:00+07:00", "status": "received"},
        {"at": "2026-10-12T03:00:00Z", "status": "completed"},
    ]
    history = read_line(line(plain(steps=steps)))
    assert (history.finished_at, history.returned_at) == (at("20261012100000"), None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"agency": None}, "wrong_shape"),
        ({"service": 4}, "wrong_shape"),
        ({"applicant": None}, "wrong_shape"),
        ({"applicant": {"name": ""}}, "unclear_text"),
        ({"applicant": {"name": " \u3164"}}, "unclear_text"),
        ({"applicant": {"name": "a", "phone": "1\u20692"}}, "unclear_text"),
        ({"subject": "x" * 1001}, "unclear_text"),
        ({"subject": "x" * 3001}, "wrong_shape"),
        ({"received_at": "2026-10-08T08:29:59+07:00"}, "dates_out_of_order"),
        ({"steps": None}, "wrong_shape"),
        ({"steps": []}, "wrong_shape"),
        ({"steps": [{"status": "received"}]}, "wrong_shape"),
        ({"steps": [{"at": "2026-10-08T08:30:00+07:00", "status": "received", "who": "x"}]}, "wrong_shape"),
        ({"steps": [{"at": "2026-10-08T08:30:00+07:00", "status": "received"}] * 401}, "wrong_shape"),
        ({"channel": "fax"}, "wrong_shape"),
        ({"lookup_key": "x"}, "wrong_shape"),
        ({"submitted_at": "2026-10-08T08:30:00"}, "wrong_shape"),
        ({"code": 12}, "wrong_shape"),
        ({"code": "G99"}, "malformed_code"),
        ({"submitted_at": "2026-02-30T08:30:00+07:00"}, "bad_date"),
        ({"submitted_at": "20261008083000"}, "bad_date"),
        ({"due_at": "soon"}, "bad_date"),
        ({"due_at": "2026-10-08T08:29:59+07:00"}, "dates_out_of_order"),
        ({"steps": [{"at": "2026-10-08T08:30:00+07:00", "status": "done"}]}, "unknown_status"),
    ],
)
def test_plain_line_is_refused_for_a_reason(fields: dict[str, Any], expected: str) -> None:
    assert reason(line(plain(**fields))) == expected


@pytest.mark.parametrize(
    "field", ["NgayNopHoSo", "NgayTiepNhan", "NgayHenTra", "NgayKetThucXuLy", "NgayTra", "NgayTuChoi", "ThoiDiemXuLy"]
)
@pytest.mark.parametrize("stamp", ["tomorrow", "20260230080000"])
def test_date_that_is_none_is_refused_with_the_name_of_its_field(field: str, stamp: str) -> None:
    fields = {"TienTrinh": [{field: stamp, "TrangThai": 4}]} if field == "ThoiDiemXuLy" else {field: stamp}
    with pytest.raises(Refused, match=rf"^{field}: ") as refused:
        read_line(line(national(**fields)))
    assert refused.value.reason == "bad_date"


def test_every_reason_there_is_has_words_and_there_are_no_others() -> None:
    rooms = [Path(room.__path__[0]) for room in (bulk, dialects)]
    sources = "\n".join(path.read_text("utf-8") for room in rooms for path in room.rglob("*.py"))
    assert set(re.findall(r'Refused\(\s*"(\w+)"', sources)) == set(REASONS)


# -- either form -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [national(), plain()])
def test_nul_character_is_refused_wherever_it_stands(form: dict[str, Any]) -> None:
    raw = line(form)
    assert reason(raw.replace(b"Nguy", b"Nguy\\u0000")) == "nul_character"
    assert reason(raw.replace(b"Nguy", b"Nguy\0")) == "nul_character"


@pytest.mark.parametrize("form", [national(), plain()])
def test_line_that_is_not_json_is_refused_as_that(form: dict[str, Any]) -> None:
    raw = line(form)
    for spoilt in (
        raw[:-3],
        raw[2:],
        raw + raw,
        raw.replace(b"Nguy", b"Nguy\\ud800 "),
        raw.replace(b"Nguy", b"Nguy\\x"),
        raw.replace(b'"Nguy', b"[" * 100_000),
    ):
        assert reason(spoilt) == "not_json"


@pytest.mark.parametrize("form", [national(), plain()])
def test_line_in_another_encoding_is_refused_with_what_to_do(form: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"cp1258.*iconv -f WINDOWS-1258 -t UTF-8") as refused:
        read_line(line(form).replace("ễ".encode(), b"\xea\xde"))
    assert refused.value.reason == "not_utf8"


@pytest.mark.parametrize("form", [national(), plain()])
def test_key_that_stands_twice_is_refused(form: dict[str, Any]) -> None:
    raw = line(form).strip()
    assert reason(raw[:-1] + b"," + raw[1:]) == "repeated_key"
    who = b'"DinhDanhCHS":{' if "MaHoSo" in form else b'"applicant":{'
    name = b'"SoDinhDanh":"1",' if "MaHoSo" in form else b'"id":"1",'
    assert reason(raw.replace(who, who + name)) == "repeated_key"


def test_decomposed_text_is_measured_and_stored_composed() -> None:
    name = ("Nguyễn Thị Mẫu " * 20)[:299].strip() + "ễ"
    for form in (national(ChuHoSo=name), plain(applicant={"name": name})):
        decomposed = unicodedata.normalize("NFD", line(form).decode()).encode()
        assert len(decomposed) > len(line(form))
        assert read_line(decomposed).applicant.name == name


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\n", "not_json"),
        (b"null", "wrong_shape"),
        (b"[]", "wrong_shape"),
        (b"12", "wrong_shape"),
        (b"{}", "unknown_form"),
        (b'{"MaHS": "x"}', "unknown_form"),
        (b'{"a":' * 100_000, "not_json"),
    ],
)
def test_line_in_neither_form_is_refused(raw: bytes, expected: str) -> None:
    assert reason(raw) == expected


@pytest.mark.parametrize(
    "form",
    [
        national(NgayNopHoSo="00010101000000"),
        national(NgayHenTra="99991231235959"),
        national(NgayTiepNhan="19891231235959"),
        national(TienTrinh=[{"ThoiDiemXuLy": "19000101000000", "TrangThai": 4}]),
        plain(steps=[{"at": "0001-01-01T00:00:00+07:00", "status": "received"}]),
        plain(steps=[{"at": "9999-12-31T23:59:59-07:00", "status": "received"}]),
        plain(returned_at="2100-01-01T00:00:00Z", steps=[{"at": "2026-10-08T01:30:00Z", "status": "returned"}]),
    ],
)
def test_implausible_date_is_refused(form: dict[str, Any]) -> None:
    assert reason(line(form)) == "bad_date"


@pytest.mark.parametrize(
    ("first", "last"), [("19900101000000", "20991231235959"), ("19900101000000", "19900101000000")]
)
def test_date_of_a_dossier_is_from_1990_to_2099(first: str, last: str) -> None:
    step = {"ThoiDiemXuLy": first, "TrangThai": 4}
    history = read_line(line(national(NgayNopHoSo=first, NgayTiepNhan=first, NgayHenTra=last, TienTrinh=[step])))
    assert (history.submitted_at, history.due_at) == (at(first), at(last))


@pytest.mark.parametrize("stamp", ["19891231235959", "21000101000000"])
def test_date_of_a_dossier_is_no_other(stamp: str) -> None:
    step = {"ThoiDiemXuLy": stamp, "TrangThai": 4}
    assert reason(line(national(TienTrinh=[step]))) == "bad_date"


def test_history_that_breaks_the_moves_is_taken_and_marked() -> None:
    steps = [{"ThoiDiemXuLy": "20261008083000", "TrangThai": status} for status in (1, 9, 4)]
    assert read_line(line(national(TienTrinh=steps))).irregular


T = "2026-10-{:02d}T08:00:00+07:00".format


def steps_of(*steps: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"at": T(day), "status": status} for day, status in steps]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": steps_of((9, "received"), (12, "processing"), (11, "completed"))}, "step 3, .* is before step 2,"),
        ({"steps": steps_of((7, "submitted"))}, "the first step, 2026-10-07 08:00:00.07:00, is before the submission"),
        ({"received_at": T(1)}, "the reception, .* is before the submission"),
        (
            {"steps": steps_of((9, "completed")), "received_at": T(9), "finished_at": T(8)},
            "the completion, .* reception",
        ),
        ({"steps": steps_of((9, "completed")), "finished_at": "2020-01-01T00:00:00Z"}, "the completion, 2020-01-01"),
        ({"steps": steps_of((9, "completed"), (12, "returned")), "returned_at": T(8)}, "the return, .* completion"),
        ({"due_at": T(1)}, "the due date, .* is before the submission"),
    ],
)
def test_dates_that_contradict_one_another_are_refused_by_name(fields: dict[str, Any], sentence: str) -> None:
    fields = {"received_at": None, "due_at": None} | fields
    with pytest.raises(Refused, match=sentence) as refused:
        read_line(line(plain(**fields)))
    assert refused.value.reason == "dates_out_of_order"


def test_times_that_are_equal_are_in_order() -> None:
    same = steps_of((9, "received"), (9, "processing"), (9, "completed"), (9, "returned"))
    dates = dict.fromkeys(("submitted_at", "received_at", "due_at", "finished_at", "returned_at"), T(9))
    assert read_line(line(plain(steps=same, **dates))).latest == datetime.fromisoformat(T(9))


@pytest.mark.parametrize(
    "statuses",
    [("received", "submitted"), ("submitted", "received", "returned", "submitted"), ("withdrawn", "submitted")],
)
def test_dossier_does_not_go_back_to_submitted(statuses: tuple[str, ...]) -> None:
    steps = steps_of(*((9 + n, status) for n, status in enumerate(statuses)))
    assert reason(line(plain(steps=steps))) == "impossible_history"


def test_online_supplement_may_go_back_to_submitted() -> None:
    steps = steps_of((8, "submitted"), (9, "supplement_required"), (10, "submitted"), (11, "received"))
    assert read_line(line(plain(submitted_at=T(8), steps=steps))).irregular


def test_outcome_belongs_to_a_completion() -> None:
    steps = [*steps_of((9, "processing")), {"at": T(10), "status": "completed", "outcome": "refused", "note": "Lý do"}]
    assert read_line(line(plain(steps=steps))).steps[-1].outcome == "refused"
    steps[-1]["status"] = "processing"
    assert reason(line(plain(steps=steps))) == "wrong_shape"


def test_absent_may_be_null_in_the_national_form() -> None:
    form = {
        "MaHoSo": "G99.01.01-261120-0001",
        "MaTTHC": "S.004",
        "DonViXuLy": "G99.01.01",
        "TrangThaiHoSo": 2,
        "KenhThucHien": "1",
        "ChuHoSo": "Lê Văn Thử (hư cấu)",
        "NgayNopHoSo": "20261120080000",
        "NgayTra": None,
        "SoDienThoai": None,
        "DinhDanhCHS": {"SoDinhDanh": None},
        "ThongTinKhac": None,
        "TienTrinh": None,
    }
    history = read_line(msgspec.json.encode(form))
    assert (history.returned_at, history.applicant.phone, history.applicant.id) == (None, None, None)
    assert [step.status for step in history.steps] == [Status.RECEIVED]


def _said_otherwise(text: str) -> str:
    """What a date is, by the words of the form: white space says nothing, fourteen digits a time that exists."""
    digits = text.strip()
    if not digits:
        return "None"
    if not re.fullmatch("[0-9]{14}", digits, re.ASCII):
        return "bad_date is not yyyyMMddHHmmss"
    try:
        return str(datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=VIETNAM))
    except ValueError:
        return "bad_date does not exist"


_digits = st.text("0123456789", min_size=13, max_size=15)
_dates = st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: f"{at:%Y%m%d%H%M%S}")


@given(st.one_of(_digits, _dates, st.text(max_size=5)), st.sampled_from(["", " ", "\t", "\u00a0"]))
def test_date_that_comes_again_is_read_as_the_first_time(text: str, around: str) -> None:
    for _ in range(2):  # the second time out of what was kept
        try:
            said = str(_date({"d": around + text}, "d"))
        except Refused as refused:
            said = f"{refused.reason} {' '.join(refused.detail.split()[-3:])}"
        assert said == _said_otherwise(around + text)

"""The two forms in which histories come, and every reason for which a line is refused."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from intake import bulk
from intake.bulk.dialects import REASONS, Refused, read_line
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
        assert (history.received_at, history.due_at, history.finished_at, history.returned_at) == (None,) * 4


@pytest.mark.parametrize("steps", [None, []])
def test_national_form_without_steps_says_where_the_dossier_stands(steps: Any) -> None:
    history = read_line(line(national(TienTrinh=steps)))
    assert [(step.status, step.at) for step in history.steps] == [(Status.PROCESSING, at("20261008083000"))]


def test_step_without_a_time_takes_the_submissions() -> None:
    history = read_line(line(national(TienTrinh=[{"ThoiDiemXuLy": "", "TrangThai": 4}])))
    assert history.steps[0].at == at("20261008083000")


def test_national_ends_are_taken_from_the_last_step_when_they_are_not_said() -> None:
    steps = [{"ThoiDiemXuLy": f"202610{day}100000", "TrangThai": status} for day, status in ((12, 9), (14, 10))]
    history = read_line(line(national(TrangThaiHoSo=10, TienTrinh=steps)))
    assert history.finished_at == history.returned_at == at("20261014100000")
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
        ({"MaTTHC": 4}, "wrong_shape"),
        ({"ChuHoSo": None}, "wrong_shape"),
        ({"ChuHoSo": "x" * 301}, "wrong_shape"),
        ({"LoaiDoiTuong": 5}, "wrong_shape"),
        ({"KenhThucHien": 4}, "wrong_shape"),
        ({"KenhThucHien": "online"}, "wrong_shape"),
        ({"TienTrinh": {"TrangThai": 4}}, "wrong_shape"),
        ({"TienTrinh": [4]}, "wrong_shape"),
        ({"TienTrinh": [{"ThoiDiemXuLy": "20261008083000"}]}, "wrong_shape"),
        ({"MaHoSo": 12}, "wrong_shape"),
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
        ({"applicant": {"name": ""}}, "wrong_shape"),
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
    sources = "\n".join(path.read_text("utf-8") for path in Path(bulk.__file__).parent.rglob("*.py"))
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
        raw.replace(b"Nguy", b"Nguy\xff"),
        raw.replace(b"Nguy", b"Nguy\\ud800 "),
        raw.replace(b"Nguy", b"Nguy\\x"),
        raw.replace(b'"Nguy', b"[" * 100_000),
    ):
        assert reason(spoilt) == "not_json"


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


def test_steps_stay_in_the_order_they_came() -> None:
    steps = [{"ThoiDiemXuLy": stamp, "TrangThai": 4} for stamp in ("20261012083000", "20261009083000")]
    assert [s.at for s in read_line(line(national(TienTrinh=steps))).steps] == [
        at("20261012083000"),
        at("20261009083000"),
    ]


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

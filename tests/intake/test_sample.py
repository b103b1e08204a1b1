"""The sample is invented, repeatable and shaped like the real thing; what is broken is broken on purpose."""

import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import holidays
import msgspec
import pytest

from intake.local import sample
from lookup.catalogue import load
from lookup.code import MalformedCode, Scheme, parse
from lookup.status import FIRST, MOVES, Status

UNTIL = date(2026, 11, 20)
N = 4000


@cache
def the_sample() -> list[sample.Dossier]:
    return list(sample.dossiers(N, until=UNTIL))


def catalogue(name: str) -> Any:
    """The sample catalogue's agencies or services as plain values, in the order of its files."""
    return msgspec.to_builtins(dict(zip(("agencies", "services"), load.sample(), strict=True))[name])


def moment(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%d%H%M%S")


def statuses(dossier: sample.Dossier) -> list[Status]:
    return [Status(int(step["TrangThai"])) for step in dossier["TienTrinh"]]


def texts(value: Any) -> list[str]:
    """Every text inside a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_same_seed_gives_the_same_bytes() -> None:
    first, second, other = (list(sample.lines(300, seed=seed, until=UNTIL, broken=0.05)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


@pytest.mark.parametrize("n", [0, 1, 17, 1000])
def test_there_are_as_many_lines_as_asked_for(n: int) -> None:
    lines = list(sample.lines(n, until=UNTIL))
    assert len(lines) == n
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_every_history_obeys_the_moves() -> None:
    for dossier in the_sample():
        history = statuses(dossier)
        assert history[0] in FIRST
        assert all(after in MOVES[before] for before, after in pairwise(history)), history


def test_history_ends_in_the_status_of_the_dossier() -> None:
    assert all(d["TienTrinh"][-1]["TrangThai"] == d["TrangThaiHoSo"] for d in the_sample())


def test_online_dossiers_start_as_submitted_and_others_as_received() -> None:
    assert {(d["KenhThucHien"], statuses(d)[0]) for d in the_sample()} == {
        ("1", Status.RECEIVED),
        ("2", Status.SUBMITTED),
        ("3", Status.RECEIVED),
    }


def test_every_status_occurs() -> None:
    assert {status for d in the_sample() for status in statuses(d)} == set(Status)


def test_codes_are_unique_and_canonical() -> None:
    codes = [d["MaHoSo"] for d in the_sample()]
    assert len(set(codes)) == N
    assert all(parse(code).text == code for code in codes)


def test_a_tenth_of_the_codes_are_in_other_schemes() -> None:
    schemes = Counter(parse(d["MaHoSo"]).scheme for d in the_sample())
    assert set(schemes) == {Scheme.A, Scheme.B, Scheme.D}
    assert 0.05 * N < schemes[Scheme.A] + schemes[Scheme.D] < 0.2 * N


def test_code_names_the_agency_and_the_day_of_reception() -> None:
    for dossier in the_sample():
        code = parse(dossier["MaHoSo"])
        received = dossier["NgayTiepNhan"] or dossier["NgayNopHoSo"]
        if code.scheme is Scheme.D:
            assert code.text.endswith(f"/{received[:4]}/{dossier['DonViXuLy']}")
            continue
        assert f"-{received[2:8]}-" in code.text
        groups = code.agency.split(".")
        level_1_first = [group for group in reversed(groups) if group not in {"000", "00"}]
        assert dossier["DonViXuLy"].split(".") == (level_1_first if code.scheme is Scheme.A else groups)


def test_numbers_of_a_day_have_no_holes() -> None:
    issued: dict[str, list[int]] = defaultdict(list)
    for dossier in the_sample():
        code = dossier["MaHoSo"]
        number, series = code.split("/", 1) if "/" in code else reversed(code.rsplit("-", 1))
        issued[series].append(int(number))
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in issued.values())


def test_every_step_comes_after_the_one_before_and_none_after_the_end() -> None:
    end = UNTIL + timedelta(1)
    for dossier in the_sample():
        times = [step["ThoiDiemXuLy"] for step in dossier["TienTrinh"]]
        assert all(before < after for before, after in pairwise(times))
        assert moment(times[-1]).date() < end


def test_dates_of_a_dossier_are_ordered() -> None:
    for d in the_sample():
        ends = (d["NgayNopHoSo"], d["NgayTiepNhan"], d["NgayKetThucXuLy"], d["NgayTra"])
        assert list(filter(None, ends)) == sorted(filter(None, ends))
        assert bool(d["NgayTiepNhan"]) == bool(d["NgayHenTra"])
        assert not d["NgayHenTra"] or d["NgayHenTra"] > d["NgayTiepNhan"]


def test_end_dates_are_there_exactly_when_reached() -> None:
    for d in the_sample():
        status = Status(int(d["TrangThaiHoSo"]))
        assert bool(d["NgayKetThucXuLy"]) == (status in {Status.COMPLETED, Status.RETURNED})
        assert bool(d["NgayTra"]) == (status is Status.RETURNED)
        assert bool(d["NgayTuChoi"]) == (status is Status.REJECTED)


def test_dossiers_come_in_the_order_they_were_handed_in_over_the_whole_span() -> None:
    handed_in = [d["NgayNopHoSo"] for d in the_sample()]
    assert handed_in == sorted(handed_in)
    assert moment(handed_in[0]).date() <= UNTIL - timedelta(360)
    assert moment(handed_in[-1]).date() == UNTIL


def test_offices_work_in_office_hours_and_the_portal_always() -> None:
    vietnam = holidays.country_holidays("VN", years=range(2025, 2028))
    by_office = [
        moment(step["ThoiDiemXuLy"]) for d in the_sample() for step in d["TienTrinh"] if step["TrangThai"] != "1"
    ]
    assert all(vietnam.is_working_day(at.date()) for at in by_office)
    assert all("07:00" <= f"{at:%H:%M}" < "11:30" or "13:30" <= f"{at:%H:%M}" < "17:00" for at in by_office)
    online = [moment(d["NgayNopHoSo"]) for d in the_sample() if d["KenhThucHien"] == "2"]
    assert {at.hour for at in online} == set(range(24))
    assert {at.weekday() for at in online} == set(range(7))


def test_due_date_is_a_time_limit_of_the_service_after_reception() -> None:
    vietnam = holidays.country_holidays("VN", years=range(2025, 2028))
    limits = {s["code"]: {time["working_hours"] // 8 for time in s["times"]} for s in catalogue("services")}
    plain = [d for d in the_sample() if d["NgayHenTra"] and not any(s.paused for s in statuses(d))]
    assert len(plain) > N / 2
    for dossier in plain:
        received, due = moment(dossier["NgayTiepNhan"]), moment(dossier["NgayHenTra"])
        days = (received.date() + timedelta(i) for i in range(1, (due.date() - received.date()).days + 1))
        assert sum(map(vietnam.is_working_day, days)) in limits[dossier["MaTTHC"]]
        assert due.time() == received.time()


def test_a_supplement_starts_the_clock_again() -> None:
    entries = [entry for d in the_sample() for entry in d["DanhSachHoSoBoSung"]]
    brought = [entry for entry in entries if entry["TrangThaiBoSung"] == "1" and entry["NgayHenTraTruoc"]]
    assert brought
    for entry in brought:
        assert entry["NgayHenTraMoi"] > entry["NgayHenTraTruoc"]
        assert entry["NgayHenTraMoi"][8:] == entry["NgayTiepNhanBoSung"][8:]


def test_due_date_moves_when_a_pause_has_ended_and_never_otherwise() -> None:
    resumed = {Status.RECEIVED, Status.PROCESSING, Status.COMPLETED}
    for dossier in the_sample():
        for before, after in pairwise(dossier["TienTrinh"]):
            was, now = (Status(int(step["TrangThai"])) for step in (before, after))
            due, moved = before["NgayKetThucTheoQuyDinh"], after["NgayKetThucTheoQuyDinh"]
            if not due:
                assert bool(moved) == (now is Status.RECEIVED)
            elif was.paused and now in resumed:
                assert moved > due
            elif not was.paused:
                assert moved == due


def test_supplements_are_listed_when_asked_for() -> None:
    for dossier in the_sample():
        asked = statuses(dossier).count(Status.SUPPLEMENT_REQUIRED)
        assert len(dossier["DanhSachHoSoBoSung"]) == asked


def test_old_dossiers_are_closed_and_new_ones_under_way() -> None:
    def closed(part: list[sample.Dossier]) -> float:
        return sum(Status(int(d["TrangThaiHoSo"])).final for d in part) / len(part)

    assert closed(the_sample()[: N // 2]) > 0.95
    assert closed(the_sample()[-N // 100 :]) < 0.5


def test_a_few_percent_are_overdue() -> None:
    done = [d for d in the_sample() if d["NgayKetThucXuLy"]]
    late = sum(d["NgayKetThucXuLy"][:8] > d["NgayHenTra"][:8] for d in done)
    assert 0.01 < late / len(done) < 0.08


def test_mondays_and_the_days_after_the_new_year_are_busy() -> None:
    days = Counter(moment(d["NgayNopHoSo"]).date() for d in sample.dossiers(20_000, until=UNTIL))
    ordinary = sum(days[date(2026, 3, 12) + timedelta(7 * week)] for week in range(4)) / 4
    mondays = sum(days[date(2026, 3, 9) + timedelta(7 * week)] for week in range(4)) / 4
    assert mondays > 1.1 * ordinary
    assert days[date(2026, 2, 23)] > 1.3 * mondays


def test_there_are_between_three_and_a_half_and_five_steps_a_dossier() -> None:
    steps = sum(len(d["TienTrinh"]) for d in the_sample())
    assert 3.5 <= steps / N <= 5


def test_agencies_and_services_are_in_the_catalogue() -> None:
    services = {service["code"]: service for service in catalogue("services")}
    agencies = {agency["code"] for agency in catalogue("agencies")}
    for dossier in the_sample():
        assert dossier["DonViXuLy"] in agencies
        assert dossier["TenTTHC"] == services[dossier["MaTTHC"]]["name_vi"]
        assert dossier["MaLinhVuc"] == services[dossier["MaTTHC"]]["field_code"]
    assert {d["MaTTHC"] for d in the_sample()} == set(services)


def test_agencies_are_marked_as_fictitious() -> None:
    for agency in catalogue("agencies"):
        assert agency["name_vi"].endswith("(hư cấu)")
        assert agency["name_en"].endswith("(fictitious)")
        assert agency["code"][:3] in {"G99", "H99", "999"}


def test_agencies_come_after_their_parents_and_once() -> None:
    seen: set[str | None] = {None}
    for agency in catalogue("agencies"):
        assert agency["parent"] in seen
        assert agency["code"] not in seen
        seen.add(agency["code"])


def test_services_are_marked_as_sample_and_have_a_time_for_any_channel() -> None:
    for service in catalogue("services"):
        assert service["code"].startswith("S.")
        assert any(time["service_case"] == "default" and time["channel"] == "any" for time in service["times"])
        assert {service["clock_after_supplement"], service["clock_after_suspension"]} <= {
            "restart",
            "shift",
            "none",
        }


def test_time_limits_of_a_service_never_overlap() -> None:
    for service in catalogue("services"):
        spans: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for time in service["times"]:
            span = (time["valid_from"], time["valid_to"] or "9999-12-31")
            spans[time["service_case"], time["channel"]].append(span)
        assert all(a[1] <= b[0] for times in spans.values() for a, b in pairwise(sorted(times)))


def test_people_are_invented() -> None:
    for dossier in the_sample():
        assert dossier["SoGiayToChuHoSo"].startswith("999")
        assert dossier["DinhDanhCHS"]["SoDinhDanh"].startswith("999")
        assert dossier["SoDienThoai"].startswith("0000")
        assert dossier["Email"] == "" or dossier["Email"].endswith("@example.com")
        assert dossier["Email"].isascii()
        assert (dossier["LoaiDoiTuong"] == "2") == dossier["ChuHoSo"].endswith("(hư cấu)")


def test_every_text_is_nfc_and_without_control_characters() -> None:
    everything = [the_sample(), catalogue("agencies"), catalogue("services")]
    for text in set(texts(everything)):
        assert unicodedata.is_normalized("NFC", text), text
        assert not any(unicodedata.category(c) == "Cc" for c in text), text


def test_a_span_without_a_working_day_has_only_submissions() -> None:
    sunday = date(2026, 11, 15)
    assert {d["TrangThaiHoSo"] for d in sample.dossiers(50, until=sunday, days=1)} == {"1"}


def test_a_size_or_span_or_share_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="negative size"):
        next(sample.dossiers(-1, until=UNTIL))
    with pytest.raises(ValueError, match="at least one day"):
        next(sample.dossiers(1, until=UNTIL, days=0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample.plan_breaks(10, 1.5)
    with pytest.raises(ValueError, match="no time limit"):
        next(sample.dossiers(1, until=date(2019, 6, 3), days=1))


def test_plan_counts_the_broken_lines_and_uses_every_kind() -> None:
    plan = sample.plan_breaks(5000, 0.01)
    assert len(plan) == 50
    assert set(plan) <= set(range(1, 5001))
    assert set(plan.values()) == set(sample.BROKEN_KINDS)
    assert plan == sample.plan_breaks(5000, 0.01)
    assert plan != sample.plan_breaks(5000, 0.01, seed=25)


def test_nothing_is_broken_unless_asked_for() -> None:
    assert sample.plan_breaks(5000, 0) == {}
    assert sample.plan_breaks(0, 0.5) == {}


@pytest.mark.parametrize(("n", "oversized"), [(999, 0), (1000, 1), (50_000, 1)])
def test_one_line_is_oversized_in_files_that_are_not_small(n: int, oversized: int) -> None:
    assert list(sample.plan_breaks(n, 0.2).values()).count("oversized") == oversized


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _has_bad_code(line: bytes) -> bool:
    code = msgspec.json.decode(line)["MaHoSo"]
    try:
        parse(code)
    except MalformedCode:
        return True
    return False


def _has_bad_date(line: bytes) -> bool:
    try:
        moment(msgspec.json.decode(line)["NgayTiepNhan"])
    except ValueError:
        return True
    return False


def _names_unknown_agency(line: bytes) -> bool:
    dossier = msgspec.json.decode(line)
    return {dossier["DonViXuLy"], parse(dossier["MaHoSo"]).agency} == {"Z98.77"}


SYMPTOMS: dict[str, Callable[[bytes], bool]] = {
    "bad_date": _has_bad_date,
    "unknown_status": lambda line: msgspec.json.decode(line)["TrangThaiHoSo"] == "42",
    "wrong_type": lambda line: not isinstance(msgspec.json.decode(line)["TienTrinh"][0], dict),
    "truncated": lambda line: not _is_json(line) and b"\0" not in line,
    "nul_byte": lambda line: not _is_json(line) and b"\0" in line,
    "escaped_nul": lambda line: _is_json(line) and b"\\u0000" in line,
    "unknown_agency": _names_unknown_agency,
    "missing_code": lambda line: "MaHoSo" not in msgspec.json.decode(line),
    "malformed_code": _has_bad_code,
    "oversized": lambda line: _is_json(line) and len(line) > 10_000_000,
}


@cache
def clean_and_broken() -> list[tuple[str | None, bytes, bytes]]:
    plan = sample.plan_breaks(1000, 0.1)
    clean, broken = (sample.lines(1000, until=UNTIL, broken=share) for share in (0, 0.1))
    return [(plan.get(i), *pair) for i, pair in enumerate(zip(clean, broken, strict=True), 1)]


@pytest.mark.parametrize("kind", sample.BROKEN_KINDS)
def test_broken_lines_are_broken_as_planned(kind: str) -> None:
    lines = [broken for planned, _, broken in clean_and_broken() if planned == kind]
    assert lines
    assert all(map(SYMPTOMS[kind], lines))


def test_lines_that_are_not_planned_to_break_are_untouched() -> None:
    assert all((clean == broken) == (kind is None) for kind, clean, broken in clean_and_broken())


def test_a_broken_line_is_still_one_line() -> None:
    assert all(broken.count(b"\n") == 1 and broken.endswith(b"\n") for _, _, broken in clean_and_broken())


def test_writing_to_a_path_and_to_a_stream_gives_the_same_bytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    path = tmp_path / "sample.ndjson"
    sizes = {sample.write(target, 1500, until=UNTIL) for target in (path, stream)}
    assert path.read_bytes() == stream.getvalue() == b"".join(sample.lines(1500, until=UNTIL))
    assert sizes == {path.stat().st_size}
    assert not stream.closed


def test_progress_adds_up_to_the_lines_written() -> None:
    steps: list[int] = []
    sample.write(io.BytesIO(), 2300, until=UNTIL, progress=steps.append)
    assert steps == [1000, 1000, 300]

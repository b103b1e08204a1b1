"""The catalogue's files, good and hostile: each fault is named with its line and with what to do."""

import io
import tarfile
from pathlib import Path

import pytest

from lookup.catalogue import Catalogue, files, load
from lookup.catalogue.files import CannotRead

AGENCIES = """\
code,parent,name_vi,name_en,valid_from,valid_to,successor,bhxh_number
K88,,Tỉnh Mẫu,Sample Province,2020-01-01,,,
K88.01,K88,Cơ sở 1,Office 1,2020-01-01,2025-10-01,K88.02,
K88.02,K88,Cơ sở 2,Office 2,2020-01-01,,,07999
"""
CONTACTS = "code,hotline,email\nK88.02,1900 0000,hop-thu@mau.example\n"
SERVICES = """\
# X.001
[[service]]
code = "X.001"
name_vi = "Cấp sổ"
name_en = "Issue of a book"
field_code = "BHXH"
sensitive = false
valid_from = 2020-01-01

[[service.time]]
working_days = 5
valid_from = 2020-01-01
"""
CALENDAR = """\
[[calendar]]
name = "mau"
version = "2026.1"
base = "vn"
source = "Luật mẫu"
years = [2026]
hours = [{weekdays = [1, 2, 3, 4, 5], opens = 07:00:00, lunch = 11:30:00, resumes = 13:30:00, closes = 17:00:00}]
day = [{day = 2026-01-02, working = false, note = "Công văn mẫu"}]
"""
GOOD = {"agencies.csv": AGENCIES, "contacts.csv": CONTACTS, "services.toml": SERVICES, "calendar.toml": CALENDAR}


def written(folder: Path, **changed: str | bytes) -> Path:
    """A catalogue in that folder: the good one, with the content of files (by name without ending) replaced."""
    for name, good in GOOD.items():
        content = changed.get(name.split(".")[0], good)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def faults(folder: Path, **changed: str | bytes) -> list[str]:
    return [str(fault) for fault in load.plan(files.read(written(folder, **changed)), Catalogue(), {}).faults]


def test_good_files_have_no_fault(tmp_path: Path) -> None:
    plan = load.plan(files.read(written(tmp_path)), Catalogue(), {})
    assert plan.faults == []
    assert plan.summary == {"agency": 3, "service": 1, "service_time": 1, "calendar": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + AGENCIES.encode(),
        AGENCIES.replace(",", ";").encode(),
        AGENCIES.replace(",", "\t").encode(),
        AGENCIES.replace("\n", "\r\n").encode(),
        AGENCIES.replace("Tỉnh", "Ti\u0309nh").encode(),
        AGENCIES.replace("Tỉnh Mẫu", '"Tỉnh\u00a0\n  Mẫu"').encode(),
        (AGENCIES + ",,,,,,,\n\n").encode(),
    ],
    ids=["bom", "semicolons", "tabs", "crlf", "decomposed", "line break in a cell", "empty lines"],
)
def test_what_spreadsheets_write_means_the_same(tmp_path: Path, content: bytes) -> None:
    plan = load.plan(files.read(written(tmp_path, agencies=content)), Catalogue(), {})
    assert plan.faults == []
    assert plan.after == load.plan(files.read(written(tmp_path)), Catalogue(), {}).after


def test_archive_is_read_like_a_directory(tmp_path: Path) -> None:
    packed = tmp_path / "catalogue.tar"
    (tmp_path / "folder").mkdir()
    with tarfile.open(packed, "w") as archive:
        archive.add(written(tmp_path / "folder"), ".")
    assert files.read(packed).digest == files.read(tmp_path / "folder").digest
    assert files.read(packed).faults == []


LINE_2 = "K88,,Tỉnh Mẫu,Sample Province,2020-01-01,,,"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (AGENCIES.encode("utf-16"), "agencies.csv: is UTF-16 (a spreadsheet's 'Unicode Text'). Save it as 'CSV UTF-8'"),
        (AGENCIES.encode("utf-16-le"), "agencies.csv: is UTF-16"),
        (AGENCIES.replace("Tỉnh Mẫu", "Đơn").replace("ở", "o").encode("cp1258"), "agencies.csv, line 2: byte 0xD0 is "),
        (b"PK\x03\x04\x14\0\0\0", "agencies.csv: is a spreadsheet or a zip archive"),
        (AGENCIES.replace("Cơ sở 1", "CÆ¡ sá»Ÿ 1"), "agencies.csv, line 3: name_vi 'CÆ¡ sá»Ÿ 1' was read in a wrong e"),
        (AGENCIES.replace("Cơ sở 1", "C\ufffd"), "agencies.csv, line 3: name_vi"),
        (AGENCIES.replace("K88.01,K88", "9901,K88"), "agencies.csv, line 3: code '9901': five digits, or groups"),
        (AGENCIES.replace("07999", "7999"), "agencies.csv, line 4: bhxh_number '7999': five digits, as 07999. Has a s"),
        (AGENCIES.replace("2025-10-01", "01/10/2025"), "agencies.csv, line 3: valid_to '01/10/2025': a day is written"),
        (AGENCIES.replace("2025-10-01", "45931"), "agencies.csv, line 3: valid_to '45931': a day is written"),
        (AGENCIES.replace("2025-10-01", "2025-02-30"), "agencies.csv, line 3: valid_to '2025-02-30': a day is written"),
        (AGENCIES.replace("2025-10-01", "2019-10-01"), "agencies.csv, line 3: valid_to 2019-10-01: it is the first da"),
        (AGENCIES.replace("2025-10-01,K88.02", "2025-10-01,"), "line 3: K88.01: it ends on 2025-10-01: name the succ"),
        (AGENCIES.replace("2025-10-01,K88.02", ",K88.02"), "line 3: K88.01: it has the successor K88.02 and no valid_"),
        (AGENCIES.replace("K88.02,\n", "K88.01,\n"), "line 3: K88.01: successor K88.01 leads back to it"),
        (AGENCIES.replace("K88.02,\n", "K88.77,\n"), "line 3: K88.01: successor K88.77: there is no such agency"),
        (AGENCIES.replace("2020-01-01,,,07", "2025-10-02,,,07"), "line 3: K88.01: its successor K88.02 is not in forc"),
        (AGENCIES.replace("K88,,", "K88,K88.02,"), "line 2: K88: parent K88.02 leads back to it"),
        (AGENCIES.replace("K88.02,K88,", "K88.02,K87,"), "line 4: K88.02: parent K87: there is no such agency"),
        (AGENCIES.replace("K88.02,K88,", "K88.02,K88.01,"), "line 4: K88.02: K88.01 above it ends on 2025-10-01 and i"),
        (AGENCIES.replace("bhxh_number", "sandbox"), "line 4: sandbox '07999': yes for an agency that takes made-up"),
        (AGENCIES + LINE_2 + "\n", "agencies.csv, line 5: K88 stands in line 2 already: keep one of the two"),
        (AGENCIES.replace("Office 1,2020-01-01,2025-10-01,K88.02,", "Office 1,2020-01-01,2025-10-01,K88.02,07999"),
         "line 4: K88.02: bhxh_number 07999 is K88.01's"),
        (AGENCIES.replace("Cơ sở 1", "Cơ\u202e sở 1"), "line 3: name_vi has the invisible character U+202E (RIGHT-TO-"),
        (AGENCIES.replace("Cơ sở 1", "Cơ\u200bsở 1"), "line 3: name_vi has the invisible character U+200B"),
        (AGENCIES.replace("Cơ sở 1", "Cơ\x07"), "line 3: name_vi has the invisible character U+0007"),
        (AGENCIES.replace("Cơ sở 1", " \u00a0 "), "line 3: name_vi is empty"),
        (AGENCIES.replace("Cơ sở 1", "\u0301\u0302\u0303"), "line 3: name_vi is blank: give a text"),
        (AGENCIES.replace("Cơ sở 1", "---"), "line 3: name_vi is blank: give a text"),
        (AGENCIES.replace("Cơ sở 1", "Cx\u0301\u0302\u0303"), "line 3: name_vi 'Cx\u0301\u0302\u0303' has several acc"),
        (AGENCIES.replace("Cơ sở 1", "=cmd|calc"), "line 3: name_vi '=cmd|calc' begins as a spreadsheet's formula"),
        (AGENCIES.replace("Cơ sở 1", "#REF!"), "line 3: name_vi '#REF!' begins as a spreadsheet's formula or error"),
        (AGENCIES.replace("Cơ sở 1", "a" * 501), "line 3: name_vi has 501 characters: at most 500"),
        (AGENCIES.replace("Cơ sở 1", "Cơ sở, 1"), "agencies.csv, line 3: 9 cells, the first line has 8: quote a text"),
        (AGENCIES.replace("Cơ sở 1", '"Cơ sở 1'), "agencies.csv, line 3: unexpected end of data: a quotation mark is"),
        (AGENCIES.replace("name_vi", "tên"), "agencies.csv, line 1: has no column name_vi; the first line names"),
        (AGENCIES.replace("successor", "hotline"), "agencies.csv, line 1: column 'hotline' is unknown or twice"),
        ("", "agencies.csv, line 1: has no column code"),
    ],
)  # fmt: skip
def test_fault_in_the_agencies_is_named_with_its_line(tmp_path: Path, content: str | bytes, fault: str) -> None:
    found = faults(tmp_path, agencies=content)
    assert any(fault in each for each in found), found
    assert all(each.startswith(("agencies.csv", "contacts.csv")) for each in found), found


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (
            "1900 0000",
            "281234567",
            "contacts.csv, line 2: hotline '281234567': begins with 0, +84, 1800 or 1900. Has a spr",
        ),
        ("hop-thu@mau.example", "hop-thu", "contacts.csv, line 2: email 'hop-thu': one address"),
        ("hop-thu@mau.example", "a@b.vn<script>", "contacts.csv, line 2: email 'a@b.vn<script>': one address"),
        ("K88.02", "K88.77", "contacts.csv, line 2: K88.77: there is no such agency"),
        ("K88.02,", "K88.02,0,0\nK88.02,", "contacts.csv, line 2: hotline '0': begins with 0, +84"),
        (
            "email\n",
            "complaint_url\n",
            "line 2: complaint_url 'hop-thu@mau.example': a web address begins with https://",
        ),
        ("email\n", "hours_vi\n", "contacts.csv, line 2: hours_vi and hours_en: give both or neither"),
    ],
)
def test_fault_in_the_contacts_is_named_with_its_line(tmp_path: Path, before: str, after: str, fault: str) -> None:
    found = faults(tmp_path, contacts=CONTACTS.replace(before, after))
    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('"Cấp sổ"', '"Cấp\u202esổ"', "services.toml, line 2: name_vi has the invisible character U+202E"),
        ('"X.001"', "1.001230", "services.toml, line 2: code: expected 'str', got 'float'"),
        ('"X.001"', '"1.00123"', "services.toml, line 2: code '1.00123': six digits follow the dot"),
        ('name_en = "Issue of a book"\n', "", "services.toml, line 2: there is no field 'name_en'"),
        ("sensitive", "sensitve", "services.toml, line 2: there is an unknown field 'sensitve'"),
        ("sensitive = false", 'sensitive = "no"', "services.toml, line 2: sensitive: expected 'bool', got 'str'"),
        ("= 2020-01-01\n\n", "= 01/01/2020\n\n", "services.toml, line 8: "),
        ("= 2020-01-01\n\n", '= "01/01/2020"\n\n', "services.toml, line 2: valid_from: invalid"),
        ("working_days = 5", "", "services.toml, line 2: time 1: time: give one of working_days, working_hours"),
        ("working_days = 5", "working_days = 5\nat_once = true", "services.toml, line 2: time 1: time: give one of"),
        ("working_days = 5", "working_days = 0", "services.toml, line 2: time 1: working_days: expected 'int' >= 1"),
        ("working_days = 5", 'working_days = 5\ncase = "card"', "line 2: X.001: it has no [[service.time]] of the cas"),
        ("[[service.time]]", '[service.papers]\nlist = [{vi = "A"}]\n[[service.time]]', "there is no field 'en'"),
        ("[[service.time]]", 'fee_vi = "x"\n[[service.time]]', "services.toml, line 2: fee_vi and fee_en: give both"),
        ("[[service.time]]", 'apply_url = "javascript:alert(1)"\n[[service.time]]', "line 2: apply_url 'javascript:al"),
        ("[[service.time]]", '[[service.route]]\nwork = "A"\nworking_hours = 41\n[[service.time]]', "X.001: route: it"),
        ("[[service.time]]", '[[service.route]]\nwork = "A"\nworking_hours = 4\nagency = "X1"\n[[service.time]]',
         "services.toml, line 2: X.001: route: there is no agency X1"),
        ("[[service.time]]", "[service.policy]\nrounds = 1\n[[service.time]]", "there is an unknown field 'rounds'"),
        ("[[service.time]]", "[[service.time]]\nworking_days = 9\nvalid_from = 2019-01-01\n[[service.time]]",
         "line 2: X.001: time of default, any: those from 2019-01-01 and from 2020-01-01 overlap. Give the first"),
        ("# X.001", SERVICES, "services.toml, line 14: X.001 stands in line 2 already"),
        ("# X.001", "code = 1", "services.toml: has something besides [[service]]: 'code'"),
        ("[[service]]", "[[service", "services.toml, line 2: Expected ']]'"),
    ],
)  # fmt: skip
def test_fault_in_the_services_is_named_with_its_line(tmp_path: Path, before: str, after: str, fault: str) -> None:
    found = faults(tmp_path, services=SERVICES.replace(before, after, 1))
    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("lunch = 11:30:00", "lunch = 06:00:00", "calendar.toml, line 1: hours: opens, lunch, resumes, closes follow"),
        ("lunch = 11:30:00, ", "", "calendar.toml, line 1: hours: opens, lunch, resumes, closes follow"),
        ("[1, 2, 3, 4, 5]", "[1, 2, 2]", "calendar.toml, line 1: hours: give each weekday that is worked once"),
        ("[1, 2, 3, 4, 5]", "[8]", "calendar.toml, line 1: hours[0].weekdays[0]: expected 'int' <= 7"),
        ("2026-01-02", "2027-01-02", "calendar.toml, line 1: day 2027-01-02: it stands there twice, or is in none"),
        ("[2026]", "[2026, 2028]", "calendar.toml, line 1: years: name years that follow one another"),
        ("years", "confirmed_years = [2027]\nyears", "calendar.toml, line 1: confirmed_years: 2027 is not one"),
        ('"2026.1"', '"one"', "calendar.toml, line 1: version: expected 'str' matching regex"),
        ("[[calendar]]", CALENDAR + "[[calendar]]", "calendar.toml, line 9: mau 2026.1 stands in line 1 already"),
    ],
)
def test_fault_in_the_calendar_is_named_with_its_line(tmp_path: Path, before: str, after: str, fault: str) -> None:
    found = faults(tmp_path, calendar=CALENDAR.replace(before, after, 1))
    assert any(fault in each for each in found), found


def test_every_fault_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    bad = AGENCIES.replace("2025-10-01", "01/10/2025").replace("07999", "7999")
    found = faults(tmp_path, agencies=bad, services=SERVICES.replace("false", "0"))
    assert [each.split(": ")[0] for each in found if "K88" not in each] == [
        "agencies.csv, line 3",
        "agencies.csv, line 4",
        "services.toml, line 2",
    ]


def test_agency_may_name_a_calendar_of_the_files_only(tmp_path: Path) -> None:
    own = AGENCIES.replace("bhxh_number", "calendar").replace("07999", "hcm")
    assert faults(tmp_path, agencies=own) == [
        "agencies.csv, line 4: K88.02: calendar hcm: there is none of that name in calendar.toml"
    ]
    assert faults(tmp_path, agencies=own, calendar=CALENDAR.replace('"mau"\nversion', '"hcm"\nversion')) == []


def test_values_of_the_policy_are_the_services_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[policy]\nreappointments = 1\nsupplement_rounds = 1\n")
    own = SERVICES.replace("[[service.time]]", "[service.policy]\nreappointments = 2\n\n[[service.time]]")
    read = files.read(written(tmp_path, services=own))
    assert read.faults == []
    assert read.services["X.001"].policy == {"reappointments": 2, "supplement_rounds": 1}
    (tmp_path / "policy.toml").write_text("\n[policy]\nreappointments = -1\n")
    assert [str(fault) for fault in files.read(tmp_path).faults] == [
        "policy.toml, line 2: reappointments: expected 'int' >= 0."
    ]


@pytest.mark.parametrize(
    ("written_as", "hours", "days", "at_once"),
    [
        ("working_days = 5", 40, None, False),
        ("working_hours = 4", 4, None, False),
        ("calendar_days = 15", None, 15, False),
        ("at_once = true", None, None, True),
    ],
)
def test_time_limit_has_one_unit(
    tmp_path: Path, written_as: str, hours: int | None, days: int | None, at_once: bool
) -> None:
    services = SERVICES.replace("working_days = 5", written_as)
    (limit,) = files.read(written(tmp_path, services=services)).services["X.001"].times
    assert (limit.hours, limit.calendar_days, limit.at_once) == (hours, days, at_once)


def test_what_is_no_catalogue_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"has no file of a catalogue; their names are agencies\.csv"):
        files.read(tmp_path)
    (tmp_path / "agencies.xlsx").write_bytes(b"PK")
    with pytest.raises(CannotRead, match=r"agencies\.xlsx is not a file of a catalogue"):
        files.read(tmp_path)
    with pytest.raises(CannotRead, match="cannot be read as a directory or a tar archive"):
        files.read(tmp_path / "agencies.xlsx")
    with tarfile.open(tmp_path / "up.tar", "w") as archive:
        up = tarfile.TarInfo("../agencies.csv")
        archive.addfile(up, io.BytesIO())
    with pytest.raises(CannotRead, match=r"\.\./agencies\.csv is not a file of a catalogue"):
        files.read(tmp_path / "up.tar")


def test_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 100)
    with pytest.raises(CannotRead, match=r"agencies\.csv has more than 0 MiB"):
        files.read(written(tmp_path, contacts="", services="", calendar=""))


def test_sample_that_is_shipped_has_no_fault() -> None:
    plan = load.plan(files.read(files.SAMPLE), Catalogue(), {}, sample=True)
    assert plan.faults == []
    assert all(each.sample for each in plan.agencies)
    assert all(each.sample for each in plan.services)

"""Every spelling of a code leads to one canonical form, and nothing else passes for a code."""

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lookup import code as code_module
from lookup.code import LONGEST, DossierCode, Flaw, MalformedCode, Scheme, at, issue, parse

A = "000.00.01.G22-200316-0001"
B = "G99.01.02-261008-0975"
C = "G99.001.02-261008-990001"
D = "01234/2026/99901"
AGENCIES = {Scheme.A: "000.00.01.G22", Scheme.B: "G99.01.02", Scheme.C: "G99.001.02", Scheme.D: "99901"}
FULL_WIDTH = {ord(ascii_): ord(ascii_) + 0xFEE0 for ascii_ in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.-/"}
DASHES = "-‐‑‒–—―−﹘﹣－"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"

days = st.dates(date(2000, 1, 1), date(2099, 12, 31))
schemes = st.sampled_from(Scheme)
groups = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=3)


@st.composite
def codes(draw: st.DrawFn) -> DossierCode:
    """A code some agency could have issued."""
    scheme = draw(schemes)
    sequence = draw(st.integers(1, 99_999) if scheme is not Scheme.D else st.integers(1, 9_999_999))
    return issue(scheme, AGENCIES[scheme], draw(days), sequence)


some_group = groups | st.from_regex(r"[A-Z][0-9]{2}", fullmatch=True)
some_digits = st.text("0123456789", min_size=4, max_size=10)
AGENCY_OF = {
    Scheme.A: st.lists(groups, min_size=1, max_size=7).map(lambda units: ["000", *units, "G22"]),
    Scheme.B: st.lists(some_group, min_size=1, max_size=9),
    Scheme.C: st.from_regex(r"[A-Z][0-9]{2}\.[0-9]{3}\.[0-9]{2}", fullmatch=True).map(lambda text: text.split(".")),
}
"""What an agency's identifier may look like in each scheme that has one."""


@st.composite
def canonical_codes(draw: st.DrawFn, scheme: Scheme) -> DossierCode:
    """Any code of this scheme, of any agency, any length of sequence, any day or year."""
    if scheme is Scheme.D:
        sequence, year = draw(st.integers(0, 9_999_999)), draw(st.integers(1990, 2099))
        return parse(f"{sequence}/{year}/{draw(st.integers(0, 99_999)):05d}")
    agency, sequence_text = ".".join(draw(AGENCY_OF[scheme])), draw(some_digits)
    if scheme is Scheme.C:
        sequence_text = sequence_text.rjust(6, "9")
    code = parse(f"{agency}-{draw(days):%y%m%d}-{sequence_text}")
    assume(code.scheme is scheme)
    return code


some_canonical_code = st.sampled_from(Scheme).flatmap(canonical_codes)
ODD = [*"Ooaé-./ %+?", "--", "%0A", "\n", "\r", "\0", "\u200b", "٣", "９", "²", "–"]
"""What may stand in an address in the place of, or beside, what belongs there."""


@st.composite
def nearly_canonical(draw: st.DrawFn) -> str:
    """A canonical path in which something stands before, after or in between, is missing, or is there twice."""
    path = draw(some_canonical_code).path
    for _ in range(draw(st.integers(1, 2))):
        begin = draw(st.integers(0, len(path)) | st.sampled_from([0, len(path)]))
        end = min(len(path), begin + draw(st.integers(0, 2)))
        path = path[:begin] + draw(st.sampled_from(["", path[begin:end] * 2, *ODD, *"123456789"])) + path[end:]
    return path


@st.composite
def spelt_nearly_so(draw: st.DrawFn) -> str:
    """A canonical path, spelt otherwise in one way only."""
    path = draw(some_canonical_code).path
    dash, blank = draw(st.sampled_from([*DASHES, "--", " ", "/"])), draw(st.sampled_from([*INVISIBLE, *" \t\n\u00a0"]))
    ways = [path.lower(), path.title(), path.translate(FULL_WIDTH), path.replace("0", "O")]
    spelt: str = draw(st.sampled_from([*ways, path.replace("-", dash), path + blank, blank + path]))
    return spelt


some_dates = st.text("0123456789O", min_size=5, max_size=7)
nearly_dated = st.builds(
    lambda agency, day, sequence: f"{agency}-{day}-{sequence}",
    st.sampled_from(["G99", "G99.01.02", "000.00.01.G22", "G99.001.02", "GO9", "g99", "G99.", ""]),
    some_dates,
    st.text("0123456789O", min_size=3, max_size=11),
)
nearly_yearly = st.builds(
    lambda sequence, year, agency: f"{sequence}-{year}-{agency}",
    st.text("0123456789", min_size=1, max_size=8),
    st.integers(1985, 2105) | st.integers(0, 99_999),
    st.text("0123456789", min_size=4, max_size=6),
)


@st.composite
def mangled(draw: st.DrawFn, code: DossierCode) -> str:
    """The same code as a person, a phone or a word processor may spell it."""
    text = code.path if draw(st.booleans()) else code.text
    head, _, tail = text.partition("-") if code.scheme is not Scheme.D else ("", "", text)
    if draw(st.booleans()):
        tail = tail.replace("0", "O")  # only digits stand there
    text = f"{head}-{tail}" if head else tail
    dash = draw(st.sampled_from(DASHES))
    text = text.replace("-", draw(st.sampled_from([dash, f" {dash} ", f"{dash} ", " "])))
    if draw(st.booleans()):
        text = text.lower()
    if draw(st.booleans()):
        text = text.translate(FULL_WIDTH)
    position = draw(st.integers(0, len(text)))
    text = text[:position] + draw(st.sampled_from(["", *INVISIBLE])) + text[position:]
    before, after = draw(st.sampled_from(["", " ", "\t", "\u3000"])), draw(st.sampled_from(["", " ", "\r\n", "\u00a0"]))
    return f"{before}{text}{after}"


@pytest.mark.parametrize(
    ("text", "scheme", "agency"),
    [
        (A, Scheme.A, "000.00.01.G22"),
        ("000.G22-200316-0001", Scheme.A, "000.G22"),
        (B, Scheme.B, "G99.01.02"),
        ("H15.50.05.13-261008-0975", Scheme.B, "H15.50.05.13"),
        ("G99-261008-0975", Scheme.B, "G99"),
        ("G99.01.02-261008-12345", Scheme.B, "G99.01.02"),
        (C, Scheme.C, "G99.001.02"),
        ("G99.001.02-261008-9901", Scheme.B, "G99.001.02"),
        (D, Scheme.D, "99901"),
        ("1234567/2026/99901", Scheme.D, "99901"),
    ],
)
def test_each_scheme_is_recognised(text: str, scheme: Scheme, agency: str) -> None:
    assert parse(text) == DossierCode(text, scheme, agency)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("g99.01.02-261008-0975", B),
        ("  G99.01.02-261008-0975\n", B),
        ("G99.01.02 - 261008 - 0975", B),
        ("G99.01.02 261008 0975", B),
        ("G99. 01. 02-261008-0975", B),
        ("G99.01.02–261008—0975", B),
        ("G99.01.02−261008‑0975", B),
        ("G99.01.02--261008-0975", B),
        ("Ｇ９９．０１．０２－２６１００８－０９７５", B),
        ("G99.01.02-\u200b261008-0975", B),
        ("\ufeffG99.01.02-261008-09\u00ad75", B),
        ("G99.01.02-261OO8-O975", B),
        ("g99.01.02-261oo8-o975", B),
        ("GO9.01.02-261008-0975", "G09.01.02-261008-0975"),
        ("000.00.01.g22-2oo316-ooo1", A),
        ("01234-2026-99901", D),
        ("01234 2026 99901", D),
        ("01234 / 2026 / 99901", D),
        ("1234/2026/99901", D),
        ("0001234/2026/99901", D),
        ("O1234/2O26/999O1", D),
        ("01234/2026-99901", D),
        ("０１２３４／２０２６／９９９０１", D),
        ("1/2026/99901", "00001/2026/99901"),
    ],
)
def test_spelling_is_forgiven(typed: str, canonical: str) -> None:
    assert parse(typed).text == canonical


@pytest.mark.parametrize(
    ("day", "there"),
    [("280229", True), ("260229", False), ("261131", False), ("260001", False), ("261301", False), ("260100", False)],
)
def test_day_of_a_code_is_one_of_the_calendar(day: str, there: bool) -> None:
    typed = f"G99.01.02-{day}-0975"
    if there:
        assert parse(typed).text == typed
    else:
        with pytest.raises(MalformedCode, match=day):
            parse(typed)


@given(st.data(), codes())
def test_mangled_code_is_the_same_code(data: st.DataObject, code: DossierCode) -> None:
    assert parse(data.draw(mangled(code))) == code


@given(codes())
def test_canonical_form_and_path_stay_as_they_are(code: DossierCode) -> None:
    assert parse(code.text) == code
    assert parse(code.path) == code
    assert parse(code.path).path == code.path


@given(st.lists(groups, min_size=1, max_size=9), days, st.integers(0, 10**10 - 1))
def test_canonical_form_of_any_agency_is_stable(agency: list[str], day: date, sequence: int) -> None:
    code = parse(f"{'.'.join(agency)}-{day:%y%m%d}-{sequence:04d}")
    assert parse(code.text) == code
    assert parse(code.text.lower()) == code


@given(st.text(max_size=LONGEST) | st.text("0129OGo./-– ９\u200b\0", max_size=LONGEST))
def test_whatever_is_typed_is_a_code_or_is_refused(typed: str) -> None:
    try:
        code = parse(typed)
    except MalformedCode:
        return
    assert parse(code.text) == code


@given(schemes, days, st.integers(1, 99_999))
def test_issued_code_is_read_back(scheme: Scheme, day: date, sequence: int) -> None:
    code = issue(scheme, AGENCIES[scheme], day, sequence)
    assert (code.scheme, code.agency) == (scheme, AGENCIES[scheme])
    assert parse(code.text) == code


@pytest.mark.parametrize(
    ("scheme", "sequence", "text"),
    [
        (Scheme.A, 1, "000.00.01.G22-261008-0001"),
        (Scheme.B, 975, "G99.01.02-261008-0975"),
        (Scheme.B, 12_345, "G99.01.02-261008-12345"),
        (Scheme.C, 1, "G99.001.02-261008-990001"),
        (Scheme.C, 10_000, "G99.001.02-261008-9910000"),
        (Scheme.D, 7, "00007/2026/99901"),
        (Scheme.D, 123_456, "123456/2026/99901"),
    ],
)
def test_sequence_is_padded_and_never_cut_off(scheme: Scheme, sequence: int, text: str) -> None:
    assert issue(scheme, AGENCIES[scheme], date(2026, 10, 8), sequence).text == text


@pytest.mark.parametrize(
    ("scheme", "agency"),
    [
        (Scheme.A, "G22"),
        (Scheme.A, "G99.01.02"),
        (Scheme.B, "000.00.01.G22"),
        (Scheme.B, "99901"),
        (Scheme.C, "G99.01.02"),
        (Scheme.D, "G99.01.02"),
        (Scheme.D, "9990"),
    ],
)
def test_agency_cannot_issue_in_a_scheme_its_identifier_does_not_fit(scheme: Scheme, agency: str) -> None:
    with pytest.raises(MalformedCode):
        issue(scheme, agency, date(2026, 10, 8), 1)


@pytest.mark.parametrize("day", ["260230", "261301", "260431", "250229", "261000", "260010", "999999"])
def test_day_that_does_not_exist_is_refused(day: str) -> None:
    with pytest.raises(MalformedCode, match=f"group {day} must be the year, month and day"):
        parse(f"G99.01.02-{day}-0975")


def test_leap_day_exists() -> None:
    assert parse("G99.01.02-240229-0975").text == "G99.01.02-240229-0975"


@pytest.mark.parametrize("year", ["1989", "2100", "0000", "9999"])
def test_year_in_which_nothing_was_numbered_is_refused(year: str) -> None:
    with pytest.raises(MalformedCode, match=f"{year} is not a possible year"):
        parse(f"01234/{year}/99901")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "\u200b",
        "0975",
        "G99.01.02-261008",
        "G99.01.02-261008-097",
        "G99.01.02-26108-0975",
        "G99.01.02-261008-0975-1",
        "G99..02-261008-0975",
        "G99.1.2-261008-0975",
        "G99.0102-261008-0975",
        ".G99-261008-0975",
        "Đ99.01.02-261008-0975",
        "12345678/2026/99901",
        "01234/2026/9990",
        "01234/2026/999011",
        "G٩٩.01.02-٢٦١٠٠٨-٠٩٧٥",  # Arabic-Indic digits
        "G99.01.02-२६१००८-0975",  # Devanagari digits
        "\u0660\u0661/2026/99901",
        "G99.01.02-261008-0975\0",
        "\0",
        "G99.01.02-261008-0975' OR '1'='1",
        "G99.01.02-261008-0975; DROP TABLE dossier",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "%00",
    ],
)
def test_what_is_no_code_is_refused(typed: str) -> None:
    with pytest.raises(MalformedCode):
        parse(typed)


# -- the quick way in: what stands in an address ---------------------------------------------------------------


def canonical(path: str) -> DossierCode | None:
    """What `parse` makes of it, if that is how it would write it itself."""
    try:
        code = parse(path)
    except MalformedCode:
        return None
    return code if code.path == path else None


@pytest.mark.parametrize("scheme", Scheme)
@given(st.data())
def test_canonical_path_of_any_code_is_that_code(scheme: Scheme, data: st.DataObject) -> None:
    code = data.draw(canonical_codes(scheme))
    assert at(code.path) == code == parse(code.path)


@given(nearly_canonical() | spelt_nearly_so() | nearly_dated | nearly_yearly | st.text(max_size=LONGEST))
def test_no_other_path_is_a_code(path: str) -> None:
    assert at(path) == canonical(path)


@given(st.data(), some_canonical_code)
def test_code_spelt_otherwise_is_no_canonical_path(data: st.DataObject, code: DossierCode) -> None:
    spelt = data.draw(mangled(code))
    assert at(spelt) == (code if spelt == code.path else None)


@pytest.mark.parametrize(
    "code", [A, B, C, D, "G99.01.02-261008-1234567890", "1234567/2026/99901", "00000/1990/00000", "01234/2099/99901"]
)
def test_what_is_added_to_a_canonical_path_makes_it_another(code: str) -> None:
    path = parse(code).path
    assert at(path) is not None
    added = ["\n", "%0A", "\r\n", " ", "%20", "\0", "%00", "/", "?", "x", "O", "-", "-1", "٣", "９", "\u200b"]
    changed = [path + each for each in added] + [each + path for each in added]
    changed += [path.lower(), path.replace("0", "O"), path.replace("0", "٠"), path.replace("0", "０")]
    changed += [path.replace("-", "–"), path.replace("-", "/"), path.replace("-", " "), path[:-1] + "٣"]
    assert [each for each in changed if each != path and at(each) is not None] == []


@pytest.mark.parametrize(
    "path",
    [
        "G99.01.02-261008-097",
        "G99.01.02-261008-01234567890",
        "G99.01.02-260230-0975",
        "G99.01.02-261301-0975",
        "GO9.01.02-261008-0975",
        "G99.01.02-261OO8-0975",
        "1-2026-99901",
        "001234-2026-99901",
        "01234567-2026-99901",
        "01234-1989-99901",
        "01234-2100-99901",
        "01234-2026-9990",
        "01234-2026-999011",
        D,
        "",
        "-",
        "--",
    ],
)
def test_path_that_nothing_would_be_written_as_is_no_code(path: str) -> None:
    assert at(path) is None


def test_letter_o_stays_a_letter_where_a_letter_can_stand() -> None:
    assert parse("G99.O1.02-261008-0975") != parse("G99.01.02-261008-0975")


@pytest.mark.parametrize(
    "typed",
    [B + " " * LONGEST, "9" * 10_000, "G99." * 1_000, "\u200b" * (LONGEST + 1), "\ufdfa" * LONGEST, "\ufdfa" * 15 + B],
)
def test_overlong_input_is_refused_before_it_is_looked_at(typed: str) -> None:
    with pytest.raises(MalformedCode) as refused:
        parse(typed)
    assert refused.value.flaw is Flaw.TOO_LONG


def test_code_with_blanks_has_256_characters_at_the_most() -> None:
    assert parse(B.ljust(256)).text == B
    with pytest.raises(MalformedCode):
        parse(B.ljust(257))


def test_longest_code_of_any_scheme_fits() -> None:
    longest = ".".join(["G99"] + ["ABC"] * 8) + "-261008-1234567890"
    assert parse(longest).text == longest
    assert at(longest) == parse(longest)


def test_address_longer_than_any_code_is_not_remembered() -> None:
    """A cache of prefixes that took whatever is asked for held 155 MiB of addresses of 8 kB."""
    code_module._prefix.cache_clear()
    for n in range(3):
        assert at(f"G99.{n:02d}{'A' * 40}-261008-0975") is None
    assert code_module._prefix.cache_info().currsize == 0


def test_refusal_shows_what_a_code_looks_like_and_nothing_that_was_typed() -> None:
    with pytest.raises(MalformedCode) as refused:
        parse("<b>079000000000</b>")
    assert "079000000000" not in refused.value.detail
    assert parse(B).text in refused.value.detail


def test_path_needs_no_escape() -> None:
    assert parse(D).path == "01234-2026-99901"
    assert parse(B).path == B

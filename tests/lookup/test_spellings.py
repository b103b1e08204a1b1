"""What people paste for a code: read as that code, or refused for a reason that is said; never as another code."""

import contextlib
import random
import string
from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup.code import LONGEST, SENTENCES, DossierCode, Flaw, MalformedCode, Scheme, at, issue, lookalike, parse
from tests.lookup.test_code import A, B, C, D, some_canonical_code

# What is typed or pasted → the code.
PASTES = {
    "G99.01.02-261008-0975.": B,
    "G99.01.02-261008-0975,": B,
    "G99.01.02-261008-0975)": B,
    "(G99.01.02-261008-0975)": B,
    "[G99.01.02-261008-0975]": B,
    "**G99.01.02-261008-0975**": B,
    "“G99.01.02-261008-0975”": B,
    "'G99.01.02-261008-0975": B,
    '="G99.01.02-261008-0975"': B,
    "Mã hồ sơ: G99.01.02-261008-0975": B,
    "MÃ HỒ SƠ G99.01.02-261008-0975.": B,
    "Ma ho so G99.01.02-261008-0975": B,
    "Mã hồ sơ:G99.01.02-261008-0975": B,
    "Code: G99.01.02-261008-0975": B,
    "ma=G99.01.02-261008-0975": B,
    "- G99.01.02-261008-0975": B,
    "📄 G99.01.02-261008-0975": B,
    "Ma so 000.00.01.G22-200316-0001": A,
    "Số hồ sơ 01234/2026/99901": D,
    "Số: 01234/2026/99901.": D,
    "№ 01234/2026/99901": D,
    "G99.01.02-261008-0975/": B,
    "/G99.01.02-261008-0975/": B,
    "G99.01.02_261008_0975": B,
    "G99_01_02-261008-0975": B,
    "G99 01 02 261008 0975": B,
    "G99,01,02-261008-0975": B,
    "G99-01-02-261008-0975": B,
    "G99·01·02-261008-0975": B,
    "G99。01。02－261008－0975": B,
    "G99.01.02+261008+0975": B,
    "G99.01.02.261008.0975": B,
    "G99.01.02/261008/0975": B,
    "G990102-261008-0975": B,
    "G9901-261008-0975": "G99.01-261008-0975",
    "G9900102-261008-990001": C,
    "G99 00 102-261008-990001": C,
    "H15500513-261008-0975": "H15.50.05.13-261008-0975",
    "G99.01.02-26 10 08-09 75": B,
    "G99.01.02-261008-\n0975": B,
    "G99.01.02\t261008\t0975": B,
    "G99.01.02-26l008-0975": "G99.01.02-261008-0975",
    "G99.01.02-26IOO8-O975": B,
    "G99 01 02-261008-0975": B,
    "G99_01_02 261008_0975": B,
    "G99 01 02 – 261008 – 0975": B,
    "G9O.01.02-261008-0975": "G90.01.02-261008-0975",
    "G9l.01.02-261008-0975": "G91.01.02-261008-0975",
    "000.00.01.G2I-200316-OOOl": "000.00.01.G21-200316-0001",
    "G99.001.02-26lOO8-99OOOl": C,
    "Ol234/2O26/999Ol": D,
    "01234.2026.99901": D,
    "01234_2026_99901": D,
    "01234,2026,99901": D,
    "01234\\2026\\99901": D,
    "01234//2026//99901/": D,
    "０１２３４．２０２６．９９９０１": D,
    "\u202aG99.01.02\u2011261008\u20110975\u202c": B,
}


@pytest.mark.parametrize(("typed", "code"), PASTES.items())
def test_paste_is_read_as_the_code_in_it(typed: str, code: str) -> None:
    assert parse(typed).text == code


REFUSED = {
    "": Flaw.EMPTY,
    " \u200b\n": Flaw.EMPTY,
    "?!": Flaw.OTHER,
    "nonsense": Flaw.OTHER,
    "0975": Flaw.CUT_OFF,
    "261008-0975": Flaw.CUT_OFF,
    "G99.01.02": Flaw.CUT_OFF,
    "G99.01.02-261008": Flaw.CUT_OFF,
    "G99.01.02-261008-097": Flaw.CUT_OFF,
    "01234/2026": Flaw.CUT_OFF,
    "01234/2026/9990": Flaw.CUT_OFF,
    "2026/99901": Flaw.CUT_OFF,
    "….01.02-261008-0975": Flaw.CUT_OFF,
    "G99.01.02-261008-0975…": Flaw.CUT_OFF,
    "G99.01.02-261008-0975...": Flaw.CUT_OFF,
    "G99.01.02-261008-0975?": Flaw.CUT_OFF,
    "G99.01.02-261008-0975*": Flaw.CUT_OFF,
    "G99.01.02-271327-0975": Flaw.DAY,
    "G99.01.02-26108-0975": Flaw.DAY,
    "G99.01.02-2610081-0975": Flaw.DAY,
    "01234/1989/99901": Flaw.YEAR,
    "G99.01.02-261008-0975, G99.01.02-261008-0976": Flaw.AMBIGUOUS,
    "G99.01.02-261008-0975 1": Flaw.AMBIGUOUS,
    "G99.01.02-26 1008-0975 1": Flaw.AMBIGUOUS,
    "1 01234/20 26/99901": Flaw.AMBIGUOUS,
    "G99.01.02-261008-0975 01/12/2026": Flaw.AMBIGUOUS,
    "Bàn 2: G99.01.02-261008-0975": Flaw.AMBIGUOUS,
    "12 01234/2026/99901": Flaw.AMBIGUOUS,
    "G99001-261008-0975": Flaw.OTHER,
    "G99.0 1.2-261008-0975": Flaw.OTHER,
    "G99.01 02-261008-0975": Flaw.OTHER,
    "G99 01.02-261008-0975": Flaw.OTHER,
    "OOO.00.01.G22-200316-0001": Flaw.AMBIGUOUS,
    "G99..02-261008-0975": Flaw.OTHER,
    "G99. .02-261008-0975": Flaw.OTHER,
    "G99..01.02-261008-0975": Flaw.OTHER,
    "G99.01..02-261008-0975": Flaw.OTHER,
    "G99.01$02-261008-0975": Flaw.OTHER,
    "TOI/01/02-261008-0975": Flaw.OTHER,
    "ĐG99.01.02-261008-0975": Flaw.OTHER,
    "G99.01.02-261008-097²": Flaw.OTHER,
    "G99.01.02-261008-0975①": Flaw.OTHER,
    "G99.01.02-261008-0975\0": Flaw.OTHER,
    "G99.01.02\x1b-261008-0975": Flaw.OTHER,
    "G99.01.02\ud800-261008-0975": Flaw.OTHER,
    "079202612345": Flaw.OTHER,
    "01234202699901": Flaw.OTHER,
    "0912 345 678": Flaw.OTHER,
    "x" * (LONGEST + 1): Flaw.TOO_LONG,
}


@pytest.mark.parametrize(("typed", "flaw"), REFUSED.items())
def test_what_is_refused_is_refused_for_its_own_reason(typed: str, flaw: Flaw) -> None:
    with pytest.raises(MalformedCode) as refused:
        parse(typed)
    assert refused.value.flaw is flaw


def test_reason_names_the_group_that_is_wrong_in_both_languages() -> None:
    with pytest.raises(MalformedCode) as refused:
        parse("g99.01.02-271327-0975")
    assert refused.value.parts == {"group": "271327"}
    assert "271327" in refused.value.detail
    assert "Nhóm 271327 phải là năm, tháng, ngày" in refused.value.detail_vi


def test_every_flaw_has_a_sentence_in_each_language() -> None:
    assert SENTENCES.keys() == set(Flaw)
    for english, vietnamese in SENTENCES.values():
        assert english.isascii()
        assert not vietnamese.isascii()
        assert english.endswith(".")
        assert vietnamese.endswith(".")


# -- never another code ------------------------------------------------------------------------------------


MARKS = [*".,_-/\\ +·–—−‐", " - ", ". ", "--", "..", "\n", "\t", "\u00a0", "\u200b-"]
AROUND = [*"\"'()[]{}<>.,;:!?…*=#“”«»-/ ", '="', "...", " ("]
BEFORE = [*AROUND, "Mã hồ sơ: ", "Số ", "Code=", "https://", "1. ", "2) ", "Ma ho so "]
AFTER = [*AROUND, " x", " 1", ", 2", " ngày"]
LOOKS = {"0": "OoＯ", "1": "IlLＩ"}


def misspelt(chance: random.Random, code: DossierCode) -> str:
    """The code with its letters and digits in their order, and anything else otherwise than it is printed.

    Digits become letters that look like them only where no letter can stand.
    """
    lower = len(code.agency) if code.scheme is not Scheme.D else 0
    level_1 = range(lower - 2, lower) if code.scheme is Scheme.A else range(1, 3)
    only_digits = [at for at in range(len(code.text)) if at >= lower or at in level_1]
    spelt = ""
    for at_, letter in enumerate(code.text):
        if letter in "./-":
            spelt += chance.choice([letter] * 4 + MARKS + ["", "\u0301", "…"]) if chance.random() < 0.4 else letter
        elif letter in LOOKS and at_ in only_digits and chance.random() < 0.2:
            spelt += chance.choice(LOOKS[letter])
        elif chance.random() < 0.1:
            spelt += chance.choice([letter.lower(), chr(ord(letter) + 0xFEE0), letter + " ", letter + "\u00ad"])
        else:
            spelt += letter
    before, after = (chance.choices(some, k=chance.randint(0, 2)) for some in (BEFORE, AFTER))
    return "".join([*before, spelt, *after])


@pytest.mark.parametrize("text", [A, B, C, D, "G99.05.02-261120-90001", "H15.50.05.13-261111-1010", "1010/2011/01001"])
def test_a_thousand_misspellings_of_one_code_lead_to_it_or_nowhere(text: str) -> None:
    chance, code = random.Random(f"misspelt {text}"), parse(text)
    read: Counter[str] = Counter()
    for spelt in {misspelt(chance, code) for _ in range(1_000)}:
        try:
            found = parse(spelt)
        except MalformedCode:
            read["refused"] += 1
        else:
            assert found == code, ascii(spelt)
            read["read"] += 1
    assert read["read"] > 100
    assert read["refused"] > 100


marks = st.text(string.punctuation + " …\u200b–“”、。\u202e😀", max_size=4)


@given(some_canonical_code, marks, marks)
def test_marks_around_a_code_make_no_other_of_it(code: DossierCode, before: str, after: str) -> None:
    with contextlib.suppress(MalformedCode):  # an ellipsis
        assert parse(before + code.text + after) == code


@given(some_canonical_code, st.data())
def test_code_that_lost_its_end_to_an_ellipsis_is_refused(code: DossierCode, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(code.text) - 1))
    for ellipsis in ("…", "..."):
        with pytest.raises(MalformedCode):
            parse(code.text[:kept] + ellipsis)


@given(some_canonical_code)
def test_spelling_that_is_not_canonical_is_no_address(code: DossierCode) -> None:
    for spelt in (f"{code.path}.", f"({code.path})", f"Mã: {code.path}", code.path.replace("-", "_")):
        assert at(spelt) is None


# -- letters where a letter can stand ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("G99.O5.O2-261120-90001", "G99.05.02-261120-90001"),
        ("G99.I5.0l-261120-90001", "G99.15.01-261120-90001"),
        ("000.OO.01.G22-200316-0001", A),
        ("000.00.OL.G22-200316-0001", A),
        ("0O0.00.01.L22-200316-0001", "000.00.01.L22-200316-0001"),
        ("L99.O1.02-261008-0975", "L99.01.02-261008-0975"),
        ("G99.OO1.02-261008-990001", C),
    ],
)
def test_letter_in_a_lower_group_stays_one_but_tells_what_may_be_meant(typed: str, meant: str) -> None:
    code = parse(typed)
    assert code.text != meant
    assert lookalike(code) == parse(meant)


@pytest.mark.parametrize("text", [A, B, C, D, "G99.AB-261008-0975"])
def test_code_without_such_a_letter_has_no_lookalike(text: str) -> None:
    assert lookalike(parse(text)) is None


def test_issued_code_needs_an_agency_spelt_as_it_is() -> None:
    for agency in ("G99,01", "G99.01.", " G99", "G9901"):
        with pytest.raises(MalformedCode) as refused:
            issue(Scheme.B, agency, date(2026, 10, 8), 1)
        assert refused.value.flaw is Flaw.AGENCY

"""A refusal carries what its raiser put in, and nothing else."""

import pytest

from ops.errors import (
    Internal,
    Kind,
    Malformed,
    MethodNotAllowed,
    NoSuchPath,
    Refusal,
    TooLarge,
    Unavailable,
)

REFUSALS: list[type[Refusal]] = [Malformed, NoSuchPath, MethodNotAllowed, TooLarge, Unavailable, Internal]


def test_members_stay_out_of_the_text_that_ends_up_in_logs() -> None:
    refusal = Malformed("The code is too short.", given="H26.7")
    assert str(refusal) == "malformed: The code is too short."
    assert refusal.members == {"given": "H26.7"}


def test_refusal_without_detail_reads_as_its_title() -> None:
    assert str(NoSuchPath()) == "not_found: There is nothing at this address."


def test_unavailable_asks_to_try_again_after_a_second_unless_told_otherwise() -> None:
    assert Unavailable().retry_after == 1
    assert Unavailable(retry_after=30).retry_after == 30
    assert Malformed().retry_after is None


def test_subclass_keeps_the_kind_and_changes_the_words() -> None:
    class MalformedCode(Malformed):
        code = "malformed_code"
        title = "This is not a code."
        title_vi = "Đây không phải là mã."

    assert MalformedCode().kind is Kind.INVALID
    assert str(MalformedCode()) == "malformed_code: This is not a code."


@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_refusal_speaks_both_languages(refusal: type[Refusal]) -> None:
    assert refusal.title.isascii()
    assert not refusal.title_vi.isascii()
    assert refusal.title.endswith(".")
    assert refusal.title_vi.endswith(".")


def test_codes_are_distinct_slugs() -> None:
    codes = [refusal.code for refusal in REFUSALS]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)

"""The page for integrators of webhooks: its examples work, and its figures are the code's."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import SECONDS
from intake.outgoing.signatures import BOTH_SIGN_FOR, Keys, secret_of, signed
from intake.partners.deliver import EVENTS
from intake.partners.schedule import WAITS
from intake.partners.webhooks import MOST

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "webhooks.md").read_text("utf-8")
SECRET = secret_of("4b" * 32)
BODY = '{"events": [], "á": 1}'.encode()
KEYS = [Keys.of(SECRET, "abcdefgh", generation) for generation in (1, 2)]


def example(name: str, function: str) -> Any:
    """A function of the page."""
    match = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    scope: dict[str, Any] = {}
    exec(match[1], scope)  # noqa: S102 - our own page
    return scope[function]


@pytest.mark.parametrize(
    ("name", "function", "key"),
    [
        ("verify", "verify", "whsec"),
        ("verify-library", "verify_library", "whsec"),
        ("verify-public", "verify_public", "whpk"),
    ],
)
def test_examples_verify_what_is_ours_and_nothing_else(name: str, function: str, key: str) -> None:
    verify = example(name, function)
    first, second = (getattr(keys, key) for keys in KEYS)
    headers = signed((KEYS[0],), "wh_abcdefgh_c1_x", datetime.now(UTC), BODY)
    assert verify(first, headers, BODY)
    assert not verify(second, headers, BODY)
    assert not verify(first, headers, BODY + b" ")
    both = signed((KEYS[1], KEYS[0]), "wh_abcdefgh_c1_x", datetime.now(UTC), BODY)
    assert verify(first, both, BODY)
    assert verify(second, both, BODY)


@pytest.mark.parametrize(
    ("name", "function", "key"), [("verify", "verify", "whsec"), ("verify-public", "verify_public", "whpk")]
)
@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook-signature": "v1,é v1a,é"},
        {"webhook-signature": "v1,x v1a,x v1a,AAAA v1"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "²"},
    ],
)
def test_examples_answer_false_to_nonsense(name: str, function: str, key: str, wrong: dict[str, str]) -> None:
    verify = example(name, function)
    headers = signed((KEYS[0],), "wh_abcdefgh_c1_x", datetime.now(UTC), BODY)
    assert not verify(getattr(KEYS[0], key), headers | wrong, BODY)
    for missing in headers:
        assert not verify(getattr(KEYS[0], key), {n: v for n, v in headers.items() if n != missing}, BODY)


def test_example_refuses_what_is_old() -> None:
    verify = example("verify", "verify")
    old = signed((KEYS[0],), "wh_abcdefgh_c1_x", datetime.now(UTC) - timedelta(minutes=6), BODY)
    assert not verify(KEYS[0].whsec, old, BODY)


def test_figures_are_the_codes() -> None:
    assert f"at most {EVENTS} events" in PAGE
    assert "may have ten" in PAGE
    assert MOST == 10
    assert f"within {SECONDS:g} seconds" in PAGE
    assert f"For {BOTH_SIGN_FOR.total_seconds() / 3600:g} hours" in PAGE
    hours = [wait / 3600 for wait in WAITS]
    assert f"{WAITS[0]:g} s, {WAITS[1] / 60:g} min, {WAITS[2] / 60:g} min, " in PAGE
    assert f"{', '.join(f'{each:g}' for each in hours[3:-1])} and {hours[-1]:g} h" in PAGE


def test_urls_of_the_page_are_taken() -> None:
    for url in re.findall(r'"url": "([^"]+)"', PAGE):
        Addresses().check_url(url)
    Addresses(["127.0.0.0/8"]).check_url("http://127.0.0.1:9000/")
    assert "`http://127.0.0.1:9000/`" in PAGE

"""The one-stop's rules as data: each rule at its value and beyond it, with each effect."""

from datetime import datetime
from typing import Any, get_args

import msgspec
import pytest

from intake.refusals import PolicyAsks, PolicyBlocks
from intake.rules import policies
from intake.rules.changes import State
from intake.rules.policies import RULES, judge, of_move, of_new_due_date
from intake.rules.workdays import SHIPPED, after_hours
from lookup.catalogue import Service, files
from lookup.clock import VIETNAM
from lookup.status import Status

S = Status


def on(text: str) -> datetime:
    """`11-16 10:00` on a Vietnamese clock; 16 November 2026 is a Monday, and the 24th a public holiday."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


def service(policy: dict[str, Any] | None) -> Service:
    return Service("S.5", "Ví dụ", "Example", "F", False, (), policy=policy)


def state(status: Status = S.PROCESSING, **more: Any) -> State:
    given: dict[str, Any] = {
        "code": "H1.1.1-1",
        "version": 2,
        "status": status,
        "agency": "H1.1.1",
        "origin": "H1.1.1",
        "service": "S.5",
        "service_case": "default",
        "channel": "direct",
        "submitted_at": on("11-16 09:00"),
        "received_at": None if status is S.SUBMITTED else on("11-16 10:00"),
        "due_at": None if status is S.SUBMITTED else on("11-27 10:00"),
        "calendar": "vn-2026.1",
        "last_at": on("11-16 10:00"),
        "timeline_bytes": 200,
    }
    return State(**given | more)


@pytest.mark.parametrize(
    ("before", "to", "at", "policy", "exceeded"),
    [
        (state(), S.SUPPLEMENT_REQUIRED, "11-19 16:00", None, []),
        (state(), S.SUPPLEMENT_REQUIRED, "11-20 07:30", None, ["supplement_days"]),
        (state(), S.SUPPLEMENT_REQUIRED, "11-20 07:30", {"supplement_days": 4}, []),
        (state(), S.SUPPLEMENT_REQUIRED, "11-16 11:00", {"supplement_days": 0}, []),
        (state(supplements=1), S.SUPPLEMENT_REQUIRED, "11-17 09:00", None, ["supplement_rounds"]),
        (state(supplements=1), S.SUPPLEMENT_REQUIRED, "11-17 09:00", {"supplement_rounds": 2}, []),
        (state(S.SUBMITTED), S.SUPPLEMENT_REQUIRED, "11-17 09:00", None, []),
        (state(S.SUBMITTED), S.RECEIVED, "11-17 09:00", None, []),
        (state(S.SUBMITTED), S.RECEIVED, "11-17 09:01", None, ["decision_hours"]),
        (state(S.SUBMITTED), S.REJECTED, "11-18 09:01", {"decision_hours": 16}, ["decision_hours"]),
        (state(S.SUBMITTED), S.REJECTED, "11-17 09:00", None, []),
        (state(S.SUPPLEMENT_REQUIRED), S.REJECTED, "11-17 09:00", None, ["refusal_after_acceptance"]),
        (state(S.SUPPLEMENT_REQUIRED, received_at=None), S.REJECTED, "11-17 09:00", None, []),
        (state(supplements=5), S.COMPLETED, "11-30 09:00", None, []),
    ],
)
def test_what_a_move_exceeds(before: State, to: Status, at: str, policy: Any, exceeded: list[str]) -> None:
    assert [each.rule for each in of_move(before, to, on(at), service(policy), SHIPPED)] == exceeded


@pytest.mark.parametrize(
    ("before", "at", "policy", "exceeded"),
    [
        (state(), "11-26 16:00", None, []),
        (state(), "11-27 08:00", None, ["apology_days"]),
        (state(due_at=on("11-25 10:00")), "11-23 08:00", None, []),
        (state(due_at=on("11-25 10:00")), "11-24 08:00", None, ["apology_days"]),  # the 24th is a holiday
        (state(due_at=on("11-30 10:00")), "11-27 23:59", None, []),  # Friday, for Monday
        (state(), "11-27 08:00", {"apology_days": 0}, []),
        (state(reappointments=1), "11-20 08:00", None, ["reappointments"]),
        (state(reappointments=1), "11-20 08:00", {"reappointments": 2}, []),
        (state(due_at=None), "11-20 08:00", None, []),
    ],
)
def test_what_a_new_due_date_exceeds(before: State, at: str, policy: Any, exceeded: list[str]) -> None:
    assert [each.rule for each in of_new_due_date(before, on(at), service(policy), SHIPPED)] == exceeded


def second_supplement(effect: str | None) -> Any:
    policy = None if effect is None else {"effects": {"supplement_rounds": effect}}
    return of_move(state(supplements=1), S.SUPPLEMENT_REQUIRED, on("11-17 09:00"), service(policy), SHIPPED)


def test_reason_is_asked_for_and_then_listed() -> None:
    for nothing in (None, "", "  "):
        with pytest.raises(PolicyAsks, match="supplement 2") as asked:
            judge(second_supplement(None), nothing)
    assert asked.value.members == {
        "rules": [
            {
                "rule": "supplement_rounds",
                "value": 1,
                "found": "It would be supplement 2.",
                "source": "Decree 61/2018 art. 15(3)",
            }
        ]
    }
    assert [each.rule for each in judge(second_supplement(None), "Luật chuyên ngành cho phép")] == ["supplement_rounds"]


def test_effects_are_data() -> None:
    assert [each.rule for each in judge(second_supplement("warn"), None)] == ["supplement_rounds"]
    with pytest.raises(PolicyBlocks, match="supplement_rounds allows 1") as blocked:
        judge(second_supplement("block"), "Vẫn yêu cầu")
    assert blocked.value.members["rule"] == "supplement_rounds"


def test_catalogue_takes_every_rule_and_no_other() -> None:
    named = {field.name for field in msgspec.structs.fields(files.Policy)} - {"effects"}
    assert named | {"refusal_after_acceptance"} == set(RULES)
    assert set(get_args(files._RuleName)) == set(RULES)
    assert {rule.effect for rule in RULES.values()} <= set(get_args(policies.Effect))


@pytest.mark.parametrize(
    ("at", "hours", "ends"),
    [
        ("11-16 09:00", 8, "11-17 09:00"),
        ("11-21 22:00", 8, "11-23 17:00"),  # Saturday night: all of Monday
        ("11-20 12:10", 8, "11-23 11:30"),
        ("11-16 17:05", 8, "11-17 17:00"),
        ("11-16 06:00", 4.5, "11-16 11:30"),
        ("11-23 15:00", 8, "11-25 15:00"),  # the 24th is a holiday
    ],
)
def test_hours_of_a_decision_are_counted_in_office_hours(at: str, hours: float, ends: str) -> None:
    assert after_hours(on(at), hours, SHIPPED) == on(ends)  # type: ignore[arg-type]

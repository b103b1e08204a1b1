"""The one-stop's rules as data: what a service allows, and what an excess does. No I/O.

A rule has a value and an effect. `block` refuses. `reason` asks for the officer's sentence (`override`), which is kept
in the event and listed. `warn` is shown and listed. Values and effects are the service's own, else the installation's
(catalogue, policy.toml), else the defaults here; each names its article.

What is meaningless, a date in the past or a step before the last one, is not a policy: `apply` refuses it always.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from intake.refusals import PolicyAsks, PolicyBlocks
from intake.rules.changes import State
from intake.rules.requests import nfc
from intake.rules.workdays import Calendar, add_working_days, after_hours, working_day_before
from lookup.catalogue import Service
from lookup.clock import VIETNAM
from lookup.status import Status

Effect = Literal["block", "reason", "warn"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its default value and effect, and the article it comes from."""

    name: str
    value: int
    effect: Effect
    source: str


RULES: Final[Mapping[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule("supplement_rounds", 1, "reason", "Decree 61/2018 art. 15(3)"),
        Rule("supplement_days", 3, "warn", "Decree 61/2018 art. 19(4)"),
        Rule("decision_hours", 8, "warn", "Decree 45/2020 art. 11"),
        Rule("refusal_after_acceptance", 0, "block", "Decree 61/2018 art. 19(8)"),
        Rule("reappointments", 1, "block", "Decree 61/2018 art. 19(9)"),
        Rule("apology_days", 1, "warn", "Decree 61/2018 art. 19(9)"),
    )
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a change exceeds: its value, what was found instead, its effect and source."""

    rule: str
    value: int
    found: str
    effect: Effect
    source: str

    def told(self) -> dict[str, Any]:
        """As answers and events have it."""
        return {"rule": self.rule, "value": self.value, "found": self.found, "source": self.source}


def value_of(service: Service | None, name: str) -> int:
    """The value of this rule for this service; None: one that the catalogue does not have."""
    own = _policy(service).get(name)
    return RULES[name].value if own is None else int(own)


def judge(findings: Iterator[Finding], override: str | None) -> list[Finding]:
    """What is to be shown and listed: findings that warn, and those that `override` gives the reason for.

    Raises PolicyBlocks, and PolicyAsks where a reason is needed and `override` gives none.
    """
    found = list(findings)
    for each in found:
        if each.effect == "block":
            raise PolicyBlocks(f"{each.found} The rule {each.rule} allows {each.value} ({each.source}).", **each.told())
    asking = [each for each in found if each.effect == "reason"]
    if asking and not (override or "").strip():
        said = " ".join(f"{each.found} The rule {each.rule} allows {each.value} ({each.source})." for each in asking)
        raise PolicyAsks(said, rules=[each.told() for each in asking])
    return found


def listed(findings: list[Finding], override: str | None) -> dict[str, Any]:
    """What an event's detail says of them: the rules that were exceeded, and the officer's sentence."""
    if not findings:
        return {}
    said = {"override": nfc(override.strip())} if override and override.strip() else {}
    return {"rules": [each.told() for each in findings], **said}


def of_move(state: State, to: Status, at: datetime, service: Service | None, calendar: Calendar) -> Iterator[Finding]:
    """The rules that a move to this status exceeds."""
    if to is Status.SUPPLEMENT_REQUIRED:
        if state.supplements >= value_of(service, "supplement_rounds"):
            yield _finding(service, "supplement_rounds", f"It would be supplement {state.supplements + 1}.")
        if state.received_at is not None:
            days = value_of(service, "supplement_days")
            last = add_working_days(state.received_at.astimezone(VIETNAM).date(), days, calendar)
            if at.astimezone(VIETNAM).date() > last:
                yield _finding(service, "supplement_days", f"It could be asked for until {last}.")
    if to is Status.REJECTED and state.received_at is not None:
        found = "It was accepted: what comes of the work is a completion with the outcome refused."
        yield _finding(service, "refusal_after_acceptance", found)
    if state.status is Status.SUBMITTED:
        until = after_hours(state.submitted_at, value_of(service, "decision_hours"), calendar)
        if at > until:
            yield _finding(service, "decision_hours", f"It was to be decided until {until:%H:%M %d/%m/%Y}.")


def of_new_due_date(state: State, at: datetime, service: Service | None, calendar: Calendar) -> Iterator[Finding]:
    """The rules that putting the due date off at this time exceeds."""
    if state.reappointments >= value_of(service, "reappointments"):
        yield _finding(service, "reappointments", f"It would be put off for the time {state.reappointments + 1}.")
    if state.due_at is None:
        return
    due = state.due_at.astimezone(VIETNAM).date()
    last = due
    for _ in range(value_of(service, "apology_days")):
        last = working_day_before(last, calendar)
    if at.astimezone(VIETNAM).date() > last:
        yield _finding(service, "apology_days", f"The apology was due on {last}.")


def _policy(service: Service | None) -> Mapping[str, Any]:
    return (service.policy if service is not None else None) or {}


def _finding(service: Service | None, name: str, found: str) -> Finding:
    rule = RULES[name]
    effect: Effect = (_policy(service).get("effects") or {}).get(name) or rule.effect
    return Finding(name, value_of(service, name), found, effect, rule.source)

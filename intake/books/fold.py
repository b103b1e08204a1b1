"""A dossier's row, recomputed from its events alone: no calendar, no business rule, no database.

Every event says what the dossier is after it (AFTER_IMAGE), and the first event and corrections say what seldom changes
(FIRST_IMAGE). The fold copies these. It computes `version`, `timeline`, `removed`, and two notes, `action_needed` and
`reason`. Schema and verifier keep to the same rules.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from lookup.clock import VIETNAM
from lookup.status import Status

AFTER_IMAGE: Final = (
    "status",
    "agency",
    "origin",
    "owner",
    "outcome",
    "received_at",
    "due_at",
    "finished_at",
    "returned_at",
    "calendar",
    "supplements",
    "reappointments",
    "key_serial",
)
"""Columns that each event has for the row after it. (`pauses` too, where null means unchanged.)"""

FIRST_IMAGE: Final = ("service", "service_case", "channel", "submitted_at")
"""Columns that the first event has, and a correction that changes them."""

FOLDED_COLUMNS: Final = (
    *("code", "version", *AFTER_IMAGE, *FIRST_IMAGE, "submitted_by", "source_seq", "pauses"),
    *("official_number", "action_needed", "reason", "timeline", "removed"),
)
"""The columns of `dossier` that follow from the events: all but the applicant, the subject and `retention_class`."""

NOT_IN_TIMELINE: Final = "not_in_timeline"
"""The flag of an event that adds no step: a move into a full timeline, a task that ended without being done."""

_REASONED = {Status.REJECTED, Status.WITHDRAWN, Status.SUSPENDED}
_STEPS = {"received", "moved", "noted", "due_changed", "led_by", "task_opened", "task_ended"}


class Unknown:
    """What an erased event had. It equals nothing, and `differences` passes over it."""

    def __repr__(self) -> str:
        return "erased"


ERASED: Final = Unknown()


class DoesNotFollow(ValueError):
    """An event that cannot stand where it stands: a gap, another dossier, or no reception first."""


def folded(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """FOLDED_COLUMNS after these events of one dossier, oldest first and all of them.

    Each event has the columns of seal.HASHED_COLUMNS and `erased`. `pauses` and `detail` are text, times are aware;
    `timeline` is a list of steps, as `steps` reads them. Values that only an erased event knew are ERASED. An event of
    a kind that is not known here changes the row by its image, and adds no step. Raises DoesNotFollow.
    """
    row: dict[str, Any] | None = None
    for event in events:
        row = _first(event) if row is None else _followed(row, event)
    if row is None:
        raise DoesNotFollow("a dossier without events has no row")
    return row


def _first(event: Mapping[str, Any]) -> dict[str, Any]:
    if event["version"] != 1 or event["kind"] != "received":
        raise DoesNotFollow(f"{event['code']} begins with version {event['version']}, {event['kind']}")
    start: dict[str, Any] = dict.fromkeys(FOLDED_COLUMNS)
    start |= {"code": event["code"], "version": 0, "pauses": "[]", "timeline": [], "removed": False}
    return _followed(start | {"submitted_by": event["submitted_by"]}, event)


def _followed(row: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    version, kind = event["version"], event["kind"]
    if event["code"] != row["code"] or version != row["version"] + 1:
        raise DoesNotFollow(f"version {version} of {event['code']} does not follow {row['version']} of {row['code']}")
    if version > 1 and (kind == "received" or row["removed"]):
        raise DoesNotFollow(f"version {version} of {event['code']}, {kind}, follows {row['version']}")
    after = row | {name: event[name] for name in AFTER_IMAGE} | {"version": version}
    if event["pauses"] is not None:
        after["pauses"] = event["pauses"]
    if kind in {"received", "corrected"}:
        after |= {name: event[name] for name in FIRST_IMAGE if event[name] is not None}
    if event["source_seq"] is not None and kind != "noted":
        after["source_seq"] = event["source_seq"]
    if kind in {"received", "moved"}:
        after |= _notes(row, event)
    if kind in {"received", "number_bound", "corrected"}:
        number = _erasable(event, "official_number")
        if number is not None and not (number is ERASED and kind == "received"):
            after["official_number"] = number
    after["timeline"] = row["timeline"] + _step(event)
    if kind == "removed":
        after |= {"removed": True, "timeline": [], "official_number": None, "action_needed": None, "reason": None}
    return after


def _notes(row: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """`action_needed` is the note of a status that asks, `reason` that of a refusal, withdrawal or suspension.

    A refused result keeps its reason while it is handed over without another note.
    """
    note, status = _erasable(event, "note"), Status(event["status"])
    reason = None
    if status in _REASONED or event["outcome"] == "refused":
        reason = row["reason"] if note is None and event["outcome"] == row["outcome"] == "refused" else note
    return {"action_needed": note if status.asks else None, "reason": reason}


def _step(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The step that this event adds to the timeline: none or one."""
    kind, flags = event["kind"], event["flags"] or ()
    if kind not in _STEPS or NOT_IN_TIMELINE in flags:
        return []
    step = {
        "at": event["occurred_at"].astimezone(VIETNAM),
        "status": Status(event["step_status"] or event["status"]).slug,
        "agency": event["agency"],
        "department": _erasable(event, "department"),
    }
    if kind == "noted":
        step["late"] = True
    if kind == "due_changed":
        step["due_at"] = event["due_at"] and event["due_at"].astimezone(VIETNAM)
    if kind in {"task_opened", "task_ended"}:
        step["task"] = event["task"]
        detail = msgspec.json.decode(event["detail"] or "{}")
        step["agency"] = ERASED if event["erased"] else detail.get("agency") or event["agency"]
    if kind == "task_opened":
        step["work"] = ERASED if event["erased"] else detail["work"]
        step["due_at"] = ERASED if event["erased"] else _moment(detail["due_at"])
    return [step]


def _erasable(event: Mapping[str, Any], column: str) -> Any:
    return ERASED if event["erased"] else event[column]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(VIETNAM)


# -- comparing -------------------------------------------------------------------------------------------------------


def steps(timeline: str) -> list[dict[str, Any]]:
    """The steps of column `timeline`, their times as datetimes: PostgreSQL and this program write them differently."""
    found: list[dict[str, Any]] = msgspec.json.decode(timeline)
    for step in found:
        for name in step.keys() & {"at", "due_at"}:
            step[name] = _moment(step[name])
    return found


def differences(row: Mapping[str, Any], fold: Mapping[str, Any]) -> list[str]:
    """One clause for each column of the row that is not what the fold of its events says; erased values agree.

    `row` has FOLDED_COLUMNS as PostgreSQL gives them: `timeline` and `pauses` as text.
    """
    found = []
    for name in FOLDED_COLUMNS:
        stored, told = row[name], fold[name]
        if name == "timeline":
            found += _different_steps(steps(stored), told)
        elif told is not ERASED and stored != told and (name != "pauses" or _json(stored) != _json(told)):
            found.append(f"{name} is {_words(stored)}, the log says {_words(told)}")
    return found


def _different_steps(stored: list[dict[str, Any]], told: list[dict[str, Any]]) -> list[str]:
    if len(stored) != len(told):
        return [f"timeline has {len(stored)} steps, the log says {len(told)}"]
    for number, (step, event) in enumerate(zip(stored, told, strict=True), 1):
        for name in sorted(event.keys() | step.keys()):
            if event.get(name) is not ERASED and step.get(name) != event.get(name):
                return [
                    f"step {number} of timeline: {name} is {_words(step.get(name))}, "
                    f"the log says {_words(event.get(name))}"
                ]
    return []


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


def _words(value: Any) -> str:
    return "nothing" if value is None else str(value)

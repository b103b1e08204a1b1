"""A dossier's events as an officer reads them: what happened, when, by whom, and why."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intake.rules.changes import CORRECTABLE
from lookup.clock import local
from lookup.status import Status

HISTORY: Final = """
SELECT version, kind, occurred_at, recorded_at, source, actor, status, step_status, agency, came_from, department,
       outcome, due_at, note, task, flags, detail
  FROM event
 WHERE code = $1
 ORDER BY version
"""
"""Those of one dossier, oldest first."""


def told(event: Mapping[str, Any]) -> dict[str, Any]:
    """A row of HISTORY as answers have it, times in Vietnam's. Of an erased event what was erased is null or empty."""
    detail: dict[str, Any] = msgspec.json.decode(event["detail"]) if event["detail"] else {}
    source, actor = event["source"], event["actor"]
    officer = None if actor in (None, source) else actor.removeprefix(f"{source}/")
    as_they_are = ("version", "kind", "source", "agency", "came_from", "department", "outcome", "note")
    return {name: event[name] for name in as_they_are} | {
        "at": local(event["occurred_at"]),
        "recorded_at": local(event["recorded_at"]),
        "officer": officer,
        "status": Status(event["step_status"] or event["status"]).slug,
        "due_at": local(event["due_at"]),
        "flags": event["flags"] or [],
        "items": detail.get("items", []),
        "override": detail.get("override"),
        "rules": detail.get("rules", []),
        "corrected": [name for name in (*CORRECTABLE, "applicant") if name in detail and event["kind"] == "corrected"],
        "task": _task(event, detail) if event["kind"] in ("task_opened", "task_ended") else None,
    }


def _task(event: Mapping[str, Any], detail: Mapping[str, Any]) -> dict[str, Any]:
    names = ("agency", "kind", "work", "after", "due_at", "asked_by", "reason")
    state = detail.get("state", "opened" if event["kind"] == "task_opened" else None)
    return {"number": event["task"], "state": state} | {name: detail.get(name) for name in names}

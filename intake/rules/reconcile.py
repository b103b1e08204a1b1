"""What a history or a step from outside means for a dossier that is stored under its code already. No I/O.

Identity is by content, not by the code: another dossier under the same code is never "already here". A step of a
synchronisation sets the status when it is the owner's and its turn; else it is kept, and `why_kept` says why.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from intake.refusals import HistoryDiffers, NumberTaken
from intake.rules.apply import IRREGULAR_MOVE
from intake.rules.changes import State
from lookup.status import Status
from ops.errors import Refusal

LATE: Final = "late"
NOT_OWNER: Final = "not_owner"
AFTER_FINAL: Final = "after_final"


@dataclass(frozen=True, slots=True)
class Step:
    """One status of a history."""

    at: datetime
    status: int
    agency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A dossier as it is stored, or as a line tells it. `agency` is the one that received it."""

    service: str
    service_case: str
    agency: str
    submitted_at: datetime
    person: bytes
    """A digest of applicant and subject that is equal only for the same ones."""
    steps: tuple[Step, ...]
    official_number: str | None = None


class Result(Enum):
    """APPEND what is new, nothing to do, refuse, or keep: append as told late, the status stays."""

    APPEND = auto()
    ALREADY_HERE = auto()
    REFUSE = auto()
    KEEP = auto()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`steps` to append or keep, `number` to bind, `refusal` why not. Only then there is no lookup key for the line."""

    result: Result
    steps: tuple[Step, ...] = ()
    number: str | None = None
    refusal: Refusal | None = None


_IDENTITY: Final = ("service", "service_case", "agency", "submitted_at", "person")


def reconcile(stored: Told, line: Told, *, number_elsewhere: bool = False, strict: bool = True) -> Reconciled:
    """What to do with a line whose code is stored. `number_elsewhere`: its official number is another dossier's.

    A line that begins with all stored steps is appended; one whose steps are all stored is already here. Any other is
    refused when `strict` (an import); else the steps that are not stored are kept. Appended steps go through `apply`.
    """
    differs = [name for name in _IDENTITY if getattr(stored, name) != getattr(line, name)]
    if differs:
        return _refused(f"It differs in {', '.join(differs)}.", differs)
    number = line.official_number if line.official_number != stored.official_number else None
    if number is not None and (number_elsewhere or stored.official_number is not None):
        why = "belongs to another dossier" if number_elsewhere else f"differs from {stored.official_number}"
        return Reconciled(Result.REFUSE, refusal=NumberTaken(f"The official number {number} {why}."))
    known, told = stored.steps, line.steps
    if told[: len(known)] == known:
        new = told[len(known) :]
        return Reconciled(Result.APPEND if new or number else Result.ALREADY_HERE, new, number)
    if known[: len(told)] == told:
        return Reconciled(Result.APPEND if number else Result.ALREADY_HERE, (), number)
    if not strict:
        new = tuple(step for step in told if step not in known)
        return Reconciled(Result.KEEP if new else Result.APPEND if number else Result.ALREADY_HERE, new, number)
    first = next(n for n, (ours, theirs) in enumerate(zip(known, told, strict=False), 1) if ours != theirs)
    return _refused(f"Its step {first} is not the one that is stored.", ["steps"])


def why_kept(
    state: State, source: str, to: Status, *, at: datetime | None = None, source_seq: int | None = None
) -> tuple[str, ...]:
    """Why a step that this source tells is kept and does not set the status, as flags; none: it is applied.

    The owner sets the status, or anyone where there is none. The owner's steps are in the order of `source_seq`;
    without one, and where there is no owner whose sequence it could be, a step is late when it happened before the
    dossier's last step. Nothing follows a final status. What is no allowed move is the owner's to tell.
    """
    if source_seq is None or state.owner is None:
        late = at is not None and at < state.last_at
    else:
        late = state.source_seq is not None and source_seq <= state.source_seq
    strange = state.owner is None and not state.status.final and not state.status.may_become(to)
    flags = {
        LATE: late,
        NOT_OWNER: state.owner not in (None, source),
        AFTER_FINAL: state.status.final,
        IRREGULAR_MOVE: strange,
    }
    return tuple(flag for flag, holds in flags.items() if holds)


def _refused(detail: str, differs: list[str]) -> Reconciled:
    return Reconciled(Result.REFUSE, refusal=HistoryDiffers(detail, differs=differs))

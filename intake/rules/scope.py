"""Which agencies may read or change a dossier, and to which it may be handed. No I/O.

One rule: it is read by the agency that received it, the one that holds it, and those with a task in it, by all above
any of them, each with its successors, and by the client that submitted it. It is moved by the holder's side. What is
the receiving agency's work (hand-over of the result, withdrawal, supplement, re-appointment, correction, a new lookup
key, a paper) is its side's too. All others are answered as for an unknown code.

The sandbox is a world of its own: whatever the tree says, no rule here leads from one of its agencies to another one,
or back.
"""

from collections.abc import Iterable
from datetime import date
from typing import Final

from intake.refusals import TargetNotAllowed, UnknownAgency
from intake.rules.requests import InvalidContent
from lookup.catalogue import Agency, Catalogue, Service, in_force
from lookup.code import agency_of
from lookup.status import Status

OF_THE_ORIGIN: Final = frozenset(
    {
        *(Status.RETURNED, Status.WITHDRAWN, Status.SUPPLEMENT_REQUIRED),
        *("due_changed", "corrected", "key_reissued", "paper_issued"),
    }
)
"""The moves and kinds of events that the receiving agency's side may make of a dossier that another one holds."""


def same_world(catalogue: Catalogue, one: str, other: str) -> bool:
    """Whether both agencies are of the sandbox, or neither is."""
    return catalogue.is_sandbox(one) is catalogue.is_sandbox(other)


def covers(catalogue: Catalogue, scope: str, agency: str) -> bool:
    """Whether a dossier may be received for this agency by a client of this scope: the agency is at or below it."""
    return same_world(catalogue, scope, agency) and catalogue.within(agency, scope)


def side_of(catalogue: Catalogue, agency: str, day: date) -> frozenset[str]:
    """The agency, those above it, the successors of those that have ended by that day, and those above these."""
    side: set[str] = set()
    unseen = [agency]
    while unseen:
        code = unseen.pop()
        known = catalogue.agencies.get(code)
        if code in side or not same_world(catalogue, agency, code):
            continue
        side.add(code)
        if known is not None and known.parent:
            unseen.append(known.parent)
        if known is not None and known.successor and known.valid_to is not None and known.valid_to <= day:
            unseen.append(known.successor)
    return frozenset(side)


def may_read(catalogue: Catalogue, scope: str, day: date, parties: Iterable[str], submitted_here: bool) -> bool:
    """Whether a client of this scope may read a dossier. `parties`: its origin, its holder, the agencies of its tasks.

    `submitted_here`: this client submitted it.
    """
    if submitted_here:
        return all(same_world(catalogue, scope, party) for party in parties)
    return any(scope in side_of(catalogue, party, day) for party in parties)


def may_change(catalogue: Catalogue, scope: str, day: date, holder: str, origin: str, what: Status | str) -> bool:
    """Whether a client of this scope may move the dossier to a status, or append an event of another kind (`what`)."""
    if scope in side_of(catalogue, holder, day):
        return True
    return what in OF_THE_ORIGIN and scope in side_of(catalogue, origin, day)


def moves_by_itself(catalogue: Catalogue, origin: str, submitted_by: str | None) -> bool:
    """Whether it is a dossier of the sandbox's own script, which no client changes: others follow it."""
    return submitted_by is None and catalogue.is_sandbox(origin)


def require_known(catalogue: Catalogue, agency: str, holder: str) -> None:
    """Raises UnknownAgency for one that the catalogue does not have, and for one of the other world than the holder."""
    if agency not in catalogue.agencies or not same_world(catalogue, agency, holder):
        raise UnknownAgency(f"There is no agency {agency}.")


def require_own_number(catalogue: Catalogue, number: str, origin: str) -> None:
    """Raises InvalidContent for an official number, in canonical spelling, of the other world than the dossier.

    One that no agency of the catalogue has issued counts as real: an office may bring it later.
    """
    if same_world(catalogue, catalogue.issuing(agency_of(number)), origin):
        return
    if catalogue.is_sandbox(origin):
        raise InvalidContent(
            f"{number}: a dossier of the sandbox takes only numbers that an agency of the sandbox issues."
        )
    raise InvalidContent(f"{number}: an agency of the sandbox issues it, and this dossier is a real one.")


def require_target(catalogue: Catalogue, holder: str, target: str, day: date, service: Service | None) -> None:
    """Refuse a hand-over to an agency that may not take it that day. Raises TargetNotAllowed, also for an unknown one.

    Back to the agency that received the dossier it always may go: the caller does not ask.
    It is valid that day, under the same root, and of the same or a higher level (its depth in the tree) than the
    holder; or the service's route names it; or it is the successor of a holder that has ended.
    """
    agency = catalogue.agencies.get(target)
    if agency is None or not in_force(agency, day):
        raise TargetNotAllowed(f"{target} is not in force on {day}.")
    if service is not None and any(part.agency == target for part in service.route or ()):
        return
    if catalogue.now_answering(holder, day) == agency:
        return
    ours, theirs = _path(catalogue, holder), _path(catalogue, target)
    if not ours or ours[-1] != theirs[-1]:
        raise TargetNotAllowed(f"{target} does not belong to the same sector as {holder}.")
    if len(theirs) > len(ours):
        raise TargetNotAllowed(f"{target} is of a lower level than {holder}, and the service's route does not name it.")


def _path(catalogue: Catalogue, code: str) -> list[str]:
    """The agency, its parent and so on up to the root; empty for an unknown one."""
    path: list[str] = []
    known: Agency | None = catalogue.agencies.get(code)
    while known is not None and known.code not in path:
        path.append(known.code)
        known = catalogue.agencies.get(known.parent) if known.parent else None
    return path

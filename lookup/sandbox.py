"""The sandbox: agencies that take made-up dossiers only, for developers who try things out.

Its agencies are those of the catalogue with `sandbox`; `hoso24 catalogue load --sandbox` loads the shipped ones, below
the identifier X99. Another identifier is another file: nothing here knows X99. A dossier belongs to the sandbox for
good if such an agency received it (`origin`).

Below the root, `.01` has ten fixed dossiers, one for each status, and of `.02` one starts every hour and moves by
itself (intake/partners/sandbox.py). Whatever counts dossiers or events leaves the sandbox out: in SQL by REAL, in a
program by `Catalogue.is_sandbox`.
"""

from datetime import datetime

from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.code import DossierCode, parse
from lookup.status import Status

REAL = "origin NOT IN (SELECT code FROM agency WHERE sandbox)"
"""Condition on a row of `dossier` or `event`: it is none of the sandbox. For every query that counts."""
OF_REAL_CLIENT = "client NOT IN (SELECT id FROM client WHERE sandbox)"
"""The same for a row that belongs to a client, as a dead letter or a webhook."""
SOURCE = "the sandbox"
"""The source of the events that the sandbox makes itself; with a blank in it, it is no client's."""

FIXED, MOVING, OWN = ".01", ".02", ".03"
"""What follows the root in the code of the agency of the fixed dossiers, of the moving ones, and of developers' own."""

_FIXED_DAY = "260101"


def root(catalogue: Catalogue) -> str | None:
    """The sandbox's agency of level 1; None where the catalogue has none with its three agencies below it."""
    for agency in catalogue.agencies.values():
        below = (agency.code + each for each in (FIXED, MOVING, OWN))
        if agency.sandbox and agency.parent is None and all(catalogue.is_sandbox(each) for each in below):
            return agency.code
    return None


def is_scripted(catalogue: Catalogue, agency: str) -> bool:
    """Whether the dossiers of this agency are the sandbox's own, fixed or moving: no client adds one to them."""
    if not catalogue.is_sandbox(agency):
        return False
    of_root = root(catalogue)
    return of_root is not None and agency in (of_root + FIXED, of_root + MOVING)


def fixed(of_root: str, status: Status) -> DossierCode:
    """The code of the dossier that stays in this status: `X99.01-260101-0004` is number 4, being processed."""
    return parse(f"{of_root}{FIXED}-{_FIXED_DAY}-{status.value:04d}")


def moving(of_root: str, now: datetime) -> DossierCode:
    """The code of the dossier of this hour: `X99.02-261201-0900` from nine to ten o'clock in Vietnam."""
    return parse(f"{of_root}{MOVING}-{now.astimezone(VIETNAM):%y%m%d-%H}00")

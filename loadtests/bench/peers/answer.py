"""What the peers that read a database share: one query, the anonymous view as JSON, the key it is cached under.

The table of statuses stands here once more because nothing of the service may be imported; before anything is
measured every peer's answers are compared with the service's own.
"""

from typing import Any, NamedTuple

import msgspec

FIND = """
SELECT code, version, status
  FROM dossier
 WHERE code = $1 AND NOT removed
"""

SECONDS_KEPT = 60


class PeerStatus(NamedTuple):
    """A national status as the anonymous view describes it, of a dossier that has been processed: as all computed ones.

    Others have come less far in some statuses, which a peer would have to read the timeline for.
    """

    slug: str
    final: bool
    completion: float


STATUSES = {
    1: PeerStatus("submitted", False, 0.1),
    2: PeerStatus("received", False, 0.5),
    3: PeerStatus("rejected", True, 1.0),
    4: PeerStatus("processing", False, 0.5),
    5: PeerStatus("supplement_required", False, 0.5),
    6: PeerStatus("payment_required", False, 0.5),
    7: PeerStatus("withdrawn", True, 1.0),
    8: PeerStatus("suspended", False, 0.5),
    9: PeerStatus("completed", False, 0.9),
    10: PeerStatus("returned", True, 1.0),
}


class View(msgspec.Struct):
    """What anyone who has the code may see."""

    code: str
    status: str
    status_number: int
    final: bool
    completion: float
    version: int


_encode = msgspec.json.Encoder().encode


def answer(row: Any) -> bytes:
    """The JSON for a row of FIND."""
    slug, final, completion = STATUSES[row["status"]]
    return _encode(View(row["code"], slug, row["status"], final, completion, row["version"]))


def entry(row: Any) -> tuple[str, bytes]:
    """A finished answer as Redis holds it: its key and its JSON."""
    return key(row["code"]), answer(row)


def key(code: str) -> str:
    """Where Redis holds a peer's finished answer."""
    return f"answer:{code}"

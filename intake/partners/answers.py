"""What a synchronisation is answered: a line for each line, and the summary last."""

from typing import Literal

import msgspec

Outcome = Literal["applied", "created", "duplicate", "kept", "rejected", "not_done"]


class LineAnswer(msgspec.Struct, omit_defaults=True):
    """What became of a line. `code` and `detail`: why it was rejected, or not done."""

    line: int
    id: str | None = None
    result: Outcome | None = None
    dossier: str | None = None
    version: int | None = None
    lookup_key: str | None = None
    flags: list[str] | None = None
    code: str | None = None
    detail: str | None = None


class Summary(msgspec.Struct):
    """How many lines had which result."""

    applied: int = 0
    created: int = 0
    duplicate: int = 0
    kept: int = 0
    rejected: int = 0
    not_done: int = 0


class SyncEnd(msgspec.Struct, omit_defaults=True):
    """The last line of an answer. Not `complete`: send what was not done again, after `retry_after` seconds."""

    summary: Summary
    complete: bool
    retry_after: int | None = None

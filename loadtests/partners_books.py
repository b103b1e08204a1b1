"""What a partner knows by what it is told alone. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class PartnersBooks:
    """What a partner has been told: of each dossier the epoch and version, and when that was recorded."""

    versions: dict[str, tuple[int, int]] = field(default_factory=dict)
    recorded: dict[str, datetime] = field(default_factory=dict)
    epoch: int = 0
    """The newest."""
    events: int = 0
    again: int = 0
    """Of the events those that were told before."""
    whole: bool = True
    """Whether it was told from each dossier's first version on; else one that was not told of may have any."""
    restores: int = 0
    """How often dossiers were read again after a restore."""

    def take(self, event: Mapping[str, Any]) -> str:
        """Note an event down; what is wrong with it, or nothing."""
        code, data = str(event["subject"]), event["data"]
        told, had = (int(data["epoch"]), int(data["version"])), self.versions.get(code, (0, 0))
        self.events += 1
        self.epoch = max(self.epoch, told[0])
        if told <= had:
            self.again += 1
            return ""
        self.versions[code], self.recorded[code] = told, datetime.fromisoformat(event["time"])
        missing = told[1] > had[1] + 1 and (self.whole or had[1] > 0)
        return f"told of {code} at version {told[1]} after {had[1]}" if missing else ""

    def correct(self, code: str, had: tuple[int, int], version: int) -> None:
        """A dossier was read again: it is at this version, 0 for none. What was told meanwhile is newer."""
        if self.versions.get(code) != had:
            return
        if version:
            self.versions[code] = had[0], version
        else:
            del self.versions[code]

"""Planned maintenance as it is announced: what, when, and which parts of the service it touches. No I/O.

Decree 224/2026 art. 13 asks for seven working days' notice with the time at which the service is to be back. Intake
keeps to the calendar (intake/maintenance.py); here is what both sides call things.
"""

from datetime import datetime
from enum import Enum

import msgspec


class Part(Enum):
    """What can be out of order by itself, as a citizen would tell it apart."""

    LOOKUP = "lookup"
    """Looking dossiers up."""
    INTAKE = "intake"
    """Handing dossiers in, and moving them on."""
    UPDATES = "updates"
    """How soon a change is seen by those who look up."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One announced maintenance. Times are in UTC; `shown_from`: when the lookup form begins to carry it."""

    number: int
    starts_at: datetime
    ends_at: datetime
    shown_from: datetime
    affects: tuple[Part, ...]
    text_vi: str
    text_en: str
    announced_at: datetime

    def text(self, lang: str) -> str:
        """What is going to be done, in the words of whoever announced it."""
        return self.text_vi if lang == "vi" else self.text_en

    def over(self, now: datetime) -> bool:
        """Whether it should have ended by now."""
        return now >= self.ends_at

    def running(self, now: datetime) -> bool:
        """Whether it is under way now, as announced."""
        return self.starts_at <= now < self.ends_at

"""An announced maintenance: what, when, and which parts of the service it affects. No I/O.

Decree 224/2026 art. 13 requires seven working days' notice and the time at which the service will be back. Intake
checks that (intake/maintenance.py); this module holds the types both processes use.
"""

from datetime import datetime
from enum import Enum

import msgspec


class Part(Enum):
    """A part of the service that can fail by itself, as a citizen sees it."""

    LOOKUP = "lookup"
    """Looking dossiers up."""
    INTAKE = "intake"
    """Submitting dossiers, and moving them to the next status."""
    UPDATES = "updates"
    """How soon a change appears in lookups."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One announced maintenance. Times are in UTC; `shown_from`: when the lookup form starts to show it."""

    number: int
    starts_at: datetime
    ends_at: datetime
    shown_from: datetime
    affects: tuple[Part, ...]
    text_vi: str
    text_en: str
    announced_at: datetime

    def text(self, lang: str) -> str:
        """The announcement's text in that language, "vi" or "en"."""
        return self.text_vi if lang == "vi" else self.text_en

    def over(self, now: datetime) -> bool:
        """Whether its announced end has passed."""
        return now >= self.ends_at

    def running(self, now: datetime) -> bool:
        """Whether `now` is in the announced time."""
        return self.starts_at <= now < self.ends_at

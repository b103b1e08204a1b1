"""Which dossiers people ask for, and how they spell them. No I/O."""

import random
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loadtests.answers import Shown, Wrong

_FULL_WIDTH = {character: character + 0xFEE0 for character in range(0x21, 0x7F)}

MISTYPED = (
    "G99.01.01-261340-0001",
    "G99.01.01-26100",
    "12345",
    "hồ sơ của tôi",
    "G99.01.01-261008-0975-0976",
    "01234/1889/99901",
)
"""What no spelling of any code can be."""


@dataclass
class Dossier:
    """A dossier that the load test knows of; `version` 0 when another program made it."""

    code: str
    key: str
    status: str
    version: int = 0
    number: str | None = None
    accepted: bool = True
    """Whether it has a receipt, and not only a confirmation."""

    @classmethod
    def taken_in(cls, receipt: Mapping[str, Any]) -> "Dossier":
        """A new one, by the intake's answer."""
        told = (receipt["code"], receipt["lookup_key"], receipt["status"], receipt["version"])
        return cls(*told, accepted="receipt" in receipt)

    @property
    def path(self) -> str:
        """The code as it stands in a URL."""
        return address(self.code)


def address(code: str) -> str:
    """A code or official number as it stands in a URL."""
    return code.replace("/", "-")


ZIPF = 2 / 3
"""The exponent of the distribution people's questions have over dossiers, newest first: Zipf-like, as the requests to
web caches were found to be, with exponents from 0.64 to 0.83 (Breslau and others, "Web Caching and Zipf-like
Distributions", INFOCOM 1999). Rank is recency, since people ask between handing in and collecting, and hardly after."""


class Shelf:
    """The dossiers people ask for, newest last. Bounded: the oldest leave when it is full."""

    def __init__(self, dossiers: Iterable[Dossier] = (), *, room: int = 50_000) -> None:
        self._dossiers = deque(dossiers, maxlen=room)

    def __len__(self) -> int:
        return len(self._dossiers)

    def put(self, dossier: Dossier) -> None:
        """Add the newest."""
        self._dossiers.append(dossier)

    def __iter__(self) -> Iterator[Dossier]:
        return iter(self._dossiers)

    def forget(self, codes: Collection[str]) -> None:
        """These are not asked for any more."""
        kept = [dossier for dossier in self._dossiers if dossier.code not in codes]
        self._dossiers.clear()
        self._dossiers.extend(kept)

    def pick(self) -> Dossier:
        """One to ask for: half the time one of the newest eighth, and any at times (ZIPF).

        The k-th newest of n is asked for in proportion to k to the power of -ZIPF, so that the newest k have (k/n) to
        the power of 1-ZIPF of all questions; this is that turned round.
        """
        return self._dossiers[-1 - int(len(self._dossiers) * random.random() ** (1 / (1 - ZIPF)))]


class ShownVersions:
    """The versions one visitor has been shown, so that going back in time is noticed. Bounded."""

    def __init__(self, *, room: int = 1000) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._room = room

    def note(self, shown: Shown) -> Shown:
        """Remember what was shown. Raises Wrong for an unmarked version older than one shown before."""
        before = self._versions.get(shown.code, 0)
        if shown.version < before and not shown.stale:
            raise Wrong("the version went backwards", f"{shown.code}: {before}, then {shown.version}")
        self._versions[shown.code] = max(before, shown.version)
        self._versions.move_to_end(shown.code)
        if len(self._versions) > self._room:
            self._versions.popitem(last=False)
        return shown


def spelled(code: str) -> str:
    """The code as one person or another types it."""
    return random.choice(_SPELLINGS)(code)


def unknown() -> str:
    """A well-formed code that was never issued: no catalogue has the agency Z99.99.99."""
    day = f"{random.randint(20, 29)}{random.randint(1, 12):02d}{random.randint(1, 28):02d}"
    return f"Z99.99.99-{day}-{random.randint(1, 9999):04d}"


def new_number() -> str:
    """An official number that is almost certainly free, as a desk writes it."""
    return f"{random.randint(1_000_000, 9_999_999)}/{random.randint(2000, 2099)}/99901"


def _letter_o(code: str) -> str:
    agency, dash, digits = code.partition("-")
    return agency + dash + digits.replace("0", "O")


_SPELLINGS = (
    str,
    str,
    str.lower,
    lambda code: f"  {code} ",
    lambda code: code.replace("-", " "),
    lambda code: code.replace("-", " – "),
    lambda code: code.translate(_FULL_WIDTH),
    _letter_o,
)

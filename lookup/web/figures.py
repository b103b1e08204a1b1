"""The public figures as they are shown: rows that are large enough to say nothing of one person.

A service with fewer than ENOUGH dossiers in a table is merged with the smallest others of it until their row has that
many and comes of two services; else the difference between the total and the other rows would tell it. What is too
little even together is not shown. Each table is merged for itself: who keeps tables of two days can still subtract
them.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Annotated, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec

Channel = Literal["direct", "online", "postal"]

ENOUGH: Final = 5
"""Dossiers in a row that is shown."""

CHANNELS: Final[tuple[Channel, ...]] = ("direct", "online", "postal")
STOCKS: Final = ("in_process", "overdue", "paused")
SCORES: Final = {"rated_1": 1, "rated_2": 2, "rated_3": 3}

Number = Annotated[int, msgspec.Meta(ge=0)]


class Flow(msgspec.Struct, frozen=True):
    """What was received, finished and put off in one month, or since the beginning of the year.

    `early`, `on_time` and `late` compare the day on which the work ended with the promised day; `undated` were promised
    none. `on_time_share`: of those with a promised day the part that was finished by it, 0 to 1; null for none.
    `supplement` counts requests for supplements, `put_off` new promised days.
    """

    received: dict[Channel, Number]
    early: Number
    on_time: Number
    late: Number
    undated: Number
    refused: Number
    withdrawn: Number
    supplement: Number
    put_off: Number
    on_time_share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None

    @property
    def size(self) -> int:
        """How many different dossiers it speaks of, at least."""
        return max(sum(self.received.values()), self.resolved + self.refused + self.withdrawn)

    @property
    def resolved(self) -> int:
        """How many were finished with a result."""
        return self.early + self.on_time + self.late + self.undated


class Stock(msgspec.Struct, frozen=True):
    """What is in hand; `overdue` are among those in process."""

    in_process: Number
    overdue: Number
    paused: Number

    @property
    def size(self) -> int:
        """How many dossiers it speaks of."""
        return self.in_process + self.paused


class FlowRow(msgspec.Struct, frozen=True):
    """`of`: the service or agency by its code; several were merged. `figures`: null where they are too few to show."""

    of: list[str]
    figures: Flow | None


class StockRow(msgspec.Struct, frozen=True):
    """As FlowRow, of what is in hand."""

    of: list[str]
    figures: Stock | None


class Cell(NamedTuple):
    """A figure as it is stored, of one service or agency: `month` is its first day."""

    of: str
    month: date
    channel: str
    measure: str
    n: int


class Sized(Protocol):
    """Figures of a row."""

    @property
    def size(self) -> int:
        """How many dossiers they speak of."""
        ...


C = TypeVar("C")
S = TypeVar("S", bound=Sized)


def flow_rows(cells: Iterable[Cell], since: date, until: date) -> list[FlowRow]:
    """The rows of the months from `since` to `until`, both first days and included; the largest first."""
    of: dict[str, dict[tuple[str, str], int]] = {}
    for each in cells:
        if since <= each.month <= until and each.measure not in STOCKS:
            counts = of.setdefault(each.of, {})
            key = each.measure, each.channel if each.measure == "received" else ""
            counts[key] = counts.get(key, 0) + each.n
    counted = {code: counts for code, counts in of.items() if any(counts.values())}
    return [FlowRow(list(codes), figures) for codes, figures in merged(counted, flow)]


def stock_rows(cells: Iterable[Cell]) -> list[StockRow]:
    """The rows of what is in hand; the largest first."""
    of: dict[str, dict[str, int]] = {}
    for each in cells:
        if each.measure in STOCKS:
            counts = of.setdefault(each.of, {})
            counts[each.measure] = counts.get(each.measure, 0) + each.n
    return [StockRow(list(codes), figures) for codes, figures in merged(of, stock)]


def flow(*counts: Mapping[tuple[str, str], int]) -> Flow:
    """The sum of these counts by measure and, of those received, channel."""

    def total(measure: str, channel: str = "") -> int:
        return sum(each.get((measure, channel), 0) for each in counts)

    early, on_time, late = (total(each) for each in ("early", "on_time", "late"))
    dated = early + on_time + late
    return Flow(
        received={channel: total("received", channel) for channel in CHANNELS},
        early=early,
        on_time=on_time,
        late=late,
        undated=total("undated"),
        refused=total("refused"),
        withdrawn=total("withdrawn"),
        supplement=total("supplement"),
        put_off=total("put_off"),
        on_time_share=round((early + on_time) / dated, 4) if dated else None,
    )


def stock(*counts: Mapping[str, int]) -> Stock:
    """The sum of these counts by measure."""
    return Stock(*(sum(each.get(measure, 0) for each in counts) for measure in STOCKS))


def merged(counts: Mapping[str, C], added: Callable[..., S]) -> list[tuple[tuple[str, ...], S | None]]:
    """Which rows are shown together, and their figures: the largest first and the merged ones last.

    `added` makes the figures of one or several rows' counts.
    """
    size = {code: added(each).size for code, each in counts.items()}
    others = sorted(counts, key=lambda code: (size[code], code))
    together: list[str] = []

    def figures() -> S:
        return added(*(counts[code] for code in together))

    # Of the sum, not the sum of sizes: one row's dossiers may count where they came in, another's where they ended.
    while others and (size[others[0]] < ENOUGH or (together and (len(together) < 2 or figures().size < ENOUGH))):
        together.append(others.pop(0))
    alone: list[tuple[tuple[str, ...], S | None]] = [((code,), added(counts[code])) for code in reversed(others)]
    if not together:
        return alone
    return [*alone, (tuple(sorted(together)), figures() if figures().size >= ENOUGH else None)]

"""The cases, in the order in which they are run: each a module with `TITLE`, `seconds` and `measure`.

To add one, write a module and name it here. `measure` gets the rig and returns an CaseOutcome; whether it uses
`side_by_side` is its own affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtests.bench.cases import cold, crowd, gate, hot, memory, observability, overload, pages, visible, warm
from loadtests.bench.rig import CaseOutcome, Rig


@dataclass(frozen=True)
class Case:
    """`seconds` says from the rig's sizes how long it takes, roughly."""

    title: str
    seconds: Callable[[Rig], float]
    measure: Callable[[Rig], CaseOutcome]


CASES: Mapping[str, Case] = {
    name: Case(module.TITLE, module.seconds, module.measure)
    for name, module in (
        ("hot", hot),
        ("warm", warm),
        ("cold", cold),
        ("gate", gate),
        ("pages", pages),
        ("crowd", crowd),
        ("overload", overload),
        ("visible", visible),
        ("memory", memory),
        ("observability", observability),
    )
}

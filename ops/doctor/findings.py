"""Runs checks concurrently, each with a timeout, and shows their findings, the worst first.

An unreachable server is reported like any other problem; the checks that needed it are listed in one finding.
"""

import asyncio
import enum
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from ops.errors import Unavailable
from ops.settings import masked

DEADLINE = 8.0
"""Timeout of one check, in seconds. Checks run concurrently, so together they take no longer."""

SERVER_DEADLINE = 2.5
"""Timeout of one answer of a server, in seconds; well below a check's."""
NOT_EXAMINED = "not examined"


class Verdict(enum.IntEnum):
    """The severity of a finding. The worst one is the exit status of `hoso24 doctor`."""

    OK = 0
    WARNING = 1
    """It works, but another failure, or time, will break it."""
    WRONG = 2
    """Something does not work, or breaks a promise of the service."""


class Finding(NamedTuple):
    """A result of a check. `next_step`: one sentence, with the command; empty when there is nothing to do."""

    check: str
    verdict: Verdict
    found: str
    next_step: str = ""


class Check(NamedTuple):
    """A check. `ask` returns its findings, and raises Unavailable when a server does not answer."""

    name: str
    ask: Callable[[], Awaitable[Iterable[Finding]]]


async def examine(checks: Sequence[Check], deadline: float = DEADLINE) -> list[Finding]:
    """The findings of all checks, the worst first. Ends within `deadline` seconds; never raises."""
    tasks = [asyncio.create_task(_asked(check), name=check.name) for check in checks]
    if tasks:
        await asyncio.wait(tasks, timeout=deadline)
    findings: list[Finding] = []
    away: defaultdict[str, list[str]] = defaultdict(list)
    for task in tasks:
        if not task.done():
            task.cancel()
            findings.append(_late(task.get_name(), deadline))
        elif isinstance(result := task.result(), Unavailable):
            away[result.detail].append(task.get_name())
        else:
            findings += result
    findings += [_skipped(names, why) for why, names in away.items()]
    return worst_first(findings)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by severity, the worst first; equally severe findings keep their order."""
    return sorted(findings, key=lambda finding: -finding.verdict)


def exit_status(findings: Iterable[Finding]) -> int:
    """0 when all is well, 1 with warnings, 2 when something is wrong."""
    return int(max((finding.verdict for finding in findings), default=Verdict.OK))


def show(findings: Iterable[Finding], console: Console) -> None:
    """Print each finding on a line, in their order, and below it what to do next.

    No line is broken: a command that is copied, also out of a file or a narrow window, is whole.
    """
    for finding in findings:
        verdict = (f"{finding.verdict.name.lower():<8}", _STYLES[finding.verdict])
        console.print(Text.assemble(verdict, (f"{finding.check}: ", "bold"), finding.found), soft_wrap=True)
        if finding.next_step:
            console.print(Text(f"        → {finding.next_step}"), soft_wrap=True)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as JSON: `verdict` is the worst one, `next_step` null when there is nothing to do."""
    document: dict[str, Any] = {
        "verdict": Verdict(exit_status(findings)).name.lower(),
        "findings": [
            {
                "check": finding.check,
                "verdict": finding.verdict.name.lower(),
                "found": finding.found,
                "next_step": finding.next_step or None,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def reason(error: BaseException) -> str:
    """Why a server is unreachable, as its cause states it, without passwords."""
    if isinstance(error, Unavailable) and error.reason:
        return masked(error.reason).partition("\n")[0][:160]
    cause = error.__cause__ or error
    words = masked(str(cause)).partition("\n")[0][:160]
    return f"{type(cause).__name__}: {words}".rstrip(": ")


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "bold yellow", Verdict.WRONG: "bold red"}


async def _asked(check: Check) -> list[Finding] | Unavailable:
    try:
        return list(await check.ask())
    except Unavailable as away:
        return away
    except Exception as error:
        step = "Run it again; if it fails again, report it with the version of this release."
        return [Finding(check.name, Verdict.WRONG, f"the check itself failed: {reason(error)}", step)]


def _late(name: str, deadline: float) -> Finding:
    step = "Check whether that server hangs: its log, its processor, its disk."
    return Finding(name, Verdict.WRONG, f"no answer within {deadline:g} s", step)


def _skipped(names: Iterable[str], why: str) -> Finding:
    step = "Correct the finding about that server, then run it again."
    return Finding(NOT_EXAMINED, Verdict.WRONG, f"{', '.join(names)}: {why}", step)

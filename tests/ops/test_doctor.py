"""Checks side by side: one that hangs, fails or finds no server is a finding, and keeps no other from running."""

import asyncio
import io
import json
from datetime import date

import pytest
from rich.console import Console

from ops.doctor.findings import NOT_EXAMINED, Check, Finding, Verdict, as_json, examine, exit_status, reason, show
from ops.doctor.settings_checks import second_copy
from ops.errors import Unavailable

FINE = Finding("one", Verdict.OK, "fine")
DOUBTFUL = Finding("two", Verdict.WARNING, "doubtful", "Look at it.")
BROKEN = Finding("three", Verdict.WRONG, "broken", "Run `mend`.")


def check(*findings: Finding, name: str = "check") -> Check:
    async def ask() -> list[Finding]:
        return list(findings)

    return Check(name, ask)


def away(name: str, why: str) -> Check:
    async def ask() -> list[Finding]:
        raise Unavailable(why)

    return Check(name, ask)


async def test_worst_comes_first() -> None:
    assert await examine([check(FINE), check(DOUBTFUL, BROKEN)]) == [BROKEN, DOUBTFUL, FINE]


async def test_one_that_hangs_is_a_finding_and_holds_up_no_other() -> None:
    ended = asyncio.Event()

    async def hang() -> list[Finding]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    first, *rest = await examine([Check("slow", hang), check(FINE)], deadline=0.05)
    assert (first.check, first.verdict, first.found) == ("slow", Verdict.WRONG, "no answer within 0.05 s")
    assert rest == [FINE]
    async with asyncio.timeout(5):
        await ended.wait()  # it was cancelled, not left behind


async def test_those_who_missed_the_same_server_are_named_in_one_line() -> None:
    checks = [away("grants", "no database"), away("roles", "no database"), away("stream", "no cache")]
    findings = await examine(checks)
    assert [(each.check, each.found) for each in findings] == [
        (NOT_EXAMINED, "grants, roles: no database"),
        (NOT_EXAMINED, "stream: no cache"),
    ]
    assert exit_status(findings) == 2


async def test_check_that_fails_is_a_finding_without_a_password() -> None:
    async def fail() -> list[Finding]:
        raise RuntimeError("postgresql://reader:secret@db/hoso24 said nothing")

    (finding,) = await examine([Check("odd", fail)])
    assert finding.verdict is Verdict.WRONG
    assert "RuntimeError" in finding.found
    assert "secret" not in finding.found


def test_exit_status_is_the_worst_verdict() -> None:
    assert exit_status([]) == exit_status([FINE]) == 0
    assert exit_status([FINE, DOUBTFUL]) == 1
    assert exit_status([DOUBTFUL, BROKEN, FINE]) == 2


def test_reason_is_that_of_whoever_caused_it() -> None:
    error = Unavailable("postgres cannot be reached now.")
    error.__cause__ = OSError("redis://:hidden@here is shut")
    assert reason(error) == "OSError: redis://:***@here is shut"


def test_programs_get_the_verdict_and_every_finding() -> None:
    document = json.loads(as_json([DOUBTFUL, FINE]))
    assert document["verdict"] == "warning"
    assert document["findings"] == [
        {"check": "two", "verdict": "warning", "found": "doubtful", "next_step": "Look at it."},
        {"check": "one", "verdict": "ok", "found": "fine", "next_step": None},
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_people_get_lines_that_take_brackets_as_they_are_and_break_no_command(terminal: bool) -> None:
    screen = io.StringIO()
    command = f"Run `mend {'--again ' * 30}now`."
    findings = [BROKEN, Finding("four", Verdict.WARNING, "[red]as it is[/red]", command)]
    show(findings, Console(file=screen, width=40, force_terminal=terminal, color_system=None))
    assert screen.getvalue().splitlines() == [
        "wrong   three: broken",
        "        → Run `mend`.",
        "warning four: [red]as it is[/red]",
        f"        → {command}",
    ]


@pytest.mark.parametrize(
    ("environ", "verdict", "found"),
    [
        (
            {"HOSO24_KEY_FILE": "/key"},
            Verdict.WARNING,
            "a lost HOSO24_KEY is lost for good",
        ),
        ({"HOSO24_SECRETS_BACKED_UP_ON": "2026-11-30"}, Verdict.OK, "declared of 2026-11-30"),
        ({"HOSO24_SECRETS_BACKED_UP_ON": "2025-11-29"}, Verdict.OK, "declared of 2025-11-29"),
        ({"HOSO24_SECRETS_BACKED_UP_ON": "2025-11-28"}, Verdict.WARNING, "of 2025-11-28, which is no day of the last"),
        ({"HOSO24_SECRETS_BACKED_UP_ON": "2026-12-01"}, Verdict.WARNING, "of 2026-12-01, which is no day of the last"),
        (
            {"HOSO24_SECRETS_BACKED_UP_ON": "soon"},
            Verdict.WARNING,
            "expected a day, as 2026-11-30",
        ),
    ],
)
def test_second_copy_of_the_secrets_is_declared_and_of_the_last_year(
    environ: dict[str, str], verdict: Verdict, found: str
) -> None:
    (finding,) = second_copy(environ, ("HOSO24_KEY", "HOSO24_OTHER"), date(2026, 11, 30))
    assert finding.verdict is verdict
    assert found in finding.found
    assert verdict is Verdict.OK or "docs/runbooks/secrets.md" in finding.next_step


def test_no_second_copy_is_asked_for_where_no_secret_is_in_a_file() -> None:
    assert second_copy({"HOSO24_KEY": "1:00", "HOSO24_PG_FILE": "/url"}, ("HOSO24_KEY",), date(2026, 11, 30)) == []

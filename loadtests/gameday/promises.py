"""The promises that one fault after the other is judged by."""

from collections import Counter

from loadtests.gameday.day import Timed
from loadtests.gameday.record import ACKNOWLEDGED, CHANGES, FAILED, LOOKUPS, TOLD, Window
from loadtests.verdict import Row

REASONS = 3
"""Of those that failed, so many reasons are told."""


def none_failed(window: Window) -> Row:
    """Every lookup got an answer, and none that contradicts what is expected."""
    asked = _lookups(window)
    return Row(
        "lookups",
        f"{window.failed} of {asked:,} failed{_why(window)}; {window.stale} marked stale, {window.retried} asked twice",
        "0 failed",
        kept=asked > 0 and window.failed == 0,
    )


def nothing_wrong(window: Window) -> Row:
    """No answer contradicts what is expected: no older version unmarked, nothing that was never so, no false 404."""
    wrong = [seen for seen in window if seen.outcome == "wrong"]
    return Row(
        "truth",
        f"{len(wrong)} of {window.total:,} answers contradict what is expected"
        f"{_told(Counter(seen.why for seen in wrong))}",
        "0",
        kept=window.total > 0 and not wrong,
    )


def quick(window: Window, share: float, seconds: float) -> Timed:
    """That share of all lookups was answered within so many seconds, unavailable ones included."""
    seen = window.quantile(share)
    return Timed(
        f"p{share * 100:g}",
        f"{seen * 1000:.0f} ms, longest {window.longest * 1000:.0f} ms{_own(window)}",
        f"under {seconds * 1000:g} ms",
        kept=seen < seconds,
    )


def none_longer(window: Window, seconds: float) -> Timed:
    """No lookup took longer than that."""
    return Timed(
        "longest",
        f"{window.longest * 1000:.0f} ms, p99 {window.quantile(0.99) * 1000:.0f} ms{_own(window)}",
        f"at most {seconds * 1000:g} ms",
        kept=_lookups(window) > 0 and window.longest <= seconds,
    )


def within(what: str, took: float, seconds: float) -> Timed:
    """Something that happened took no longer than so many seconds."""
    return Timed(what, f"{took:.2f} s", f"within {seconds:g} s", kept=took <= seconds)


def changes_acknowledged(window: Window) -> Row:
    """Every change that was answered or given up was acknowledged in the end, at once or by a repeat under its key."""
    made = [seen for seen in window if seen.kind in CHANGES]
    lost = [seen for seen in made if seen.outcome not in ACKNOWLEDGED]
    repeated = [seen for seen in made if seen.outcome == "refused"]
    return Row(
        "changes",
        f"{len(made) - len(lost):,} of {len(made):,} acknowledged, {len(repeated)} of them by a repeat"
        f"{_told(Counter(seen.why for seen in lost or repeated))}",
        "all",
        kept=bool(made) and not lost,
    )


def _lookups(window: Window) -> int:
    return window.total - window.of_kind(*CHANGES, *TOLD)


def _own(window: Window) -> str:
    """What of it may be the load's own."""
    return f" (the load itself was late by up to {window.lag * 1000:.0f} ms)"


def _why(window: Window) -> str:
    """The most frequent reasons of those that failed, and when, in seconds after the window began."""
    failed = [seen for seen in window if seen.kind in LOOKUPS and seen.outcome in FAILED]
    if not failed:
        return ""
    first, last = failed[0].at - window.began, failed[-1].at - window.began
    return f"{_told(Counter(seen.why for seen in failed))} from {first:.1f} to {last:.1f} s on"


def _told(reasons: Counter[str]) -> str:
    """The most frequent reasons, in brackets."""
    told = "; ".join(f"{why}: {count}" for why, count in reasons.most_common(REASONS))
    return f" ({told})" if told else ""

"""What early answers leave behind: counts, durations, ages, and lines in the access log."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from lookup.web import tally
from lookup.web.tally import Tally
from ops.http.access import SLOW

NOW = 1000.0
ROUTE = "/api/v1/dossiers/{code}"
CODE = "G99.01.01-261120-0001"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Counts one answer that began `ago` seconds ago. Returns what it left in the metrics, and its log lines."""
    monkeypatch.setattr(tally, "perf_counter", lambda: NOW)
    caplog.set_level("INFO", logger="hoso24.access")
    message = SimpleNamespace(method="GET", path=f"/api/v1/dossiers/{CODE}", headers={})
    connection = SimpleNamespace(peer="192.0.2.7")

    def count(status: int, ago: float = 0.0, outcome: str = "found", age: int | None = None, **more: Any) -> Any:
        own = Tally(more.pop("log_share", 0.0), lambda _: False)
        names = {
            "requests": ("hoso24_http_requests_total", {"method": "GET", "route": ROUTE, "status": str(status)}),
            "timed": ("hoso24_http_request_seconds_count", {"route": ROUTE}),
            "seconds": ("hoso24_http_request_seconds_sum", {"route": ROUTE}),
            "lookups": ("lookup_answers_total", {"source": "memory", "outcome": "found"}),
            "aged": ("lookup_answer_age_seconds_count", {}),
            "age": ("lookup_answer_age_seconds_sum", {}),
        }

        def read() -> dict[str, float]:
            return {
                key: REGISTRY.get_sample_value(name, labels | ({"service": "lookup"} if "route" in labels else {})) or 0
                for key, (name, labels) in names.items()
            }

        before = read()
        own.count(ROUTE, CODE, message, connection, b"desk-7", NOW - ago, status, "memory", outcome, age, **more)  # type: ignore[arg-type]
        assert read() == before, "before the flush nothing is added"
        own.flush()
        own.flush()
        return {key: round(value - before[key], 6) for key, value in read().items()}, caplog.messages

    return count


def test_answer_is_counted_timed_and_aged_once(counted: Any) -> None:
    left, lines = counted(200, ago=0.25, age=3_000_000)
    assert left == {"requests": 1, "timed": 1, "seconds": 0.25, "lookups": 1, "aged": 1, "age": 3}
    assert lines == []


def test_answer_counted_as_a_lookup_before_is_a_request_only(counted: Any) -> None:
    left, _ = counted(200, outcome="", age=3_000_000)
    assert left == {"requests": 1, "timed": 1, "seconds": 0, "lookups": 0, "aged": 0, "age": 0}


@pytest.mark.parametrize(("status", "timed"), [(404, 1), (429, 0), (499, 0), (500, 1), (503, 0)])
def test_refusal_and_client_that_left_are_not_timed(counted: Any, status: int, timed: int) -> None:
    assert counted(status)[0]["timed"] == timed


@pytest.mark.parametrize(
    ("status", "ago", "share", "line"),
    [
        (200, SLOW - 0.001, 0.0, False),
        (200, SLOW, 0.0, True),
        (200, 0.0, 1.0, True),
        (499, 0.0, 0.0, False),
        (500, 0.0, 0.0, True),
        (503, 0.0, 0.0, True),
    ],
)
def test_line_is_written_for_what_is_slow_failed_or_drawn(
    counted: Any, caplog: pytest.LogCaptureFixture, status: int, ago: float, share: float, line: bool
) -> None:
    _, lines = counted(status, ago=ago, log_share=share)
    assert bool(lines) is line
    for record in caplog.records:
        assert record.getMessage() == f"GET {ROUTE} {status}"
        said = vars(record)
        assert (said["request_id"], said["seconds"], said["status"]) == ("desk-7", ago, status)
        assert len(said["trace_id"]) == 32
        assert CODE not in str(said)

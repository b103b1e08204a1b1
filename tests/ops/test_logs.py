"""Log lines are JSON, know their request, hold no query, and do not wait for their reader."""

import contextlib
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client import REGISTRY

from ops.observe import logs

log = logging.getLogger("sample")


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def root_logger() -> Iterator[None]:
    with _restored():
        yield


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@contextlib.contextmanager
def captured() -> Iterator[Lines]:
    """Logs as a service writes them; what is yielded reads the lines so far."""
    with _restored():
        stream = io.StringIO()
        handler = logs.configure("sample", "info", stream)

        def read() -> list[dict[str, Any]]:
            handler.flush()
            return [json.loads(line) for line in stream.getvalue().splitlines()]

        yield read
        handler.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    with captured() as read:
        yield read


def test_line_has_the_usual_fields_and_the_extra_ones(lines: Lines) -> None:
    log.warning("Slow by %d.", 3, extra={"route": "/x/{code}", "seconds": 0.25, "service": "forged"})
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "sample",
        "message": "Slow by 3.",
        "service": "sample",
        "route": "/x/{code}",
        "seconds": 0.25,
    }


def test_line_knows_its_request_and_its_trace(lines: Lines) -> None:
    context = SpanContext(trace_id=0xABC, span_id=1, is_remote=False, trace_flags=TraceFlags(1))
    token = logs.request_id.set("r-1")
    try:
        with use_span(NonRecordingSpan(context)):
            log.info("Inside.")
    finally:
        logs.request_id.reset(token)
    log.info("Outside.")
    inside, outside = lines()
    assert inside["request_id"] == "r-1"
    assert inside["trace_id"] == f"{0xABC:032x}"
    assert "request_id" not in outside
    assert "trace_id" not in outside


def test_exception_is_one_field_and_keeps_its_traceback(lines: Lines) -> None:
    try:
        raise RuntimeError("broken at /x?key=HUSH")
    except RuntimeError:
        log.exception("Failed.")
    (line,) = lines()
    assert line["message"] == "Failed."
    assert line["exception"].startswith("Traceback")
    assert "RuntimeError: broken at /x?…" in line["exception"]


def test_queries_are_cut_off_wherever_they_stand(lines: Lines) -> None:
    log.info("GET %s 200", "/tra-cuu/H26-1?key=HUSH&x=1")
    log.info("Really? Yes.")
    assert [line["message"] for line in lines()] == ["GET /tra-cuu/H26-1?… 200", "Really? Yes."]


def test_line_break_in_what_a_client_sent_begins_no_new_line() -> None:
    with _restored():
        stream = io.StringIO()
        handler = logs.configure("sample", "info", stream)
        sent = 'x\r\n{"level":"info","message":"forged"}\n\x1b[2J\0'
        log.warning("Refused %s.", sent, extra={"path": sent, sent: "by its name"})
        handler.close()
    written = stream.getvalue()
    assert re.fullmatch(r"[^\x00-\x1f]*\n", written)
    assert json.loads(written)["path"] == sent


def test_libraries_log_through_the_same_handler(lines: Lines) -> None:
    logging.getLogger("asyncio").error("from asyncio")
    logging.getLogger("aiohttp.server").warning("from aiohttp")
    logging.getLogger("aiohttp.server").debug("not this")
    assert [line["logger"] for line in lines()] == ["asyncio", "aiohttp.server"]


def test_value_that_json_does_not_know_is_logged_as_text(lines: Lines) -> None:
    log.info("Odd.", extra={"odd": complex(1, 2)})
    assert lines()[0]["odd"] == "(1+2j)"


def test_configuring_twice_writes_once(lines: Lines) -> None:
    stream = io.StringIO()
    handler = logs.configure("lookup", "info", stream)
    log.info("Once.")
    handler.close()
    assert stream.getvalue().count("Once.") == 1
    assert lines() == []


def test_unknown_level_is_refused(root_logger: None) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure("lookup", "loud")


class Stalled(io.StringIO):
    """A stream whose reader has stopped reading, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait(30)
        return super().write(text)


def dropped_lines() -> float:
    return REGISTRY.get_sample_value("hoso24_log_lines_dropped_total") or 0.0


def test_stalled_reader_costs_lines_but_never_the_caller(root_logger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING_AT_MOST", 10)
    stream = Stalled()
    dropped = dropped_lines()
    handler = logs.configure("lookup", "info", stream)
    for number in range(50):
        log.info("Line %d.", number)
    assert stream.getvalue() == ""
    lost = dropped_lines() - dropped
    assert 30 <= lost <= 40  # ten wait, and at most ten more are in the writer's hands
    stream.released.set()
    handler.close()
    written = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    confessed = [int(message.split()[1]) for message in written if message.startswith("Dropped ")]
    assert len(written) - len(confessed) == 50 - lost
    assert sum(confessed) == lost


def test_reader_that_has_gone_does_not_end_the_writing(root_logger: None) -> None:
    class Broken(io.StringIO):
        broken = True

        def write(self, text: str) -> int:
            if self.broken:
                raise BrokenPipeError
            return super().write(text)

    stream = Broken()
    handler = logs.configure("lookup", "info", stream)
    log.info("Lost.")
    handler.flush()
    stream.broken = False
    log.info("Kept.")
    handler.close()
    assert "Kept." in stream.getvalue()

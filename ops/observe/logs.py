"""JSON log lines, one object per line, through the standard logging module.

Every text in a line is redacted first (ops/observe/redaction.py): URL queries, what the client sent, the domain's
names. A line is formatted where it is logged and written by a thread of its own, so that a stalled reader of the output
does not stall the event loop. If it stalls for long, lines are dropped, counted, and their number is logged.
"""

import contextlib
import logging
import queue
import sys
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from ops.observe import redaction
from ops.observe.metrics import LOG_LINES_DROPPED
from ops.observe.redaction import Conceal
from ops.observe.tracing import trace_id

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request, set by the middleware; every line logged meanwhile contains it."""

WAITING_AT_MOST = 10_000
GATHERING = 0.02

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object; `extra` fields are added and never replace the usual ones.

    The request id and trace id are the context's, unless the record has others. `conceal` redacts the domain's names in
    any text.
    """

    def __init__(self, service: str, conceal: Conceal = str) -> None:
        super().__init__()
        self._service = service
        self._conceal = conceal

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._cleaned(record.getMessage()),
            "service": self._service,
            "request_id": self._cleaned(getattr(record, "request_id", None) or request_id.get()),
            "trace_id": getattr(record, "trace_id", None) or trace_id(),
        }
        for name, value in vars(record).items():
            if name not in _ORDINARY and name not in line:
                line[name] = self._cleaned(value)
        if record.exc_info and record.exc_info[1]:
            line["exception"] = self._cleaned(redaction.told(record.exc_info[1]))
        return _encode({name: value for name, value in line.items() if value is not None}).decode()

    def _cleaned(self, value: object) -> object:
        return redaction.cleaned(value, self._conceal)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WriterThread(logging.Handler):
    """Passes lines to a thread that writes them; waits for it only in flush and close."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: queue.SimpleQueue[str | threading.Event | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() >= WAITING_AT_MOST:
            self._dropped += 1
            LOG_LINES_DROPPED.inc()
            return
        try:
            self._waiting.put(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Replaces a line that cannot be formatted by one with its place; logging itself would print its arguments."""
        where = f"{record.module}:{record.lineno}"
        message = f"Cannot format a log line at {where}: {type(sys.exception()).__name__}"
        self._waiting.put(_encode({"time": _rfc3339(record.created), "level": "error", "message": message}).decode())

    def flush(self) -> None:
        """Wait until all lines so far are written, at most two seconds."""
        if self._thread.is_alive():
            written = threading.Event()
            self._waiting.put(written)
            written.wait(2.0)

    def close(self) -> None:
        if self._thread.is_alive():
            self.flush()
            self._waiting.put(None)
            self._thread.join(2.0)
        super().close()

    def _write_all(self) -> None:
        going_on = True
        while going_on:
            batch = [self._waiting.get()]
            # More lines queue meanwhile: waking up for each costs more than formatting it did.
            time.sleep(GATHERING)
            while len(batch) < WAITING_AT_MOST and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._write([item for item in batch if isinstance(item, str)])
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
            going_on = None not in batch

    def _write(self, lines: list[str]) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            message = f"Dropped {dropped} log lines, because the reader of the log had stalled"
            lines.append(_encode({"time": _rfc3339(time.time()), "level": "warning", "message": message}).decode())
        # The reader of the output may have ended; there is no other place to report that.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


def configure(
    service: str, level: str | int, stream: TextIO | None = None, *, conceal: Conceal = str
) -> logging.Handler:
    """Write everything logged in this process to the stream as JSON; stdout by default.

    `conceal` redacts the domain's names in every text. A second call replaces the first one's handler; close the
    handler to stop it. Raises ValueError for an unknown level.
    """
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for earlier in [handler for handler in root.handlers if isinstance(handler, WriterThread)]:
        root.removeHandler(earlier)
        earlier.close()
    handler = WriterThread(stream or sys.stdout)
    handler.setFormatter(JsonFormatter(service, conceal))
    root.addHandler(handler)
    return handler

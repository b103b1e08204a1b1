"""Log lines as JSON, one object a line, through the standard logging module.

Every text in a line is cleaned first (ops/observe/redaction.py): no query, nothing the client sent, no name of the
domain's. A line is made where it is logged and written by a thread of its own: a reader of our output that stalls
must not stall the event loop. When it stalls for long, lines are dropped, counted and confessed to.
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
"""The request being answered, set by the middleware; every line logged meanwhile carries it."""

WAITING_AT_MOST = 10_000
GATHERING = 0.02

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """One record as one JSON object; `extra` fields stand beside the usual ones and never replace them.

    The request and its trace are those of the context, unless the record names others. `conceal` takes the domain's
    names out of any text.
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
    """Hands lines to a thread that writes them, and never waits for it except to flush."""

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

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        """A line that cannot be made is replaced by one that says where; logging itself would print its arguments."""
        where = f"{record.module}:{record.lineno}"
        message = f"A log line could not be made, at {where}: {type(sys.exception()).__name__}."
        self._waiting.put(_encode({"time": _rfc3339(record.created), "level": "error", "message": message}).decode())

    def flush(self) -> None:
        """Wait until all lines so far are written, but not for longer than two seconds."""
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
            # More lines gather meanwhile: waking up for each of them costs more than making it did.
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
            message = f"{dropped} log lines were dropped."
            lines.append(_encode({"time": _rfc3339(time.time()), "level": "warning", "message": message}).decode())
        # Whoever reads may have gone for good; there is no place left to complain to.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


def configure(
    service: str, level: str | int, stream: TextIO | None = None, *, conceal: Conceal = str
) -> logging.Handler:
    """Send everything logged in this process to the stream, as JSON; the stream is stdout if not given.

    `conceal` takes the domain's names out of every text. Calling it again replaces what the first call set up; close
    the handler to stop it. Raises ValueError for an unknown level.
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

"""One call to PostgreSQL or Redis: timed, traced, and turned into Unavailable when the server cannot be reached.

Driver exceptions that mean "cannot be used now" become Unavailable here and nowhere else; every other exception is
a bug and passes through. The reason is logged once a minute for each server and reason, and says whether the server
could not be reached or answered that it refuses.
"""

import contextlib
import functools
import logging
import ssl
import time
from collections.abc import Callable, Iterator

import asyncpg
import redis.asyncio
import redis.exceptions
from opentelemetry.trace import Span
from prometheus_client import Counter, Histogram

from ops.errors import OurOwnDelay, Unavailable
from ops.observe import tracing
from ops.observe.metrics import DEPENDENCY_SECONDS, DEPENDENCY_UNAVAILABLE
from ops.settings import masked
from ops.stores.sentinels import NoPrimaryError

_log = logging.getLogger(__name__)

Lateness = Callable[[float], float]
"""Lateness of this process's own loop since a moment (monotonic), in seconds: probes.State.late_since."""

OWN_SHARE = 0.25
"""Share of the timeout from which our own lateness counts as its cause."""

# Errors that the server itself sent: it can be reached, and refuses. redis-py calls two of them ConnectionErrors.
_REFUSALS = (asyncpg.PostgresError, redis.exceptions.AuthenticationError, redis.exceptions.BusyLoadingError)

# asyncpg gives a lost connection the class of a server's error; a statement timeout is a late answer.
_NO_REFUSALS = (asyncpg.PostgresConnectionError, asyncpg.QueryCanceledError)


@contextlib.contextmanager
def measured(
    name: str,
    system: str,
    operation: str,
    away: tuple[type[Exception], ...],
    deadline: float,
    lateness: Lateness | None,
) -> Iterator[Span | None]:
    """Time and trace a call, and turn exceptions of the classes `away` into Unavailable, counted by reason.

    Yields the call's span, None in an unsampled request.

    A timeout while our own loop was late is OurOwnDelay: the answer may have arrived unread.
    """
    started = time.perf_counter()
    asked_at = time.monotonic()
    span, failure = tracing.call_span(name, system, operation), ""
    try:
        yield span
        if name in _troubles:
            _say_it_is_back(name, operation)
    except Unavailable as refusal:
        failure = "OurOwnDelay" if isinstance(refusal, OurOwnDelay) else "Refused"
        _unavailable(name, failure).inc()
        # Redis may refuse writes and answer reads: only the refused command shows that it no longer does.
        _say_why(name, "refuses" if refusal.__cause__ else "cannot be used", refusal.reason, _plain(operation))
        raise
    except away as error:
        timed_out = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
        if timed_out and lateness is not None and lateness(asked_at) > OWN_SHARE * deadline:
            failure = "OurOwnDelay"
            _unavailable(name, failure).inc()
            raise OurOwnDelay(f"{name} may have answered in time, but this process was too late to read it.") from error
        failure = type(error).__name__
        _unavailable(name, failure).inc()
        reason, refused = reason_of(error), _is_refusal(error)
        _say_why(name, "refuses" if refused else "cannot be reached", reason)
        now = "refuses commands now" if refused else "cannot be reached now"
        raise Unavailable(f"{name} {now}.", reason=reason) from error
    finally:
        if span is not None:
            tracing.call_ended(span, failure)
        _timer(name).observe(time.perf_counter() - started)


SAY_AGAIN = 60.0
"""Seconds for which a logged reason is not repeated."""

_said: dict[tuple[str, str], float] = {}

_ANY = "any"

_troubles: dict[str, tuple[float, str]] = {}
"""Dependency → since when (monotonic) it has failed, and the command whose success ends that, _ANY for each; for those
whose failure was logged."""


def reason_of(error: BaseException) -> str:
    """Why a dependency could not be reached, for the operator on call; contains no password."""
    for each in chain(error):
        match each:
            case NoPrimaryError():
                return f"{each}: {reason_of(each.__cause__)}" if each.__cause__ else str(each)
            case ssl.SSLCertVerificationError():
                return f"its certificate is not accepted: {each.verify_message}"
            case ssl.SSLError():
                return f"TLS failed: {each.reason or each}"
            case asyncpg.InvalidPasswordError() | redis.exceptions.AuthenticationError():
                return f"the password is not accepted: {_line(each)}"
            case ConnectionRefusedError():
                return "connection refused"
            case asyncpg.TargetServerAttributeNotMatched():
                return "none of its hosts is the primary"
            case FileNotFoundError():
                return "a file or socket named in its URL does not exist"
    if isinstance(error, TimeoutError | redis.exceptions.TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {_line(error)}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return masked(str(error)).partition("\n")[0][:160]


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, _REFUSALS) and not isinstance(error, _NO_REFUSALS)


def _plain(command: str) -> str:
    """A script's command is EVALSHA or EVAL: which of them depends on whether the server knows the script."""
    return "EVALSHA" if command == "EVAL" else command


def _say_why(name: str, what: str, reason: str, command: str = _ANY) -> None:
    """Log a reason at most once per SAY_AGAIN seconds, however many calls fail."""
    now = time.monotonic()
    if reason and now - _said.get((name, reason), -SAY_AGAIN) >= SAY_AGAIN:
        if len(_said) > 1000:
            _said.clear()
        _said[name, reason] = now
        _troubles[name] = (_troubles.get(name, (now, command))[0], command)
        _log.warning("%s %s: %s", name, what, reason)


def _say_it_is_back(name: str, operation: str) -> None:
    since, command = _troubles[name]
    if command in (_ANY, _plain(operation)):
        del _troubles[name]
        _log.info("%s can be used again after %.1f s", name, time.monotonic() - since)


# `labels` takes a lock each time; the labels are finite, and so are these caches.
@functools.cache
def _timer(name: str) -> Histogram:
    return DEPENDENCY_SECONDS.labels(name)


@functools.cache
def _unavailable(name: str, reason: str) -> Counter:
    return DEPENDENCY_UNAVAILABLE.labels(name, reason)

"""Why a server or process did not start, as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStart(Exception):
    """Why something did not start. Nothing half-started is left behind."""


@contextmanager
def sentences(name: str, directory: Path) -> Iterator[None]:
    """Turns what the system refuses into a CannotStart."""
    try:
        yield
    except OSError as error:
        where = error.filename if error.filename is not None else directory
        raise CannotStart(f"{name} cannot start: {where}: {error.strerror}.") from error

"""The error for a server or process that cannot start, with the reason as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStart(Exception):
    """A server or process did not start; the message says why. Nothing is left running."""


@contextmanager
def sentences(name: str, directory: Path) -> Iterator[None]:
    """Turns an OSError in the block into CannotStart."""
    try:
        yield
    except OSError as error:
        where = error.filename if error.filename is not None else directory
        raise CannotStart(f"{name} cannot start: {where}: {error.strerror}.") from error

"""A clock for tests."""


class Clock:
    """A monotonic clock that moves only when it is told to. It can be called, as time.monotonic is."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        """The same, where a method of that name is looked for."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """So much later."""
        self.now += seconds

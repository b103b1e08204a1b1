"""Stops an embedded server without ending it, as a machine that hangs would."""

from ops.local.reaper import freeze, look, thaw
from ops.local.servers import LocalServer


def pause(server: LocalServer) -> None:
    """Stops its processes: connections stay open, the system accepts new ones, and the server does not answer.

    Does nothing to a server that is not running. A paused server can be stopped and killed.
    """
    if server.alive and (process := look(server.pid)) is not None:
        freeze(process)


def resume(server: LocalServer) -> None:
    """Lets a paused server run again. Does nothing to one that is not running."""
    if server.alive and (process := look(server.pid)) is not None:
        thaw(process)

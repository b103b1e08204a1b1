"""Where tests keep the data of servers they start. Imports nothing of ours: a fork for a fault imports that anew."""

import os
import shutil
from pathlib import Path

ROOM = 4 << 30
"""Bytes that have to be free in memory for the data of several servers, each with its log of changes."""


def in_memory() -> str | None:
    """Where tests keep the data of servers: in memory, where there is room; None for the usual place of such files.

    A database for a test is some three hundred files, made and deleted again, for which a disk needs three times the
    processor time and up to a second.
    """
    place = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
    roomy = place.is_dir() and os.access(place, os.W_OK) and shutil.disk_usage(place).free >= ROOM
    return str(place) if roomy else None

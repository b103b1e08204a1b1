"""Everything that goes wrong on a game day, in the order of the table in loadtests/gameday/README.md."""

from loadtests.gameday.day import Fault
from loadtests.gameday.faults import clock, curve, disk, network, postgres, processes, redis, restore, spike

ORDER = (
    "lookup-killed",
    "rolling-restart",
    "redis-killed",
    "redis-woken",
    "redis-stopped",
    "redis-emptied",
    "redis-full",
    "postgres-killed",
    "standby-lagging",
    "standby-stopped",
    "postgres-restored",
    "postgres-gone",
    "both-gone",
    "network",
    "disk-full",
    "clock-stepped",
    "relay-stopped",
    "spike",
    "day-curve",
)

_MODULES = (clock, curve, disk, network, postgres, processes, redis, restore, spike)
_BY_NAME = {fault.name: fault for module in _MODULES for fault in module.FAULTS}

FAULTS: tuple[Fault, ...] = tuple(_BY_NAME[name] for name in ORDER)

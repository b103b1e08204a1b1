"""Everything that goes wrong on a game day, in the order of the table in loadtests/gameday/README.md."""

from loadtests.gameday.day import Fault
from loadtests.gameday.faults import (
    books,
    clock,
    curve,
    disk,
    healthy,
    network,
    postgres,
    processes,
    redis,
    restore,
    spike,
    walk,
)

FAULTS: tuple[Fault, ...] = (
    healthy.HEALTHY,
    processes.KILLED,
    processes.ROLLED,
    redis.KILLED,
    redis.WOKEN,
    redis.STOPPED,
    redis.EMPTIED,
    redis.FULL,
    postgres.PRIMARY_KILLED,
    postgres.STANDBY_LAGS,
    postgres.UNCONFIRMED,
    restore.RESTORED,
    postgres.POSTGRES_GONE,
    postgres.BOTH_GONE_TOGETHER,
    network.TROUBLED,
    disk.DISK_FULL,
    clock.STEPPED,
    processes.RELAY_STOPPED,
    books.NOTARY_STOPPED,
    books.TAMPERED,
    walk.WALKED,
    spike.SPIKE,
    curve.CURVE,
)

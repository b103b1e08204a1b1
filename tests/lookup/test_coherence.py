"""Any order of events, and what must hold in all of them: a model of three layers, two processes, and everything that
happens to them.

The lookups are the real ones (reader, memory, feed, freshness, batching); around them is the world of
tests/lookup/world.py. HOSO24_PROOF_EXAMPLES says how many interleavings are tried: five hundred, always the same;
`make proof` tries a hundred thousand others.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lookup import code as codes
from lookup.cache import Entry, Heard, Value, dossier_key
from lookup.code import DossierCode
from lookup.reading.feed import Feed, Floors
from lookup.reading.freshness import SECOND, Freshness
from lookup.reading.memory import OVERHEAD, Memory
from lookup.reading.read_through import ReadThrough, VersionNotReached
from lookup.reading.reader import Found, Missing, Reader
from lookup.reading.shedding import Queue, Shedding
from lookup.reading.store import Loaded
from lookup.reading.vitals import Vitals
from ops.errors import Unavailable
from ops.stores.breaker import Breaker
from tests.lookup import world
from tests.lookup.world import Clock, Network, Postgres, Redis, Relay, Store, Version

EXAMPLES = int(os.environ.get("HOSO24_PROOF_EXAMPLES", "500"))
PLANTED_EXAMPLES = 2_000
"""Until it is found; most are found in the first hundred."""
STEPS = int(os.environ.get("HOSO24_PROOF_STEPS", "50"))
PROCESSES = 2
CODES = [codes.parse(f"G99.01.01-261120-000{n}") for n in (1, 2)]
ROOM = OVERHEAD + 220
"""Bytes of memory in a process: one dossier finds room, the other has to make it."""
NUMBER = codes.parse("01234/2026/99901")
FRESHNESS = Freshness(soft=60.0, hard=86_400.0, negative=5.0, silent=5.0)

seconds = st.sampled_from([0.01, 0.5, 1.0, 3.0, 6.0, 25.0, 40.0, 70.0, 3600.0])
some_code = st.sampled_from(CODES)
some_process = st.integers(0, PROCESSES - 1)


class NeverSheds(Shedding):
    """The model has a time of its own: that this machine stood still for a second or two refuses no request in it."""

    def watch(self, *, copies: Queue, loads: Queue) -> None:
        """Take no queue into account."""


class Process:
    """One lookup process."""

    def __init__(self, network: Network, clock: Clock, postgres: Postgres, redis: Redis) -> None:
        self.memory = Memory(ROOM)
        self.feed = Feed(clock, self.memory, FRESHNESS)  # type: ignore[arg-type]
        store = Store(network, postgres)
        never = 10**9
        unbroken = Breaker("redis", after=never)
        shedding = NeverSheds(lambda: 0.0)
        self.vitals = Vitals(clock, self.feed, store, unbroken, shedding, lambda _: 0.0)  # type: ignore[arg-type]
        self.reader = Reader(
            world.Cache(network, redis),  # type: ignore[arg-type]
            store,  # type: ignore[arg-type]
            self.vitals,
            FRESHNESS,
            memory=self.memory,
            queries=3,
            deadline=1e6,
        )
        self.connected = False
        self.served: dict[str, tuple[int, int]] = {}
        """Per code the highest version that left unmarked, and the generation in which it did."""
        self.saw_removed: set[str] = set()
        self.heard: dict[str, tuple[int, int, int]] = {}
        """Per code the version last heard of, when, and in which generation."""


@dataclass
class Reading:
    """One lookup under way, and what was known when it began."""

    process: Process
    code: DossierCode
    at_least: int
    task: "asyncio.Task[Found | Missing]"
    epoch: int
    served: tuple[int, int]
    delivered: bool
    heard: int
    removed: bool
    withdrawn: bool
    """It had been withdrawn already, whether or not a process knew."""
    followed: int
    """The version up to which this process has followed the stream, if Redis has kept the copy delivered with it."""
    known_at: int
    """The last heartbeat of the stream this process follows: what was committed before had been delivered."""
    issued: bool = False
    """Asked with the key, which there is as soon as the dossier has been taken in."""
    undisturbed: bool = True
    """Postgres did not go back in time, and Redis was there the whole time and lost nothing."""


class Coherence(RuleBasedStateMachine):
    """Everything that can happen, as rules; what must hold, in `check`."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.loop.time = lambda: self.clock.at / SECOND  # type: ignore[method-assign]
        self.network = Network()
        self.postgres = Postgres(self.clock)
        self.redis = Redis(self.clock)
        self.relays = [Relay(self.postgres, self.redis, record_ttl=self.record_ttl) for _ in range(2)]
        self.processes: list[Process] = []
        self.readings: list[Reading] = []
        self.saved = self.redis.state.copy()
        self.delivered: set[str] = set()
        self.intact: dict[str, tuple[int, str]] = {}
        """Per code the version that Redis was given last, and its entry's id; gone once Redis has lost the copy."""
        self.truth: dict[str, list[tuple[int, Version | None]]] = {}
        self.gone_back = False
        self.in_redis: dict[str, int] = {}
        self.winners: dict[str, int] = {}
        """Per code the version that won, for the lookups that end because they were told so just now."""

    record_ttl = FRESHNESS.ttl

    # -- running -----------------------------------------------------------------------------------------------

    def run(self, work: Callable[[], Any] = lambda: None) -> Any:
        """Do something on the loop and let it come to rest."""

        async def on_loop() -> Any:
            return work()

        result = self.loop.run_until_complete(on_loop())
        for _ in range(1000):
            if not self.loop._ready:  # type: ignore[attr-defined]
                break
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        finished = [reading for reading in self.readings if reading.task.done()]
        for reading in finished:
            self.readings.remove(reading)
            self.check(reading)
        return result

    @initialize()
    def begin(self) -> None:
        self.processes = self.run(
            lambda: [Process(self.network, self.clock, self.postgres, self.redis) for _ in range(PROCESSES)]
        )
        self.relays_deliver_all()
        for number in range(PROCESSES):
            self.join(number)

    def teardown(self) -> None:
        try:
            if self.processes:
                self.come_to_rest()
        finally:
            while tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(tasks))
            self.loop.close()

    # -- Postgres ----------------------------------------------------------------------------------------------

    @rule(code=some_code, removed=st.sampled_from([False] * 5 + [True]))
    def commit(self, code: DossierCode, removed: bool) -> None:
        self._commit(self.postgres.begin(code.text, removed=removed))

    @rule(code=some_code)
    def import_in_bulk(self, code: DossierCode) -> None:
        if self.postgres.primary().newest(code.text) is None:
            transaction = self.postgres.begin(code.text)
            if transaction is not None:
                self._commit(transaction, bulk=True)

    @rule(code=some_code)
    def bind_number(self, code: DossierCode) -> None:
        self._commit(self.postgres.begin(code.text, number=NUMBER.text))

    @rule(code=some_code)
    def begin_transaction(self, code: DossierCode) -> None:
        if not self.postgres.primary_away:
            self.postgres.begin(code.text)

    @precondition(lambda self: self.postgres.open)
    @rule(commit=st.booleans())
    def end_transaction(self, commit: bool) -> None:
        transaction = self.postgres.open[0]
        if commit:
            self._commit(transaction)
        else:
            self.postgres.roll_back(transaction)

    def _commit(self, transaction: "world.Transaction | None", *, bulk: bool = False) -> None:
        if transaction is None:
            return
        if self.postgres.primary_away:
            self.postgres.roll_back(transaction)
            return
        version = self.postgres.commit(transaction, bulk=bulk)
        self.truth.setdefault(version.code, []).append((version.committed_at, version))

    @rule(code=some_code)
    def change_and_deliver(self, code: DossierCode) -> None:
        self._commit(self.postgres.begin(code.text))
        self.relays_deliver_all()

    @rule(number=some_process, code=some_code)
    def change_overtakes_a_load(self, number: int, code: DossierCode) -> None:
        """The next version is delivered while the last one is on its way to a process that asked for it."""
        if not self.redis.away:
            self.load_slowly(number, code)
            self.change_and_deliver(code)

    @rule(code=some_code)
    def withdraw(self, code: DossierCode) -> None:
        """A dossier is withdrawn, and everybody has seen that it is gone."""
        self._commit(self.postgres.begin(code.text, removed=True))
        self.relays_deliver_all()
        for number in range(PROCESSES):
            self.hear_all(number)
            self.look_up(number, code, None)

    @rule(number=some_process, code=some_code)
    def withdrawal_overtakes_a_load(self, number: int, code: DossierCode) -> None:
        """And the load arrives when everybody has long forgotten that there was one."""
        if not self.redis.away:
            if self.postgres.primary().newest(code.text) is None:
                self.change_and_deliver(code)
            self.load_slowly(number, code)
            self.withdraw(code)
            self.time_passes(130.0)

    @rule(number=some_process, code=some_code)
    def withdrawal_overtakes_a_load_and_postgres_goes(self, number: int, code: DossierCode) -> None:
        """So that whatever the load has left behind is all there is to answer with."""
        self.withdrawal_overtakes_a_load(number, code)
        self.everything_arrives()
        for anyone in range(PROCESSES):
            self.look_up_without_postgres(anyone, code)

    @rule(count=st.integers(1, 9))
    def standby_receives(self, count: int) -> None:
        self.postgres.replay(count)

    @rule(host=st.sampled_from(["primary_away", "standby_away"]), away=st.booleans())
    def host_goes_or_comes(self, host: str, away: bool) -> None:
        setattr(self.postgres, host, away)

    @precondition(lambda self: self.postgres.commits and not self.gone_back)
    @rule(lost=st.integers(1, 4))
    def restore(self, lost: int) -> None:
        """Point-in-time recovery: the last commits have never been."""
        self.postgres.restore(max(0, len(self.postgres.commits) - lost))
        self.gone_back = True
        for code, states in self.truth.items():
            newest = self.postgres.primary().newest(code)
            if states[-1][1] is not newest:
                states.append((self.clock.tick(), newest))
        self.delivered.clear()
        self.intact.clear()
        self._disturb()

    @precondition(lambda self: self.gone_back)
    @rule()
    def renew(self) -> None:
        self.postgres.renew()
        self.gone_back = False
        for process in self.processes:
            process.served.clear()
            process.saw_removed.clear()
            process.heard.clear()

    # -- Redis -------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def evict_from_redis(self, data: st.DataObject) -> None:
        if keys := self.redis.keys():
            key = data.draw(st.sampled_from(keys))
            self._evict(key)

    @rule()
    def save_redis(self) -> None:
        self.saved = self.redis.state.copy()

    @rule(data=st.sampled_from(["all", "old", "none"]))
    def restart_redis(self, data: str) -> None:
        if data == "old":
            self.redis.state = self.saved.copy()
        elif data == "none":
            self.redis.state = world._State()
        if data != "all":
            self.delivered.clear()
            self.intact.clear()
            self.in_redis.clear()
            self._disturb()
        for number in range(PROCESSES):
            self.lose_connection(number)

    @rule(away=st.booleans())
    def redis_goes_or_comes(self, away: bool) -> None:
        self.redis.away = away
        self._disturb()
        if away:
            for number in range(PROCESSES):
                self.lose_connection(number)

    @precondition(lambda self: self.network.calls)
    @rule(data=st.data())
    def old_redis_answers(self, data: st.DataObject) -> None:
        """The connection of a read still leads to a server that has got no further than the saved state."""
        self._answer_as_it_was(self.network.calls[data.draw(st.integers(0, len(self.network.calls) - 1))])

    def _answer_as_it_was(self, call: "world.Call[Any]") -> None:
        if call.copies is None or call.done:
            return
        for code in (key.rpartition(":")[2] for key in call.about):
            self._lost(code)
            for process in self.processes:
                process.served.pop(code, None)
        for reading in self.readings:
            reading.undisturbed, reading.served = False, (0, 0)
        call.carry_out_at(self.redis.as_it_was(self.saved))
        self._do(call, "answer")

    @rule(kept=st.integers(0, 2))
    def trim_stream(self, kept: int) -> None:
        self.redis.trim(self.postgres.epoch, max(1, kept))

    # -- relay and feed ----------------------------------------------------------------------------------------

    @rule(leader=st.integers(0, 1), most=st.integers(1, 4))
    def relay_reads(self, leader: int, most: int) -> None:
        self.relays[leader].read(most)

    @rule(leader=st.integers(0, 1))
    def relay_delivers(self, leader: int) -> None:
        self._note(self.relays[leader].deliver())

    @rule()
    def relays_deliver_all(self) -> None:
        """A heartbeat, and everything up to it."""
        if not self.postgres.primary_away:
            self.postgres.beat()
        for relay in self.relays:
            relay.deliver()
        for _ in range(50):
            if not self.relays[0].read(100):
                break
            self._note(self.relays[0].deliver())

    def _note(self, changes: Sequence[Any]) -> None:
        for change in changes:
            if change.code:
                self.delivered.add(change.code)
                self.intact[change.code] = (change.version, change.id)

    @rule(number=some_process, count=st.integers(1, 4))
    def hear(self, number: int, count: int) -> None:
        process = self.processes[number]
        if process.connected and not self.redis.away:
            for entry in self.redis.after(process.feed.epoch, process.feed.position)[:count]:
                self._hear(process, entry)

    @rule(number=some_process)
    def hear_all(self, number: int) -> None:
        self.hear(number, 1000)

    @rule(number=some_process)
    def hear_the_last_only(self, number: int) -> None:
        """What lies between was lost on the way."""
        process = self.processes[number]
        if process.connected and not self.redis.away:
            for entry in self.redis.after(process.feed.epoch, process.feed.position)[-1:]:
                self._hear(process, entry)

    def _hear(self, process: Process, entry: Heard) -> None:
        self.run(lambda: process.feed.hear(entry))
        if entry.code:
            process.heard[entry.code] = (entry.version, self.clock.now(), process.feed.generation)
        if entry.removed and process.feed.epoch == self.postgres.epoch:  # one that is over tells of what is undone
            process.saw_removed.add(entry.code)

    @rule(number=some_process)
    def lose_connection(self, number: int) -> None:
        process = self.processes[number]
        process.connected = False
        self.run(process.feed.leave)
        for reading in self.readings:
            if reading.process is process:
                reading.known_at = 0

    @rule(number=some_process)
    def join(self, number: int) -> None:
        process = self.processes[number]
        if not process.connected and not self.redis.away:
            process.connected = True
            self.run(lambda: process.feed.join(self.redis.join(process.feed.epoch)))

    @rule(number=some_process)
    def join_again(self, number: int) -> None:
        self.lose_connection(number)
        self.join(number)

    @rule(number=some_process)
    def learn_of_the_epoch(self, number: int) -> None:
        process = self.processes[number]
        if process.feed.epoch < self.postgres.epoch:
            process.connected = False
            self.run(lambda: process.feed.enter(self.postgres.epoch))

    # -- lookups -----------------------------------------------------------------------------------------------

    @rule(number=some_process, code=some_code, beyond=st.sampled_from([None] * 6 + [-1, 0]))
    def look_up(self, number: int, code: DossierCode, beyond: int | None) -> None:
        newest = self.postgres.primary().newest(code.text)
        at_least = max(0, newest.version + beyond) if newest is not None and beyond is not None else 0
        self._look_up(self.processes[number], code, at_least)

    @rule(number=some_process, code=some_code)
    def look_up_with_the_key(self, number: int, code: DossierCode) -> None:
        if self.postgres.primary().newest(code.text) is not None:
            self._look_up(self.processes[number], code, 0, issued=True)

    @rule(asked=some_process, number=some_process, code=some_code)
    def guessed_before_it_was_given_out(self, asked: int, number: int, code: DossierCode) -> None:
        """Whoever counts codes up is told of none; then it is taken in, and the holder asks before it is delivered."""
        if self.postgres.primary().newest(code.text) is None:
            self.look_up_at_once(asked, code)
            self.commit(code, removed=False)
            self.look_up_with_the_key(number, code)
            self.everything_arrives()

    @rule(asked=some_process, number=some_process, code=some_code)
    def none_of_before_a_delivery(self, asked: int, number: int, code: DossierCode) -> None:
        """A process joins the stream after a dossier was delivered; the Redis that answers its read missed that."""
        if self.redis.away or self.postgres.primary().newest(code.text) is not None:
            return
        self.look_up_at_once(asked, code)
        self.save_redis()
        self.lose_connection(number)
        self.change_and_deliver(code)
        self.join(number)
        before = list(self.network.calls)
        self._look_up(self.processes[number], code, 0)
        for call in [call for call in self.network.calls if call not in before]:
            self._answer_as_it_was(call)
        self.everything_arrives()

    @rule(number=some_process)
    def look_up_number(self, number: int) -> None:
        self._look_up(self.processes[number], NUMBER, 0)

    @rule(number=some_process, code=some_code)
    def look_up_at_once(self, number: int, code: DossierCode) -> None:
        self._look_up(self.processes[number], code, 0)
        self.everything_arrives()

    @rule(number=some_process, code=some_code)
    def look_up_without_postgres(self, number: int, code: DossierCode) -> None:
        before = self.postgres.primary_away, self.postgres.standby_away
        self.postgres.primary_away = self.postgres.standby_away = True
        self._look_up(self.processes[number], code, 0)
        self.everything_arrives()
        self.postgres.primary_away, self.postgres.standby_away = before

    @rule(number=some_process, code=some_code)
    def evict_from_memory(self, number: int, code: DossierCode) -> None:
        process = self.processes[number]
        copy = process.memory.look(code.text)
        if copy is not None:
            process.memory.drop(code.text)
            process.memory.dropped(code.text, copy)

    @precondition(lambda self: self.network.calls)
    @rule(data=st.data(), what=st.sampled_from(["carry_out", "carry_out", "answer", "answer", "answer", "fail"]))
    def call(self, data: st.DataObject, what: str) -> None:
        call = self.network.calls[data.draw(st.integers(0, len(self.network.calls) - 1))]
        self._do(call, what)

    def _do(self, call: "world.Call[Any]", what: str) -> None:
        def work() -> None:
            getattr(call, what)()
            if what == "answer":
                self.winners = {key.rpartition(":")[2]: version for key, version in call.winners.items()}

        self.run(work)
        self.winners = {}

    @precondition(lambda self: not self.redis.away)
    @rule(number=some_process, code=some_code)
    def load_slowly(self, number: int, code: DossierCode) -> None:
        """A lookup that has to ask Postgres, was answered there, and waits for the answer to arrive."""
        process = self.processes[number]
        self.evict_from_memory(number, code)
        self._evict(dossier_key(process.feed.epoch, code.text))
        before = list(self.network.calls)
        self._look_up(process, code, 0)
        for call in [call for call in self.network.calls if call not in before]:
            self._do(call, "answer")  # Redis has nothing
        for call in [call for call in self.network.calls if call not in before]:
            self._do(call, "carry_out")

    @precondition(lambda self: self.network.calls)
    @rule()
    def everything_arrives(self) -> None:
        for _ in range(100):
            if not self.network.calls:
                break
            self._do(self.network.calls[0], "answer")

    @rule(by=seconds)
    def time_passes(self, by: float) -> None:
        self.clock.at += int(by * SECOND)
        self.run()
        if by * SECOND >= FRESHNESS.hard * SECOND:
            self.intact.clear()

    @rule(by=st.sampled_from([0.5, 1.0]))
    def a_quiet_moment(self, by: float) -> None:
        """What nearly all moments are like: the heartbeat comes, the standby follows, everybody hears."""
        self.time_passes(by)
        self.relays_deliver_all()
        self.postgres.replay(100)
        for number in range(PROCESSES):
            self.hear_all(number)

    def _find(
        self, process: Process, code: DossierCode, at_least: int = 0, *, issued: bool = False
    ) -> "asyncio.Task[Found | Missing]":
        return self.loop.create_task(process.reader.find(code, at_least, issued=issued))

    def _look_up(self, process: Process, code: DossierCode, at_least: int, *, issued: bool = False) -> None:
        floors = process.feed.floors
        newest = self.postgres.primary().newest(code.text)
        reading = Reading(
            process,
            code,
            at_least,
            self.run(partial(self._find, process, code, at_least, issued=issued)),
            process.feed.epoch,
            process.served.get(code.text, (0, 0)),
            code.text in self.delivered,
            floors.of(code.text),
            code.text in process.saw_removed or floors.removed(code.text),
            newest is not None and newest.removed,
            self._followed(process, code.text),
            process.feed.at if process.feed.stream_name != b"-" else 0,
            issued,
            undisturbed=not self.gone_back,
        )
        self.readings.append(reading)
        self.run()

    def _disturb(self) -> None:
        for reading in self.readings:
            reading.undisturbed = False
            reading.followed = 0

    def _evict(self, key: str) -> None:
        self.redis.evict(key)
        self.in_redis.pop(key, None)
        self._lost(key.rpartition(":")[2])

    def _lost(self, code: str) -> None:
        self.intact.pop(code, None)
        for reading in self.readings:
            if reading.code.text == code:
                reading.followed = 0

    def _followed(self, process: Process, code: str) -> int:
        version, entry_id = self.intact.get(code, (0, ""))
        if not version or not process.connected or self.redis.away or not process.feed.position:
            return 0
        return version if world.pair(process.feed.position) >= world.pair(entry_id) else 0

    # -- what must hold ----------------------------------------------------------------------------------------

    def check(self, reading: Reading) -> None:
        """One lookup has ended."""
        process, code = reading.process, reading.code.text
        # Between going back in time and the new epoch the caches hold what has never been; that is what it is for.
        certain = not self.gone_back and process.feed.epoch == self.postgres.epoch
        try:
            answer = reading.task.result()
        except (Unavailable, VersionNotReached) as refusal:
            has = refusal.members.get("version")
            assert not isinstance(has, int) or has < reading.at_least, "it was refused although it was there"
            return
        if isinstance(answer, Missing):
            assert not reading.at_least or self._is_removed(code, process), "at_least was answered with none"
            self._check_missing(reading, certain=certain)
            return
        record, now = answer.record, self.clock.now()
        assert record.version >= reading.at_least, "at_least was violated"
        if not certain:
            return
        code = record.code
        superseded_at = self._superseded_at(code, record.version, record.agency)
        assert superseded_at is not None, "this was never so, or in a time that has been undone"
        assert superseded_at >= answer.as_of, "as_of says it was the truth when it was not"
        if answer.source == "postgres":
            assert record.version >= self.winners.get(code, 0), "the loaded copy went out, and not the one that won"
        if not answer.stale:
            assert superseded_at >= now - FRESHNESS.soft * SECOND, "older than the bound, and not marked"
        if reading.code.text == code and reading.epoch == process.feed.epoch:
            assert not reading.removed, "a withdrawn dossier was resurrected"
            served, generation = reading.served
            healthy = process.connected and not process.feed.silent and generation == process.feed.generation
            if healthy and not answer.stale:
                assert record.version >= served, "went back to an older version"
            heard, heard_at, generation = process.heard.get(code, (0, 0, 0))
            if generation == process.feed.generation and now - heard_at < FRESHNESS.soft * SECOND and not answer.stale:
                assert record.version >= heard, "older than what was heard of"
            if not answer.stale and not self.redis.away:
                assert record.version >= reading.followed, "older than what was delivered, heard, and is still there"
        if not answer.stale:
            self._serve(process, code, record.version)

    def _check_missing(self, reading: Reading, *, certain: bool) -> None:
        process, code = reading.process, reading.code.text
        if not certain or reading.code is NUMBER or reading.epoch != process.feed.epoch:
            return
        states = self.truth.get(code, [])
        newest = states[-1][1] if states else None
        if newest is not None and newest.removed:
            if reading.withdrawn:  # "none" may also be an answer from before there was one
                process.saw_removed.add(code)
            return
        assert not reading.issued, "whoever has a dossier's key is told that there is none"
        if reading.undisturbed:
            assert not reading.delivered, "a dossier that was delivered is said not to exist"
            assert not reading.heard, "a dossier that was heard of is said not to exist"
        assert self._delivered_since(code) >= reading.known_at, "there is none, says a Redis that is behind the stream"

    def _delivered_since(self, code: str) -> float:
        """When the dossier there is now came to be, as far as the stream tells of it; infinity if it never did."""
        began = float("inf")
        for at, state in self.truth.get(code, []):
            if state is None:
                began = float("inf")
            elif not state.bulk:
                began = min(began, at)
        return began

    def _is_removed(self, code: str, process: Process) -> bool:
        states = self.truth.get(code, [])
        return any(version is not None and version.removed for _, version in states)

    def _serve(self, process: Process, code: str, version: int) -> None:
        served, generation = process.served.get(code, (0, 0))
        if version >= served or generation != process.feed.generation:
            process.served[code] = (version, process.feed.generation)

    def _superseded_at(self, code: str, version: int, agency: str) -> float | None:
        """When this version ceased to be the truth; infinity if it still is, None if it never was."""
        states = self.truth.get(code, [])
        ended: float | None = None
        for n, (_, state) in enumerate(states):
            if state is not None and (state.version, f"timeline {state.timeline}") == (version, agency):
                ended = states[n + 1][0] if n + 1 < len(states) else float("inf")
        return ended

    @invariant()
    def redis_never_goes_back(self) -> None:
        versions = self.redis.versions()
        for key, version in versions.items():
            assert version >= self.in_redis.get(key, 0), "a copy in Redis was replaced by an older one"
        self.in_redis = versions

    @invariant()
    def memory_is_bounded(self) -> None:
        for process in self.processes:
            assert process.memory.used <= ROOM

    def come_to_rest(self) -> None:
        """Everything is back, everything was delivered and heard: then everybody answers what is so."""
        self.redis.away = self.postgres.primary_away = self.postgres.standby_away = False
        for transaction in list(self.postgres.open):
            self.postgres.roll_back(transaction)
        if self.gone_back:
            self.renew()
        self.everything_arrives()
        for number, process in enumerate(self.processes):
            self.run(partial(process.feed.enter, self.postgres.epoch))
            process.connected = False
            self.join(number)
        self.time_passes(FRESHNESS.soft + 1)
        self.relays_deliver_all()
        self.postgres.replay(10_000)
        for number in range(PROCESSES):
            self.hear_all(number)
        for process in self.processes:
            for code in CODES:
                task = self.run(partial(self._find, process, code))
                self.run()
                self.everything_arrives()
                self._expect_truth(code, task.result())

    def _expect_truth(self, code: DossierCode, answer: Found | Missing) -> None:
        newest = self.postgres.primary().newest(code.text)
        if newest is None or newest.removed:
            assert isinstance(answer, Missing)
            return
        assert isinstance(answer, Found)
        assert (answer.record.version, answer.record.agency) == (newest.version, f"timeline {newest.timeline}")
        assert not answer.stale


def try_out(machine: type[Coherence], examples: int, *, shrink: bool = False) -> None:
    """Try so many interleavings; the first that breaks a promise is raised, with `shrink` as short as can be."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            print_blob=False,
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(900)  # five hundred take 15 s of one undisturbed core
def test_every_interleaving_keeps_every_promise() -> None:
    try_out(Coherence, EXAMPLES, shrink=True)


# -- bugs planted on purpose: the test must find each of them -----------------------------------------------------

_get = ReadThrough.get
_winners = ReadThrough._winners
_load_and_fill = ReadThrough._load_and_fill
_relay_values = Relay._values
_copy_settles = ReadThrough._copy_settles


def set_instead_of_compare(patch: pytest.MonkeyPatch) -> None:
    """Redis takes whatever comes last."""
    patch.setattr(Redis, "compare", False)


def loaded_copy_instead_of_the_winner(patch: pytest.MonkeyPatch) -> None:
    """The comparison is made, and its outcome ignored."""

    async def ignore(through: ReadThrough, loaded: Loaded, asked: Any, entries: dict[str, Entry]) -> dict[str, Entry]:
        await _winners(through, loaded, asked, dict(entries))
        return entries

    patch.setattr(ReadThrough, "_winners", ignore)


def no_floor(patch: pytest.MonkeyPatch) -> None:
    """What was heard of while a load was under way does not hold it to anything."""
    patch.setattr(Floors, "of", lambda *_: 0)


def as_of_stamped_at_storing(patch: pytest.MonkeyPatch) -> None:
    """An answer is called true since it arrived, and not since it was asked for."""

    async def stamp(through: ReadThrough, lookups: Any, *, primary: bool) -> None:
        source = through._source

        async def late(names: Sequence[str], /, *, primary: bool = False) -> Loaded:
            loaded = await source(names, primary=primary)
            return Loaded(through._vitals.clock.now(), loaded.epoch, loaded.found, loaded.horizon, loaded.standby)

        through._source = late
        try:
            await _load_and_fill(through, lookups, primary=primary)
        finally:
            through._source = source

    patch.setattr(ReadThrough, "_load_and_fill", stamp)


def expired_withdrawal_marker(patch: pytest.MonkeyPatch) -> None:
    """That a dossier was withdrawn is forgotten after five seconds, in Redis and in the processes."""

    def short_lived(relay: Relay, newest: Version, version: Version, now: int) -> list[Value]:
        values = _relay_values(relay, newest, version, now)
        return [value._replace(ttl=5) for value in values] if newest.removed else values

    patch.setattr(Relay, "_values", short_lived)
    patch.setattr(Floors, "hear_removed", Floors.hear)


def no_such_dossier_for_whoever_has_its_key(patch: pytest.MonkeyPatch) -> None:
    """A copy of before it was taken in is believed, whoever asks."""

    async def get(through: ReadThrough, name: str, at_least: int = 0, **how: Any) -> Any:
        return await _get(through, name, at_least, **how | {"issued": False})

    patch.setattr(ReadThrough, "get", get)


def none_of_any_redis_is_believed(patch: pytest.MonkeyPatch) -> None:
    """Also of one that has not got as far as the stream that is followed."""

    def settles(through: ReadThrough, lookup: Any, entry: Entry, *where: Any, trusted: bool) -> bool:
        return _copy_settles(through, lookup, entry, *where, trusted=trusted or entry.version == 0)

    patch.setattr(ReadThrough, "_copy_settles", settles)


PLANTED = {
    "SET instead of compare-and-set": (set_instead_of_compare, "replaced by an older one"),
    "the loaded copy instead of the winner": (loaded_copy_instead_of_the_winner, "not the one that won"),
    "no floor on loads under way": (no_floor, "resurrected|older than what was|went back to an older version"),
    "as_of stamped at storing": (as_of_stamped_at_storing, "as_of says it was the truth when it was not"),
    "an expired withdrawal marker": (expired_withdrawal_marker, "resurrected|replaced by an older one"),
    "no such dossier for whoever has its key": (no_such_dossier_for_whoever_has_its_key, "told that there is none"),
    "none of any Redis is believed": (none_of_any_redis_is_believed, "says a Redis that is behind the stream"),
}


@pytest.mark.long
@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, says = PLANTED[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        try_out(Coherence, PLANTED_EXAMPLES)

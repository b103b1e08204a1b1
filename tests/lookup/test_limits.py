"""A client that reads dossiers off is refused, whatever its addresses; no citizen beside it or on a results day is."""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator

import pytest
from prometheus_client import REGISTRY

from lookup.code import parse, prefix_of
from lookup.reading.limits import LATEST, MOST_NAMES, NETWORK, SOONEST, Limits, Name, Rate
from tests.clocks import Clock

CARRIER = bytes([203, 0, 113, 7])
OTHER = bytes([203, 0, 114, 8])
DAY = "G99.01.01-261120"
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(clock)


def v4(*address: int) -> bytes:
    return bytes(address)


def v6(region: int, network: int, site: int = 0, home: int = 0) -> bytes:
    """A /64 by the number of its /40, and in that its /48, in that its /56, in that itself."""
    return bytes([0x24, 0x05, 0x48, 0, region, network, site, home])


def codes(count: int, prefix: str = DAY) -> list[str]:
    return [f"{prefix}-{number:06d}" for number in range(1, count + 1)]


def pair_of(asker: object, code: str) -> int:
    """As a process makes it, and the same in each run: which disclosures are of the sample depends on it."""
    return int.from_bytes(hashlib.blake2b(repr((asker, code)).encode(), digest_size=8).digest(), signed=True)


def shown(limits: Limits, client: bytes | None, code: str, asker: object = None) -> bool:
    pair = pair_of(client if asker is None else asker, code)
    return limits.knows(pair) or limits.disclose(pair, client, prefix_of(code)) is None


def walk(
    limits: Limits,
    clock: Clock,
    wanted: Iterable[str],
    client: Callable[[], bytes],
    *,
    seconds: float = HOUR,
    per_second: float = 1.0,
) -> int:
    """How many dossiers a client sees that goes through these again and again, leaving out what it has seen."""
    todo, seen, until = list(wanted), 0, clock.now + seconds
    while todo and clock.now < until:
        refused = []
        for code in todo:
            clock.now += 1 / per_second
            if clock.now >= until:
                return seen
            if shown(limits, client(), code):
                seen += 1
            else:
                refused.append(code)
        todo = refused
    return seen


def fresh(of: Callable[[int], bytes]) -> Callable[[], bytes]:
    """Another network with each request."""
    numbers = iter(range(10**9))
    return lambda: of(next(numbers))


ONE_ADDRESS = ("one address", lambda: CARRIER, 220)
ONE_HOME = ("one /64", lambda: v6(1, 1), 100)
WALKERS = [
    ONE_ADDRESS,
    ONE_HOME,
    ("a /48, a new /64 each time", fresh(lambda n: v6(1, 1, n // 256 % 256, n % 256)), 220),
    ("a /56, a new /64 each time", fresh(lambda n: v6(1, 2, 3, n % 256)), 220),
]


@pytest.mark.parametrize("order", ["in order", "shuffled", "one in sixteen"])
@pytest.mark.parametrize(("client", "most"), [each[1:] for each in WALKERS], ids=[each[0] for each in WALKERS])
def test_day_of_an_agency_is_not_read_off_in_an_hour(
    limits: Limits, clock: Clock, client: Callable[[], bytes], most: int, order: str
) -> None:
    wanted = codes(2_000)
    if order == "shuffled":
        random.Random(1).shuffle(wanted)
    elif order == "one in sixteen":
        wanted = [code for start in range(16) for code in wanted[start::16]]
    assert most // 2 < walk(limits, clock, wanted, client) <= most


def every_day() -> Iterator[str]:
    return (f"G{n % 90 + 10}.{n // 90 % 90 + 10}.01-26{n // 8100 + 1:02d}{n % 28 + 1:02d}-0001" for n in range(50_000))


@pytest.mark.parametrize(("client", "most"), [each[1:] for each in WALKERS], ids=[each[0] for each in WALKERS])
def test_all_days_together_give_no_more_than_some_thousands(
    limits: Limits, clock: Clock, client: Callable[[], bytes], most: int
) -> None:
    assert walk(limits, clock, every_day(), client, seconds=60, per_second=400) <= 3_200


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(fresh(lambda n: v4(203, 0, 113, n % 256)), id="a /24"),
        pytest.param(fresh(lambda n: v6(9, n % 256, n // 256 % 256)), id="a /40"),
    ],
)
def test_whole_region_is_limited_as_well(limits: Limits, clock: Clock, client: Callable[[], bytes]) -> None:
    assert walk(limits, clock, codes(20_000), client, per_second=10) <= 2_500


def test_neighbours_in_the_region_do_not_hide_a_walker(limits: Limits, clock: Clock) -> None:
    """Though each of them has used little: one asks after each code of the walker."""
    seen = 0
    for n, code in enumerate(itertools.islice(every_day(), 20_000)):
        clock.now += 0.005
        seen += shown(limits, CARRIER, code)
        shown(limits, v4(203, 0, 113, 20 + n % 200), f"G99.04.01-2611{n % 28 + 1:02d}-{n:06d}", asker=n)
    assert seen <= 3_200


def disclosed(limits: Limits, client: bytes, prefix: str, *, sampled: bool, number: int) -> bool:
    """Whether a dossier is shown whose pair is one of the sample, which is charged four times, or none of it."""
    pair = (number << 60 | (0 if sampled else 1) << 50 | number) & (1 << 63) - 1
    return limits.disclose(pair, client, prefix) is None


def every_prefix() -> Iterator[str]:
    return (f"G99.{n // 28:02d}.01-2611{n % 28 + 1:02d}" for n in range(10**6))


def test_region_is_charged_exactly_from_half_of_an_allowance_on(limits: Limits) -> None:
    """Of a /64's 300, the sample is charged by fours; what is none of it is free until the half is spent."""
    client, prefixes = v6(3, 1), every_prefix()
    for number in range(1, 1000):
        assert disclosed(limits, client, next(prefixes), sampled=False, number=number)
    assert limits._watched == {}
    for number in range(1, 38):  # 148 of 300
        assert disclosed(limits, client, next(prefixes), sampled=True, number=number)
    assert limits._watched == {}
    assert disclosed(limits, client, next(prefixes), sampled=True, number=38)  # 152
    assert [*limits._watched] == [client[:5]]
    exactly = sum(disclosed(limits, client, next(prefixes), sampled=False, number=2000 + n) for n in range(300))
    assert exactly == 148
    # Another region is not watched.
    assert disclosed(limits, v6(4, 1), next(prefixes), sampled=False, number=9000)
    assert [*limits._watched] == [client[:5]]


def test_refusal_by_a_sampled_allowance_makes_its_region_exact(limits: Limits) -> None:
    """Though what refuses is a report of others and not what was seen here."""
    client = v6(5, 1)
    limits.hear((client[:7], ""), 10 * HOUR)
    assert not disclosed(limits, client, DAY, sampled=True, number=1)
    assert [*limits._watched] == [client[:5]]
    assert not disclosed(limits, client, DAY, sampled=False, number=2)


def test_what_was_shown_before_is_shown_again_beside_an_exhausted_network(limits: Limits, clock: Clock) -> None:
    seen = [code for code in codes(2_000) if shown(limits, CARRIER, code)]
    assert len(seen) == 150
    assert all(shown(limits, CARRIER, code) for code in seen)
    assert not shown(limits, CARRIER, codes(2_000)[-1])
    assert shown(limits, OTHER, codes(2_000)[-1])


def test_refused_client_may_come_back_when_it_is_told_to(limits: Limits, clock: Clock) -> None:
    wanted = codes(400)
    refusals = [limits.disclose(pair_of(CARRIER, code), CARRIER, DAY) for code in wanted]
    last = refusals[-1]
    assert last is not None
    assert last.retry_after is not None
    assert SOONEST <= last.retry_after <= LATEST
    asked_again = limits.is_over(pair_of(CARRIER, wanted[-1]), CARRIER, DAY)
    assert asked_again is not None
    assert asked_again.retry_after == last.retry_after
    clock.now += last.retry_after
    assert shown(limits, CARRIER, wanted[-1])


def test_refused_walker_spends_nothing_of_what_its_neighbours_have(limits: Limits) -> None:
    for code in codes(20_000):
        shown(limits, CARRIER, code)
    assert all(shown(limits, CARRIER, f"G99.01.01-2611{day:02d}-{n:04d}") for day in range(1, 20) for n in range(20))


@pytest.mark.long
def test_flood_gives_no_exhausted_network_its_allowance_back(limits: Limits, clock: Clock) -> None:
    wanted = codes(500)
    for code in wanted:
        shown(limits, CARRIER, code)
    for n in range(200_000):
        shown(limits, v6(n % 200, n // 200 % 250, n // 50_000, n % 256), f"G99.02.01-2611{n % 28 + 1:02d}-{n:06d}")
    assert not shown(limits, CARRIER, wanted[-1])
    newcomers = [v4(n % 200 + 1, n // 200, 7, 7) for n in range(5_000)]
    assert (
        sum(not shown(limits, client, f"G99.03.01-2611{n % 28:02d}-{n:06d}") for n, client in enumerate(newcomers)) == 0
    )


# -- citizens ----------------------------------------------------------------------------------------------------


def asked_by_citizens(count: int, seed: int) -> list[str]:
    """The codes that so many citizens of one province ask for: four in five have one, the others up to eight.

    Forty in a hundred dossiers are at three one-stop units of two thousand a day, the others at 120 of two hundred.
    """
    draw = random.Random(seed)
    asked = []
    for _ in range(count):
        for _ in range(draw.choices((1, 3, 5, 8), (80, 17, 2, 1))[0]):
            big = draw.random() < 0.4
            unit = draw.randrange(3) if big else draw.randrange(3, 123)
            number = draw.randrange(2_000 if big else 200)
            asked.append(f"G99.{unit:03d}.01-2611{draw.randrange(1, 29):02d}-{number:06d}")
    return asked


@pytest.mark.parametrize("seed", range(3))
def test_five_hundred_citizens_behind_one_address_are_all_served(limits: Limits, clock: Clock, seed: int) -> None:
    asked = asked_by_citizens(500, seed)
    refused = 0
    for n, code in enumerate(asked):
        clock.now += 2 * HOUR / len(asked)
        refused += not shown(limits, CARRIER, code, asker=n)
    assert refused == 0


@pytest.mark.parametrize("seed", range(3))
def test_walker_of_a_day_is_in_the_way_of_that_day_only(limits: Limits, clock: Clock, seed: int) -> None:
    asked, walked = asked_by_citizens(500, seed), iter(codes(1_000_000, "G99.001.01-261120"))
    refused = 0
    for n, code in enumerate(asked):
        clock.now += 2 * HOUR / len(asked)
        for _ in range(20):
            shown(limits, CARRIER, next(walked), asker="walker")
        if not shown(limits, CARRIER, code, asker=n):
            refused += 1
            assert code.startswith("G99.001.01-261120")
    assert refused / 500 <= 0.01


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(lambda n: v4(198, 51, n % 60, 7), id="sixty addresses"),
        pytest.param(lambda n: v6(n % 4, n % 32, n // 32 % 256, n // 8192), id="32 of /48 in four of /40"),
    ],
)
def test_results_day_refuses_no_citizen(limits: Limits, clock: Clock, client: Callable[[int], bytes]) -> None:
    order = list(range(20_000))
    random.Random(4).shuffle(order)
    refused = 0
    for n in order:
        clock.now += 3 * HOUR / len(order)
        refused += not shown(limits, client(n), f"{DAY}-{n:06d}", asker=n)
    assert refused <= 20_000 // 1_000


@pytest.mark.parametrize("client", [CARRIER, v6(1, 1)], ids=["an address", "a /64"])
def test_agent_with_sixty_dossiers_of_a_day_sees_them_at_once(limits: Limits, client: bytes) -> None:
    assert all(shown(limits, client, code) for code in codes(60))


def test_yearly_numbers_are_walked_by_the_thousand(limits: Limits) -> None:
    assert sum(shown(limits, CARRIER, f"{n:05d}/2026/99901") for n in range(1_000)) == 150
    assert shown(limits, CARRIER, "01000/2026/99901")
    assert shown(limits, CARRIER, "00999/2026/99902")


def test_prefix_is_the_same_without_parsing() -> None:
    for text in ("G99.01.01-261120-0001", "000.00.01.G22-200316-0001", "01234/2026/99901", "1234567/2026/99901"):
        assert prefix_of(text) == parse(text).prefix


def test_partner_is_never_refused_and_not_counted(limits: Limits) -> None:
    assert all(shown(limits, None, code) for code in codes(5_000))
    assert limits.is_over(1, None, DAY) is None
    assert all(limits.probed(None, Rate.MISSING) is None for _ in range(1_000))
    assert limits.disclosed == 0


# -- probes ------------------------------------------------------------------------------------------------------


def refusals(limits: Limits, rate: Rate, count: int, client: bytes = CARRIER) -> int:
    return sum(limits.probed(client, rate) is not None for _ in range(count))


@pytest.mark.parametrize(("rate", "burst"), [(Rate.MISSING, 100), (Rate.WRONG_KEY, 30), (Rate.PRIMARY, 50)])
def test_probes_are_refused_after_their_burst_and_counted_under_their_rate(
    limits: Limits, clock: Clock, rate: Rate, burst: int
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("lookup_limited_total", {"rate": rate.allowance.word}) or 0.0

    before = counted()
    assert refusals(limits, rate, burst) == 0
    assert refusals(limits, rate, 50) == 50
    assert counted() == before + 50
    clock.now += rate.allowance.interval
    assert refusals(limits, rate, 2) == 1


def test_rates_and_clients_are_apart(limits: Limits) -> None:
    refusals(limits, Rate.MISSING, 1_000)
    assert refusals(limits, Rate.MISSING, 1) == 1
    assert refusals(limits, Rate.WRONG_KEY, 1) == 0
    assert refusals(limits, Rate.MISSING, 1, OTHER) == 0
    assert shown(limits, CARRIER, codes(1)[0])


def test_a_48_has_one_rate_of_probes_for_all_of_its_64(limits: Limits) -> None:
    assert sum(limits.probed(v6(1, 1, 0, n % 256), Rate.MISSING) is not None for n in range(200)) == 100


# -- memory, other processes ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_memory_of_clients_is_constant(limits: Limits, clock: Clock) -> None:
    sizes = [len(table) for table in (limits._first, limits._second, limits._pairs)]
    for n in range(100_000):
        client = v4(n % 223 + 1, n // 223 % 256, n // 57_088, 7)
        for code in codes(1) if n % 10 else codes(12):
            shown(limits, client, code, asker=n)
    assert [len(table) for table in (limits._first, limits._second, limits._pairs)] == sizes
    assert len(limits._spent) <= MOST_NAMES


def test_two_programs_that_poll_do_not_drive_each_other_out(limits: Limits) -> None:
    asked = [(n, f"G99.{n % 90:02d}.01-2611{n % 28 + 1:02d}-{n:06d}") for n in range(50_000)]
    for n, code in asked:
        shown(limits, None, code, asker=n)
    assert sum(not limits.knows(pair_of(n, code)) for n, code in asked) < 50


def test_name_is_told_once_much_of_its_allowance_is_spent(limits: Limits, clock: Clock) -> None:
    for code in codes(9):
        shown(limits, CARRIER, code)
    assert limits.take_spent(10) == []
    for code in codes(12)[9:]:
        shown(limits, CARRIER, code)
    ((name, spent, ahead),) = taken = limits.take_spent(10)
    assert name == (CARRIER, DAY)
    assert (round(spent / 60), round(ahead / 60)) == (3, 12)
    assert limits.take_spent(10) == []
    limits.give_back(taken)
    assert limits.take_spent(10) == taken


def test_what_others_spent_counts_here_and_never_less_than_here(limits: Limits, clock: Clock) -> None:
    limits.hear((CARRIER, DAY), 149 * 60.0)
    assert [shown(limits, CARRIER, code) for code in codes(3)] == [True, False, False]
    limits.hear((CARRIER, DAY), 10.0)
    assert not shown(limits, CARRIER, codes(2)[-1])


def test_forged_report_shuts_a_network_out_for_some_hours_only(limits: Limits, clock: Clock) -> None:
    limits.hear((CARRIER, DAY), 1e12)
    assert not shown(limits, CARRIER, codes(1)[0])
    clock.now += 6 * HOUR
    assert shown(limits, CARRIER, codes(1)[0])


# -- what no walk of these would notice ------------------------------------------------------------------------------


def test_disclosure_outside_of_the_sample_costs_the_wide_allowances_nothing(limits: Limits) -> None:
    """Nor does it give anything back, and it is not refused by them while its region is not watched."""
    client = v6(5, 1)
    limits.hear((client[:7], ""), 10 * HOUR)
    for number in range(12):
        assert disclosed(limits, client, DAY, sampled=False, number=number)
    told = {name for name, _, _ in limits.take_spent(100)}
    assert told == {(client, DAY), (client[:6], DAY)}
    assert limits.disclosed == 12


@pytest.mark.parametrize("bits", [0, 1, 2, 3])
def test_one_in_four_is_of_the_sample(limits: Limits, bits: int) -> None:
    limits.disclose(bits << 50 | 1, CARRIER, DAY)
    charged = limits._ahead((CARRIER, ""), limits._now()) / NETWORK[1].interval
    assert round(charged) == (4 if bits == 0 else 0)


def test_exhausted_network_is_refused_before_anything_is_read(limits: Limits) -> None:
    """By an allowance that is charged by sample too, once its region is watched."""
    client, prefixes = v6(3, 1), every_prefix()
    for number in range(1, 187):  # 38 by fours, 148 one by one
        assert limits.is_over(1 << 50 | 99_999, client, "another prefix") is None
        assert disclosed(limits, client, next(prefixes), sampled=True, number=number)
    assert limits.is_over(1 << 50 | 99_999, client, "another prefix") is not None
    assert limits.is_over(1 << 50 | 99_999, None, "another prefix") is None
    seen = 1 << 60 | 1
    assert limits.knows(seen)
    assert limits.is_over(seen, client, "another prefix") is None


def test_watched_regions_are_forgotten_together_when_there_are_too_many(
    limits: Limits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookup.reading.limits.MOST_WATCHED", 2)
    for region in (b"a", b"b"):
        limits._watch(region, clock.now)
    assert limits._watched == {b"a": clock.now + 600, b"b": clock.now + 600}
    limits._watch(b"c", clock.now)
    assert [*limits._watched] == [b"c"]


@pytest.mark.parametrize(("seconds", "watched"), [(599, True), (600, False)])
def test_region_is_watched_for_ten_minutes(limits: Limits, clock: Clock, seconds: float, watched: bool) -> None:
    client = v6(5, 1)
    limits._watch(client[:5], clock.now)
    limits.hear((client[:7], ""), 10 * HOUR)
    clock.now += seconds
    assert disclosed(limits, client, DAY, sampled=False, number=1) is not watched


def test_what_all_clients_were_shown_of_a_prefix_is_told_to_others_under_one_name(limits: Limits) -> None:
    for n in range(160):
        assert shown(limits, v4(198, 51, n, 7), codes(200)[n])
    assert [name for name, _, _ in limits.take_spent(1000)] == [("*", DAY)]


def test_no_more_names_wait_to_be_told_than_there_may(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookup.reading.limits.MOST_NAMES", 2)
    taken: list[tuple[Name, float, float]] = [((CARRIER, str(n)), 1.0, 0.0) for n in range(3)]
    limits.give_back(taken)
    limits.give_back(taken)
    assert limits.take_spent(1) == [((CARRIER, "0"), 2.0, 0.0)]
    assert limits.take_spent(9) == [((CARRIER, "1"), 2.0, 0.0)]


def test_pair_stands_in_one_of_four_places_and_takes_that_of_another_when_all_are_taken(limits: Limits) -> None:
    pairs = [number << 44 | 5 for number in range(1, 6)]
    for pair in pairs:
        limits._remember(pair)
    assert sorted(limits._pairs[place] for place in (4, 5, 6, 7)) == sorted(
        each for each in pairs if limits.knows(each)
    )
    assert [limits.knows(pair) for pair in pairs] == [False, True, True, True, True]
    assert limits._pairs[5] == pairs[-1]

"""Who probes is slowed; who stands beside one who probes is not."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from lookup import code as codes
from lookup.reading.limits import HELD_BACK, LONGEST_WAIT, REMEMBERED, Limits, Rate, TooManyRequests
from tests.clocks import Clock

CARRIER = b"\xcb\x00\x71\x07"
OTHER = b"\xcb\x00\x71\x08"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(clock)


def in_prefix(number: int, day: int = 20) -> codes.DossierCode:
    return codes.parse(f"G99.01.01-2611{day:02d}-{number:04d}")


def waits(limits: Limits, rate: Rate, count: int, client: bytes = CARRIER) -> list[float]:
    return [limits.probed(client, rate) for _ in range(count)]


@pytest.mark.parametrize("rate", [Rate.MISSING, Rate.WRONG_KEY, Rate.PRIMARY])
def test_burst_is_free_and_what_follows_waits_longer_and_longer_up_to_a_bound(limits: Limits, rate: Rate) -> None:
    burst = round(rate.tolerance / rate.interval)
    assert set(waits(limits, rate, burst)) == {0.0}
    over = waits(limits, rate, 50)
    assert 0 < over[0] <= LONGEST_WAIT
    assert over == sorted(over)
    assert over[-1] == LONGEST_WAIT


@pytest.mark.parametrize(
    ("rate", "word"),
    [
        (Rate.MISSING, "missing"),
        (Rate.WRONG_KEY, "wrong_key"),
        (Rate.PRIMARY, "primary"),
        (Rate.FOUND, "found"),
        (Rate.PREFIX, "prefix"),
    ],
)
def test_what_has_to_wait_is_counted_under_its_rate(limits: Limits, rate: Rate, word: str) -> None:
    def slowed() -> float:
        return REGISTRY.get_sample_value("lookup_slowed_total", {"rate": word}) or 0.0

    before, burst = slowed(), round(rate.tolerance / rate.interval)
    for _ in range(burst):
        limits.probed(CARRIER, rate)
    assert slowed() == before
    limits.probed(CARRIER, rate)
    assert slowed() == before + 1


def test_rate_recovers_with_time_however_far_it_was_overdrawn(limits: Limits, clock: Clock) -> None:
    waits(limits, Rate.MISSING, 100_000)
    clock.now += LONGEST_WAIT + 2 * Rate.MISSING.interval
    assert limits.probed(CARRIER, Rate.MISSING) == 0.0


def test_rates_and_clients_are_apart(limits: Limits) -> None:
    waits(limits, Rate.MISSING, 1000)
    assert limits.probed(CARRIER, Rate.MISSING) > 0
    assert limits.probed(CARRIER, Rate.WRONG_KEY) == 0.0
    assert limits.probed(OTHER, Rate.MISSING) == 0.0
    assert limits.found(CARRIER, in_prefix(1)) == 0.0


def test_counting_up_existing_codes_of_one_prefix_is_slowed(limits: Limits) -> None:
    seconds = [limits.found(CARRIER, in_prefix(n)) for n in range(1000)]
    assert seconds[:200] == [0.0] * 200
    assert all(wait > 0 for wait in seconds[201:])


def test_citizens_of_other_prefixes_and_of_other_addresses_are_not(limits: Limits) -> None:
    for n in range(1000):
        limits.found(CARRIER, in_prefix(n))
    assert [limits.found(CARRIER, in_prefix(n, day)) for n in range(20) for day in range(1, 20)] == [0.0] * 380
    assert limits.found(OTHER, in_prefix(1)) == 0.0


def test_asking_again_for_the_same_dossier_is_free(limits: Limits) -> None:
    assert {limits.found(CARRIER, in_prefix(7)) for _ in range(5000)} == {0.0}


def test_who_counts_up_in_one_prefix_does_not_use_up_what_others_behind_the_address_have(limits: Limits) -> None:
    sequence = [codes.parse(f"G99.01.01-261120-{n:06d}") for n in range(2 * 20_000)]
    for code in sequence:
        limits.found(CARRIER, code)
    assert limits.found(CARRIER, in_prefix(1, day=21)) == 0.0


def test_citizens_who_ask_by_yearly_numbers_of_one_agency_are_not_in_each_other_s_way(limits: Limits) -> None:
    numbers = [codes.parse(f"{n:05d}/2026/99901") for n in range(0, 99_999, 200)]
    assert {limits.found(CARRIER, number) for number in numbers} == {0.0}


def test_counting_yearly_numbers_up_is_slowed(limits: Limits) -> None:
    seconds = [limits.found(CARRIER, codes.parse(f"{n:05d}/2026/99901")) for n in range(1, 1000)]
    assert seconds[-1] > 0
    assert limits.found(CARRIER, codes.parse("00001/2026/99902")) == 0.0


def test_no_rate_applies_to_a_partner(limits: Limits) -> None:
    assert {limits.probed(None, Rate.MISSING) for _ in range(1000)} == {0.0}
    assert {limits.found(None, in_prefix(n)) for n in range(1000)} == {0.0}


def test_memory_of_clients_is_bounded_and_keeps_who_is_busy(limits: Limits) -> None:
    for n in range(REMEMBERED + 1000):
        limits.found(n.to_bytes(4), in_prefix(n % 9999))
        if n % 100 == 0:
            waits(limits, Rate.MISSING, 10)
    assert REMEMBERED // 2 <= len(limits._due) + len(limits._due_before) <= REMEMBERED
    assert REMEMBERED // 2 <= len(limits._known) + len(limits._known_before) <= REMEMBERED
    assert limits.probed(CARRIER, Rate.MISSING) > 0


def test_who_asked_lately_is_remembered_and_who_did_long_ago_is_not(limits: Limits) -> None:
    def charged_again() -> bool:
        before = len(limits._known) + len(limits._known_before)
        limits.found(CARRIER, in_prefix(1))
        return len(limits._known) + len(limits._known_before) != before

    assert charged_again()
    for n in range(REMEMBERED // 2):
        limits.found(n.to_bytes(4), in_prefix(2))
    assert not charged_again()
    for n in range(REMEMBERED // 2):
        limits.found(n.to_bytes(5), in_prefix(3))
    assert charged_again()


async def test_too_many_answers_held_back_refuse_the_next_and_no_other_client_s(limits: Limits) -> None:
    before = REGISTRY.get_sample_value("lookup_limited_total") or 0.0
    held = [asyncio.create_task(limits.hold_back(CARRIER, 60.0)) for _ in range(HELD_BACK)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refusal:
        await limits.hold_back(CARRIER, 60.0)
    assert refusal.value.retry_after
    await limits.hold_back(OTHER, 0.0)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    await limits.hold_back(CARRIER, 0.0)
    assert limits._held_back == {}
    assert REGISTRY.get_sample_value("lookup_limited_total") == before + 1

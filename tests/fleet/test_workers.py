"""The sums over workers: only what is known is said."""

import pytest
from tests.fleet.conftest import Beat, Clock

from antiphon.contracts.workers import SILENT_SECONDS
from antiphon.fleet.scale import Draining
from antiphon.fleet.workers import LISTEN_SECONDS, RECENT_SECONDS, NothingHeard, TooManyWorkers, Workers


@pytest.fixture
def workers(clock: Clock) -> Workers:
    """Workers that have been listened to for long enough."""
    known = Workers(clock)
    known.listening()
    clock.now += LISTEN_SECONDS
    return known


def test_calls_are_added_up_and_the_buffer_is_on_top(workers: Workers, beat: Beat) -> None:
    workers.hear(beat("a", 3))
    workers.hear(beat("b", 4))
    workers.hear(beat("a", 5))  # the newest counts

    scale = workers.scale(warm_calls=2)

    assert (scale.active_calls, scale.warm_calls, scale.wanted_calls) == (9, 2, 11)
    assert (scale.workers, scale.capacity) == (2, 20)


def test_workers_that_drain_are_left_out(workers: Workers, beat: Beat) -> None:
    workers.hear(beat("a", 3))
    workers.hear(beat("b", 4, draining=True))

    scale = workers.scale(warm_calls=1)

    assert (scale.active_calls, scale.wanted_calls, scale.workers, scale.capacity) == (3, 4, 1, 10)
    assert scale.draining == Draining(workers=1, active_calls=4)


def test_a_worker_without_a_fixed_number_makes_the_capacity_unknown(workers: Workers, beat: Beat) -> None:
    workers.hear(beat("a"))
    workers.hear(beat("b", capacity=None))

    assert workers.scale(0).capacity is None


def test_nothing_heard_is_not_zero_calls(workers: Workers) -> None:
    with pytest.raises(NothingHeard, match="no worker has been heard for 5 s"):
        workers.scale(1)


def test_idle_workers_are_zero_calls(workers: Workers, beat: Beat) -> None:
    workers.hear(beat("a"))

    assert workers.scale(0).wanted_calls == 0


def test_a_silent_worker_expires(workers: Workers, beat: Beat, clock: Clock) -> None:
    workers.hear(beat("a", 3))
    clock.now += SILENT_SECONDS
    workers.hear(beat("b", 1))
    assert workers.scale(0).active_calls == 4

    clock.now += 0.1
    assert workers.scale(0).active_calls == 1
    clock.now += SILENT_SECONDS + 0.1
    with pytest.raises(NothingHeard):
        workers.scale(0)


def test_after_a_start_every_worker_gets_time_to_be_heard(beat: Beat, clock: Clock) -> None:
    workers = Workers(clock)
    workers.hear(beat("a", 3))
    with pytest.raises(NothingHeard, match="listening"):
        workers.scale(0)
    workers.listening()
    workers.hear(beat("a", 3))
    clock.now += LISTEN_SECONDS - 0.1
    workers.hear(beat("a", 3))
    with pytest.raises(NothingHeard, match=r"listening for 2\.9 s of 3"):
        workers.scale(0)

    clock.now += 0.1
    assert workers.scale(0).active_calls == 3


def test_after_a_short_outage_calls_of_workers_that_come_later_still_count(
    workers: Workers, beat: Beat, clock: Clock
) -> None:
    workers.hear(beat("a", 3))
    workers.hear(beat("b", 4))
    clock.now += SILENT_SECONDS - 0.5  # the broker is away
    workers.listening()
    clock.now += 1
    workers.hear(beat("a", 3))  # b has not reached the broker yet

    assert workers.scale(0).active_calls == 7


def test_after_a_long_outage_nothing_is_known_at_first(workers: Workers, beat: Beat, clock: Clock) -> None:
    workers.hear(beat("a", 3))
    workers.hear(beat("b", 4))
    clock.now += SILENT_SECONDS + 0.1
    workers.listening()
    workers.hear(beat("a", 3))

    with pytest.raises(NothingHeard, match="workers may be missing"):
        workers.scale(0)


async def test_the_number_of_workers_is_bounded(beat: Beat, clock: Clock) -> None:
    workers = Workers(clock, max_workers=2)
    workers.listening()
    for name in "abc":
        workers.hear(beat(name, 1))
    clock.now += LISTEN_SECONDS

    assert workers.scale(0).active_calls == 2
    with pytest.raises(TooManyWorkers, match="more than 2 workers"):
        await workers.check()
    clock.now += SILENT_SECONDS + 0.1
    workers.hear(beat("c", 1))  # in the place of those that are silent
    assert await workers.check() == "1 workers are heard"


def test_each_worker_is_shown(workers: Workers, beat: Beat, clock: Clock) -> None:
    workers.hear(beat("b", 1))
    workers.hear(beat("a", 2))
    clock.now += 1.23

    first, second = workers.states()

    assert (first.worker, first.active_calls, first.silent_seconds) == ("a", 2, 1.2)
    assert second.worker == "b"


def test_a_deletion_costs_the_calls(workers: Workers, beat: Beat) -> None:
    workers.hear(beat("a", 3))
    workers.hear(beat("b"))
    workers.hear(beat("c", 4, draining=True))
    workers.hear(beat("d", 4, pod=None))

    assert workers.deletion_costs() == {"pod-a": 3, "pod-b": 0}


def test_a_pod_that_just_got_a_call_is_not_idle(workers: Workers, beat: Beat, clock: Clock) -> None:
    workers.hear(beat("a"))
    workers.hear(beat("a", 1))
    workers.hear(beat("a", 0))
    assert workers.deletion_costs() == {"pod-a": 1}

    while clock.now < 1000 + LISTEN_SECONDS + RECENT_SECONDS:
        clock.now += 1
        workers.hear(beat("a", 0))
    assert workers.deletion_costs() == {"pod-a": 0}


def test_a_silent_pod_keeps_its_cost(workers: Workers, beat: Beat, clock: Clock) -> None:
    workers.hear(beat("a", 3))
    clock.now += SILENT_SECONDS + 0.1

    assert workers.deletion_costs() == {}

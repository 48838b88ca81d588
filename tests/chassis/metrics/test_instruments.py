"""Metrics count in plain numbers, and no label can have more values than were declared."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from antiphon.chassis.metrics import OTHER, AtMost, Instrument, counter, gauge, histogram, labels
from antiphon.chassis.metrics.exposition import encoded

names = (f"test.metric{number}" for number in count())


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    before = set(labels._declared)
    yield
    for name in set(labels._declared) - before:
        del labels._declared[name]


def samples(instrument: Instrument, accept: str = "") -> dict[str, float]:
    body, _ = encoded(accept)
    start = instrument.prometheus_name.removesuffix("_total")
    return {
        "".join([sample.name.removeprefix(start), *(f" {v}" for v in sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith(start)
    }


def test_a_counter_has_its_series_from_the_start() -> None:
    cups = counter(next(names), description="cups", labels={"size": ("small", "large")})

    assert samples(cups) == {"_total small": 0, "_total large": 0}
    cups.add(2, "large")
    assert samples(cups)["_total large"] == 2


def test_a_value_that_is_not_declared_is_another_one() -> None:
    cups = counter(next(names), description="cups", labels={"size": ("small",), "guest": AtMost(2, "guests")})
    for guest in range(1000):
        cups.add(1, f"size{guest}", f"guest{guest}")
        cups.add(1, "small", f"guest{guest}")

    assert samples(cups) == {
        f"_total {guest} {size}": 998 if guest == OTHER else 1
        for size in ("small", OTHER)
        for guest in ("guest0", "guest1", OTHER)
    }
    with pytest.raises(TypeError, match="has the labels size, guest"):
        cups.add(1, "small")


def test_a_histogram_counts_up_to_each_bound() -> None:
    pouring = histogram(next(names), description="time", bounds=(0.1, 1), labels={"size": ("small",)})
    for seconds in (0.05, 0.1, 0.5, 7):
        pouring.record(seconds, "small")
    pouring.record(1, "vast")

    found = samples(pouring)
    assert found["_bucket 0.1 small"] == 2
    assert found["_bucket 1.0 small"] == 3
    assert found["_bucket +Inf small"] == found["_count small"] == 4
    assert found["_sum small"] == pytest.approx(7.65)
    assert found["_count _OTHER"] == 1


def test_a_gauge_reads_what_it_watches(caplog: pytest.LogCaptureFixture) -> None:
    level = gauge(next(names), unit="By", description="level", labels={"cup": ("a", "b")})
    oldest = gauge(next(names), unit="s", description="age", combine="max")
    end = level.watch(lambda: {("a",): 2})
    level.watch(lambda: {("a",): 3, ("b",): 1})
    level.watch(lambda: 1 / 0)
    for age in (4, 9, 1):
        oldest.watch(partial(float, age))

    assert samples(level) == {" a": 5, " b": 1}
    assert samples(oldest) == {"": 9}
    assert "ZeroDivisionError" in caplog.text
    end()
    assert samples(level) == {" a": 3, " b": 1}


def test_a_name_is_declared_once() -> None:
    name = next(names)
    counter(name, description="cups")
    with pytest.raises(ValueError, match="declared twice"):
        gauge(name, description="cups")


def test_openmetrics_is_served_to_those_who_ask() -> None:
    cups = counter(next(names), description="cups")
    body, media_type = encoded("application/openmetrics-text; version=1.0.0")

    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert f"# TYPE {cups.prometheus_name.removesuffix('_total')} counter".encode() in body
    assert b"process_cpu_seconds_total" in body

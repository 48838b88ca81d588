"""The lag of a view as a metric: once a second, and 0 when nothing is left."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from antiphon.persistence.projection import lag
from antiphon.persistence.projection.lag import LagGauge

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession


class Recorded:
    """A gauge that keeps its values by partition."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def set(self, value: float, projection: str, partition: str) -> None:
        assert projection == "turns"
        self.values.setdefault(partition, []).append(value)

    def remove(self, projection: str, partition: str) -> None:
        assert projection == "turns"
        del self.values[partition]


def test_the_lag_is_recorded_once_a_second_and_settles(
    new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded()
    monkeypatch.setattr(lag, "projection_lag", recorded)
    session = new_session("lags")
    event = session.turn(1)
    partition = str(session.partition)
    now = (event.time + timedelta(seconds=3)).timestamp()
    gauge = LagGauge("turns", clock=lambda: now)

    gauge.folded([event])  # the partition is not held
    now += 1
    gauge.held(session.partition)
    gauge.folded([event])
    now += 0.5
    gauge.folded([event])  # too soon
    now += 0.5
    gauge.folded([event])
    assert recorded.values == {partition: [0.0, pytest.approx(4.0), pytest.approx(5.0)]}

    gauge.caught_up()
    gauge.caught_up()
    assert recorded.values[partition][3:] == [0.0]
    gauge.left(session.partition)
    assert recorded.values == {}

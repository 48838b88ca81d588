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
        self.values: dict[int, list[float]] = {}

    def set(self, value: float, attributes: dict[str, int]) -> None:
        self.values.setdefault(attributes["partition"], []).append(value)


def test_the_lag_is_recorded_once_a_second_and_settles(
    new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded()
    monkeypatch.setattr(lag, "_lag", recorded)
    session = new_session("lags")
    event = session.turn(1)
    now = (event.time + timedelta(seconds=3)).timestamp()
    gauge = LagGauge("turns", clock=lambda: now)

    gauge.folded([event])
    now += 0.5
    gauge.folded([event])  # too soon
    now += 0.5
    gauge.folded([event])
    assert recorded.values == {session.partition: [pytest.approx(3.0), pytest.approx(4.0)]}

    gauge.caught_up([(session.partition + 1) % 16])
    gauge.caught_up()
    gauge.caught_up()
    assert recorded.values[session.partition][2:] == [0.0]

"""What an agent claims cannot break a metric."""

from antiphon.contracts.events.agent import AgentReady
from antiphon.persistence import metrics
from antiphon.persistence.ingest.call_metrics import measure


def test_a_sum_goes_on_growing_whatever_an_agent_claims() -> None:
    [(_, distribution)] = metrics.time_to_ready.series()

    for _ in range(2):
        measure(AgentReady(greeting="hello", ready_ms=1e308))
    before = distribution.sum
    measure(AgentReady(greeting="hello", ready_ms=500))

    assert distribution.sum > before
    assert distribution.counts[-1] >= 2

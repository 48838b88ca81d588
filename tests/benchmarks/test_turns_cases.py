"""The flows of the benchmark `turns` can be loaded, each with the strategy and the parts of its row."""

import pytest
from tests.benchmarks.turns_cases import CASES, OFFLINE, SECRET, STRATEGIES, Case

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_flow_of_a_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "key")
    flow = load_flow(case.flow("http://127.0.0.1:9"), CATALOG)
    assert (flow.id, flow.turns.detection) == (case.flow_id, case.strategy)
    voice = flow.voice
    assert voice.stt is not None
    assert voice.llm is not None
    assert (voice.stt.use == "offline", voice.llm.use == "offline") == (case.parts == OFFLINE,) * 2


def test_each_strategy_is_measured_offline_and_with_providers() -> None:
    for strategy in STRATEGIES:
        assert len({case.parts for case in CASES if case.strategy == strategy}) >= 2
    assert len({case.flow_id for case in CASES}) == len(CASES)

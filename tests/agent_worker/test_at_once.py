"""Calls that come in the same moment to an idle worker, as the Helm chart starts it, all get an agent."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from antiphon.contracts.events.agent import AgentJoined

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

VALUES = Path(__file__).parents[2] / "deploy" / "helm" / "antiphon" / "values.yaml"


async def test_calls_of_the_same_moment_all_get_an_agent(
    live_sessions: "Sessions", start_worker: Callable[..., "Worker"]
) -> None:
    values = yaml.safe_load(VALUES.read_text())["agentWorker"]
    assert values["idleProcesses"] >= 2  # with one, the second call is refused, and nobody offers it again
    start_worker(
        ANTIPHON_AGENT_CALLS=str(values["callsPerPod"]),
        ANTIPHON_AGENT_IDLE_PROCESSES=str(values["idleProcesses"]),
    )

    sessions = await asyncio.gather(*(live_sessions.request() for _ in range(values["idleProcesses"])))

    joined = await asyncio.gather(*(live_sessions.wait_for(one, AgentJoined.TYPE) for one in sessions))
    assert {envelope.subject for envelope in joined} == set(sessions)

"""How many calls a worker takes: as many as its CPU carries, and no more than a fixed number if one is set.

LiveKit knows a load from 0 to 1 only: a call more than the number is a load at the threshold.
"""

import math
from collections.abc import Callable

from livekit.agents import AgentServer
from livekit.agents.worker import _DefaultLoadCalc

from antiphon.agent_worker.settings import AgentSettings

Load = Callable[[AgentServer], float]


def threshold_of(settings: AgentSettings) -> float:
    """Return the load from which on jobs are refused; with a number of calls there is always one."""
    unlimited = math.isinf(settings.load_threshold)
    return 1.0 if unlimited and settings.calls is not None else settings.load_threshold


def load_of(settings: AgentSettings) -> Load:
    """Return the function that reports the load of a worker."""
    # without a threshold, always report none: LiveKit dispatches by the reported load
    by_cpu = _no_load if math.isinf(settings.load_threshold) else _DefaultLoadCalc.get_load
    calls = settings.calls
    if calls is None:
        return by_cpu
    threshold = threshold_of(settings)

    def load(server: AgentServer) -> float:
        return max(by_cpu(server), threshold * (len(server.active_jobs) / calls))

    return load


def calls_of(server: AgentServer | None) -> int:
    """Return the calls of a registered worker, with those that it is about to start."""
    return 0 if server is None else len(server.active_jobs) + server._reserved_slots


def _no_load(_: AgentServer) -> float:
    return 0.0

"""How a job's process is set up, before it knows of any call."""

import signal
import threading

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis import telemetry

SERVICE = "agent-worker"


def prepare_job_process(settings: AgentSettings) -> None:
    """Set up logs and traces, and leave signals to the worker.

    LiveKit means its job processes to ignore SIGTERM, but under a forkserver they die of it at once, and a
    signal to the process group would cut every call off.
    """
    telemetry.configure(SERVICE, settings)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

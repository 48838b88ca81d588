"""The model of `detection: semantic`: it hears whether a sentence has ended. It runs here, never in a cloud.

It takes 243 MB. A worker that finds it in a published flow loads it once, for all its calls; a call of a flow
that was published later loads it for itself. It runs in the process of the call: LiveKit's inference process
is for other models, and does not run.
"""

import os
import re
import time

import structlog
from livekit import local_inference
from livekit.agents.inference import TurnDetector

from antiphon.chassis.bus import Bus

log = structlog.get_logger(__name__)

PRELOAD = "LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE"  # LiveKit's own: its fork server loads the model, or not
BUCKET = "flows"
MEGABYTES = 243
SLOW_SECONDS = 0.05  # a model that is loaded already takes a few microseconds

_USED = re.compile(rb"\bdetection\W{1,8}semantic\b")  # in YAML or JSON, also as a string within JSON


def build_detector() -> TurnDetector:
    """Return a turn detector that runs in this process; blocks for 0.2 s if its model is not loaded yet.

    The version is explicit, because the default is a model in the cloud when `LIVEKIT_DEV_MODE` or
    `LIVEKIT_REMOTE_EOT_URL` is set.
    """
    began = time.monotonic()
    local_inference.init_eot()
    seconds = time.monotonic() - began
    if seconds > SLOW_SECONDS:
        log.info(
            "turns.model_loaded",
            seconds=round(seconds, 2),
            megabytes=MEGABYTES,
            effect="for this call alone; restart the worker, and its calls share the model",
        )
    return TurnDetector(version="v1-mini")


async def preload_if_used(bus: Bus) -> bool:
    """Let LiveKit load the model before the first call if a published flow uses it; return whether it will.

    To be called before the AgentServer is built. A value of the variable that is set already is kept.
    Raises BusError.
    """
    if PRELOAD not in os.environ:
        used = await _is_used(bus)
        os.environ[PRELOAD] = "1" if used else "0"
        log.info("turns.model_shared" if used else "turns.model_not_used", megabytes=MEGABYTES)
    return os.environ[PRELOAD] != "0"


async def _is_used(bus: Bus) -> bool:
    bucket = await bus.bucket(BUCKET)
    flows = await bucket.watch()
    try:
        return any(_USED.search(flow) for flow in flows.values())
    finally:
        await flows.close()

"""Imported once by LiveKit's fork server, so that job processes share what every call needs.

It must not start a thread or an event loop: every job process is forked from it.
"""

import antiphon.agent_worker.job
import antiphon.chassis.bus
from antiphon.agent_worker.providers.table import PROVIDERS

for _provider in PROVIDERS.stt.values():
    if _provider.vocabulary is not None:
        _provider.vocabulary()  # 130,000 words, cached

PRELOADED = (antiphon.agent_worker.job, antiphon.chassis.bus)

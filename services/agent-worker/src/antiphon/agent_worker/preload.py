"""Imported once, by the fork server: what every call needs, and none should wait for or have a copy of.

Nothing here may start a thread or an event loop: the processes of all calls are forked from it.
"""

import antiphon.agent_worker.job
import antiphon.chassis.bus
from antiphon.agent_worker.providers.table import PROVIDERS

for _provider in PROVIDERS["stt"].values():
    if _provider.known_words is not None:
        _provider.known_words()  # 130,000 words, to check a flow against

PRELOADED = (antiphon.agent_worker.job, antiphon.chassis.bus)

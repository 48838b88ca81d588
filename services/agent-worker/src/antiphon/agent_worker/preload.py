"""Imported once by LiveKit's fork server, so that job processes share what every call needs.

It must not start a thread or an event loop: every job process is forked from it.
"""

import antiphon.agent_worker.job
import antiphon.chassis.bus

PRELOADED = (antiphon.agent_worker.job, antiphon.chassis.bus)

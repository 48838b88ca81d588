from agent_worker.outbox.journal import Journal
from agent_worker.outbox.link import BusLink
from agent_worker.outbox.orphans import Orphans
from agent_worker.outbox.outbox import Outbox, utc_now
from agent_worker.outbox.pump import Pump

__all__ = ["BusLink", "Journal", "Orphans", "Outbox", "Pump", "utc_now"]

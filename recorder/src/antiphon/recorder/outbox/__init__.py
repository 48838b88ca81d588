"""A durable queue of events per job: written to a file first, published as soon as the broker answers."""

from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import Journal, NotAJournal
from antiphon.recorder.outbox.orphans import Orphans
from antiphon.recorder.outbox.outbox import Outbox, Pump, WriteEvent, utc_now

__all__ = ["BusLink", "Journal", "NotAJournal", "Orphans", "Outbox", "Pump", "WriteEvent", "utc_now"]

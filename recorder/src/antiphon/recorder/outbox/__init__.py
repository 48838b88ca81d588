"""A durable queue of events per job: written to a file first, published as soon as the broker answers."""

from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import Journal
from antiphon.recorder.outbox.journal_file import NotAJournal
from antiphon.recorder.outbox.orphans import Orphans
from antiphon.recorder.outbox.outbox import Outbox, SessionWriter, WriteEvent, WriteNote, utc_now
from antiphon.recorder.outbox.pump import Pump

__all__ = [
    "BusLink",
    "Journal",
    "NotAJournal",
    "Orphans",
    "Outbox",
    "Pump",
    "SessionWriter",
    "WriteEvent",
    "WriteNote",
    "utc_now",
]

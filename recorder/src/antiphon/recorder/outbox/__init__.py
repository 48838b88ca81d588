from antiphon.recorder.outbox.journal import Journal
from antiphon.recorder.outbox.link import BusLink
from antiphon.recorder.outbox.orphans import Orphans
from antiphon.recorder.outbox.outbox import Outbox, utc_now
from antiphon.recorder.outbox.pump import Pump

__all__ = ["BusLink", "Journal", "Orphans", "Outbox", "Pump", "utc_now"]

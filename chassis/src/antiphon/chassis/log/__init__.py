"""The event log: read a session, follow a session, follow all sessions."""

from antiphon.chassis.log.log import Log
from antiphon.chassis.log.read import Page, sequence_of

__all__ = ["Log", "Page", "sequence_of"]

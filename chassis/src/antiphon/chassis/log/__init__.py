"""The event log: read a session, follow a session, follow all sessions."""

from antiphon.chassis.log.batches import Batch
from antiphon.chassis.log.log import Log
from antiphon.chassis.log.read import Page, sequence_of
from antiphon.chassis.log.session_follower import SessionFollower

__all__ = ["Batch", "Log", "Page", "SessionFollower", "sequence_of"]

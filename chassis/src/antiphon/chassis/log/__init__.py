"""The log of record: read a session, follow it, follow everything."""

from antiphon.chassis.log.log import Log

__all__ = ["Log"]

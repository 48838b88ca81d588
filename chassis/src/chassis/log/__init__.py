"""The log of record: read a session, follow it, follow everything."""

from chassis.log.log import Log

__all__ = ["Log"]

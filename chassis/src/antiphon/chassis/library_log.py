"""Loggers of the packages that run in other people's processes, whatever their logging setup is.

A record carries the fields of an event twice: as text in the message, for a plain formatter, and as
attributes, for a structured one. What is personal is an attribute only, whose name begins with `pii_`.
"""

import logging
from collections.abc import MutableMapping
from typing import Any

from antiphon.chassis.personal_data import is_personal

EVENT = "antiphon_event"  # the attribute of a record that holds the name of the event


class LibraryLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose messages are the name of an event and the fields given as `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the fields to the message, and the name of the event to the fields."""
        fields = kwargs.get("extra")
        if not fields:  # a sentence, perhaps with arguments: the message is all there is
            return msg, kwargs
        kwargs["extra"] = {**fields, EVENT: msg}
        shown = (f"{name}={value!r}" for name, value in fields.items() if not is_personal(name))
        return " ".join([str(msg), *shown]), kwargs


def get_logger(name: str) -> LibraryLogger:
    """Return the logger of a module."""
    return LibraryLogger(logging.getLogger(name))

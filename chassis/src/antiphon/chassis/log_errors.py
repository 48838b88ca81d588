"""What log lines show of errors: no message that may quote a caller, wherever a library has put it."""

import re
import sys
from collections.abc import Iterable
from logging import LogRecord
from types import TracebackType
from typing import Any

from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from antiphon.chassis.personal_data import HIDDEN, may_show, without_row_values

Raised = tuple[type[BaseException], BaseException, TracebackType | None]
# Local variables may contain transcripts, so a traceback never shows them.
as_dicts = ExceptionDictTransformer(show_locals=False)

_NOT_SHOWN_AS_TEXT = ("_record", "_from_structlog", "exc_info", "stack_info")
_OF_SERVERS = ("antiphon", "opentelemetry")  # ours name what is personal; an export fails by its receiver
_PLAIN = (int, float, type(None))


def without_messages(exc_info: Raised) -> list[dict[str, Any]]:
    """Return the traceback as dictionaries, without the messages of errors that may quote a caller."""
    hidden = {type(error).__name__ for error in _chain(exc_info[1]) if not may_show(error)}
    return _hide(as_dicts(exc_info), hidden)


def hide_quoted_errors(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide messages of errors in the text and the fields of a line that another library has logged.

    Known errors are those of the traceback, of the arguments, and the one that is being handled: libraries
    log `f"failed: {error}, retrying"` where they catch it.
    """
    record: LogRecord | None = event.get("_record")
    arguments = event.pop("positional_args", None) or ()
    if record is None or record.name.split(".")[0] in _OF_SERVERS:
        return event
    quoted = _quoted(_errors(record, arguments, event))
    if quoted is None:
        return event
    for name, value in event.items():
        if name not in _NOT_SHOWN_AS_TEXT and not isinstance(value, _PLAIN):
            text = value if isinstance(value, str) else repr(value)
            shown = quoted.sub(HIDDEN, text)
            event[name] = value if shown == text else shown
    return event


def _errors(record: LogRecord, arguments: Any, event: EventDict) -> Iterable[BaseException]:
    arguments = arguments.values() if isinstance(arguments, dict) else arguments
    raised = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    for found in (sys.exception(), raised, *arguments, *event.values()):
        if isinstance(found, BaseException):
            yield from _chain(found)


def _quoted(errors: Iterable[BaseException]) -> re.Pattern[str] | None:
    """Return what finds the messages of those errors that may quote a caller, or None without one."""
    texts: set[str] = set()
    for error in errors:
        if not may_show(error):
            parts = (part for part in error.args if isinstance(part, str))
            texts |= {text for text in (repr(error), str(error), *parts) if text.strip()}
            texts |= {repr(part)[1:-1] for part in parts}
    if not texts:
        return None
    longest_first = sorted(texts, key=len, reverse=True)
    # a short message, as `1`, is not a part of another word
    return re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in longest_first))


def _hide(stacks: list[dict[str, Any]], hidden: set[str]) -> list[dict[str, Any]]:
    for stack in stacks:
        if stack["exc_type"] in hidden:
            stack["exc_value"] = HIDDEN
            stack["syntax_error"] = None
        else:
            stack["exc_value"] = without_row_values(stack["exc_value"])
        stack["exc_notes"] = []  # anybody adds them to any error
        for inner in stack["exceptions"]:
            _hide(inner, hidden)
    return stacks


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error, those that caused it, and those in groups."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is known for known in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__]
            waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    return found

"""Spans of SQL statements, in the trace that is open: which statement and how long, never a value."""

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from antiphon.chassis.tracing import TRACER, Value, enabled

if TYPE_CHECKING:
    import asyncpg

SYSTEM = "postgresql"
STATEMENTS = 1024  # whose summaries are kept: statements are constants of the code
TABLES = 4  # in a summary

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_TEXT = re.compile(r"'(?:[^']|'')*'")
_VERB = re.compile(
    r"\b(select|insert|update|delete|merge|truncate|call|copy|begin|commit|rollback)\b", re.IGNORECASE
)
_WRITE = re.compile(r"\b(insert)\s+into\b|\b(update|merge|delete)\b", re.IGNORECASE)
_CONFLICT = re.compile(r"\bdo\s+update\b|\bfor\s+(no\s+key\s+)?update\b", re.IGNORECASE)
_NAME = re.compile(r"\b(?:from|join|into|update|call)\s+(?:only\s+)?([a-z_][a-z0-9_.]*)", re.IGNORECASE)
_FUNCTION = re.compile(r"\bselect\s+([a-z_][a-z0-9_.]*)\s*\(", re.IGNORECASE)
_NEW_NAME = re.compile(
    r"(?:\bwith(?:\s+recursive)?|,)\s*([a-z_][a-z0-9_]*)(?:\s*\([^()]*\))?\s+as\b", re.IGNORECASE
)


@lru_cache(maxsize=STATEMENTS)
def sql_attributes(statement: str) -> dict[str, Value]:
    """Return the attributes of the conventions for a statement: its operation and its tables."""
    plain = _TEXT.sub("", _COMMENT.sub(" ", statement))
    plain = _CONFLICT.sub(" ", plain)
    found = _WRITE.search(plain) or _VERB.search(plain)
    operation = next(filter(None, found.groups()), "").upper() if found else "OTHER"
    own = {name.lower() for name in _NEW_NAME.findall(plain)}
    names = [name.lower() for name in _NAME.findall(plain) if name.lower() not in own | {"unnest", "select"}]
    names = names or [name.lower() for name in _FUNCTION.findall(plain)]
    tables = list(dict.fromkeys(names))[:TABLES]
    return {
        "db.system.name": SYSTEM,
        "db.operation.name": operation,
        "db.query.summary": " ".join([operation, *tables]),
    }


def log_queries(connection: "asyncpg.Connection[Any]") -> None:
    """Let the statements of a connection be spans, if this process records any."""
    if enabled():
        connection.add_query_logger(_show)


def _show(query: "asyncpg.connection.LoggedQuery") -> None:
    # asyncpg calls this in the context of the task that has asked
    if not trace.get_current_span().is_recording():
        return
    ended = time.time_ns()
    attributes = sql_attributes(query.query)
    span = trace.get_tracer(TRACER).start_span(
        str(attributes["db.query.summary"]),
        kind=SpanKind.CLIENT,
        attributes=attributes,
        start_time=ended - int(query.elapsed * 1e9),
    )
    error = query.exception
    if error is not None:
        span.set_attribute("error.type", getattr(error, "sqlstate", None) or type(error).__name__)
        span.set_status(StatusCode.ERROR)
    span.end(ended)

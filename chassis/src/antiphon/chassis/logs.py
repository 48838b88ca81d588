"""Logs as JSON lines, also those of libraries: with the trace and the session, without personal data."""

import logging
import sys
from types import TracebackType
from typing import Any

import structlog
from opentelemetry import trace
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExceptionTransformer, Processor, WrappedLogger

from antiphon.chassis.library_log import EVENT
from antiphon.chassis.personal_data import HIDDEN, is_personal, marked, may_show, without_row_values
from antiphon.chassis.settings import LogSettings

OWN_LOGGERS = "antiphon"  # the parent of all our loggers

_Raised = tuple[type[BaseException], BaseException, TracebackType | None]
# Local variables may contain transcripts, so a traceback never shows them.
_as_dicts = ExceptionDictTransformer(show_locals=False)
_process: dict[str, str] = {}  # in every line of this process


def bind_process(**fields: str) -> None:
    """Add fields to every line of this process, of any task and library: it serves one session.

    Lines outside of a span get the trace of the span that is open now.
    """
    _process.update(fields)
    _process.update(_ids(trace.get_current_span().get_span_context()))


def configure_logs(service: str, settings: LogSettings) -> None:
    """Set up structlog and the standard loggers of this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _add_trace,
        _personal_data(settings.telemetry_personal_data),
    ]
    pretty = settings.log_format == "pretty"
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if pretty
        else structlog.processors.JSONRenderer()
    )
    shown: ExceptionTransformer = _as_dicts if settings.telemetry_personal_data else _without_messages
    tracebacks = structlog.processors.ExceptionRenderer(shown)
    final: list[Processor] = [renderer] if pretty else [tracebacks, renderer]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_event, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger(OWN_LOGGERS).setLevel(level)


def _add_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _name_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = event.pop(EVENT, event["event"])  # our libraries repeat the fields in the message
    return event


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.update(_ids(trace.get_current_span().get_span_context()))
    for name, value in _process.items():
        event.setdefault(name, value)
    return event


def _ids(span: trace.SpanContext) -> dict[str, str]:
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def _personal_data(shown: bool) -> Processor:
    def choose(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        for name, value in list(event.items()):
            if is_personal(name):
                del event[name]
                if shown:
                    event[marked(name)] = value
            elif isinstance(value, str) and not shown:
                event[name] = without_row_values(value)
        return event

    return choose


def _without_messages(exc_info: _Raised) -> list[dict[str, Any]]:
    """Return the traceback as dictionaries, without the messages of errors that may quote a caller."""
    hidden = {type(error).__name__ for error in _chain(exc_info[1]) if not may_show(error)}
    return _hide(_as_dicts(exc_info), hidden)


def _hide(stacks: list[dict[str, Any]], hidden: set[str]) -> list[dict[str, Any]]:
    for stack in stacks:
        if stack["exc_type"] in hidden:
            stack["exc_value"] = HIDDEN
            stack["exc_notes"] = []
            stack["syntax_error"] = None
        else:
            stack["exc_value"] = without_row_values(stack["exc_value"])
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

"""Logs as JSON lines, also those of libraries: with the trace and the session, without personal data."""

import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, ExceptionTransformer, Processor, WrappedLogger

from antiphon.chassis.library_log import EVENT
from antiphon.chassis.log_errors import as_dicts, hide_quoted_errors, without_messages
from antiphon.chassis.otlp_secrets import hide_otlp_secrets
from antiphon.chassis.personal_data import is_personal, marked, without_row_values
from antiphon.chassis.settings import LogSettings
from antiphon.chassis.tracing import current_ids

OWN_LOGGERS = "antiphon"  # the parent of all our loggers

_process: dict[str, str] = {}  # in every line of this process


def bind_process(**fields: str) -> None:
    """Add fields to every line of this process, of any task and library: it serves one session.

    Lines outside of a span get the trace of the span that is open now.
    """
    _process.update(fields)
    _add_ids(_process)


def configure_logs(service: str, settings: LogSettings) -> None:
    """Set up structlog and the standard loggers of this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _add_process,
        _personal_data(settings.telemetry_personal_data),
        _add_trace,
    ]
    pretty = settings.log_format == "pretty"
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if pretty
        else structlog.processors.JSONRenderer()
    )
    shown: ExceptionTransformer = as_dicts if settings.telemetry_personal_data else without_messages
    tracebacks = structlog.processors.ExceptionRenderer(shown)
    final: list[Processor] = [renderer] if pretty else [tracebacks, renderer]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    foreign: list[Processor] = [structlog.stdlib.ExtraAdder(), _name_event, *shared]
    hides = not pretty and not settings.telemetry_personal_data
    if hides:
        foreign.append(hide_quoted_errors)
    foreign.append(hide_otlp_secrets(os.environ))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            pass_foreign_args=hides,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger(OWN_LOGGERS).setLevel(level)
    if not pretty:
        _log_uncaught()


def _log_uncaught() -> None:
    """Log what ends the process or a thread as every error; Python itself prints its message."""
    log = logging.getLogger(f"{OWN_LOGGERS}.process")

    def of_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, Exception):  # Ctrl-C
            sys.__excepthook__(kind, error, traceback)
            return
        log.critical("process.crashed", exc_info=(kind, error, traceback))

    def of_thread(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if error is not None and issubclass(failed.exc_type, Exception):
            log.error("thread.crashed", exc_info=(failed.exc_type, error, failed.exc_traceback))

    sys.excepthook, threading.excepthook = of_process, of_thread


def _add_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _name_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = event.pop(EVENT, event["event"])  # our libraries repeat the fields in the message
    return event


def _add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in _process.items():
        event.setdefault(name, value)
    return event


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    _add_ids(event)
    return event


def _add_ids(fields: MutableMapping[str, Any]) -> None:
    if (ids := current_ids()) is not None:
        fields["trace_id"], fields["span_id"] = ids


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

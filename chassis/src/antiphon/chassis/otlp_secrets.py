"""The secrets in OpenTelemetry's variables: its SDK quotes in log lines what it does not understand."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from structlog.typing import EventDict, Processor, WrappedLogger

from antiphon.chassis.personal_data import HIDDEN

VARIABLES = "OTEL_EXPORTER_OTLP_"
SHORTEST = 4  # characters: what is shorter is found by chance, and is no secret


def hide_otlp_secrets(environ: Mapping[str, str]) -> Processor:
    """Return a processor of lines that hides the headers, passwords and queries of these variables."""
    secrets = {text for secret in _secrets(environ) for text in (secret, unquote(secret))}
    longest_first = sorted((text for text in secrets if len(text) >= SHORTEST), key=len, reverse=True)
    found = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def hide(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["event"] = found.sub(HIDDEN, str(event["event"]))
        return event

    return hide


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if not name.startswith(VARIABLES):
            continue
        if name.endswith("HEADERS"):
            for header in (value, *value.split(",")):
                yield header.strip()
                yield re.split("[=:]", header, maxsplit=1)[-1].strip()
        elif name.endswith("ENDPOINT"):
            address, _, query = value.partition("?")
            yield query
            user, _, _ = address.rpartition("@")
            yield user.rpartition("/")[2]
            yield user.rpartition(":")[2]

"""Events as the API sends them, for tests."""

import json
from typing import Any

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


def event(sequence: int, kind: str = "turn.started", **data: Any) -> dict[str, Any]:
    """Return a committed event as JSON's objects."""
    return {
        "specversion": "1.0",
        "id": f"{SESSION}:{sequence}",
        "source": "/test",
        "type": kind,
        "subject": SESSION,
        "time": "2026-01-01T00:00:00.000000Z",
        "dataschema": f"https://antiphon.dev/schemas/{kind}/1",
        "data": data,
        "tenant": "default",
        "producer": "test",
        "producerseq": sequence,
        "sequence": sequence,
        "position": sequence,
    }


def sse(*sequences: int, last: int | None = None) -> bytes:
    """Return events as a stream; `last` is the number of the terminal one."""
    return b"".join(
        b"id: %d\ndata: %s\n\n"
        % (n, json.dumps(event(n, "session.closed" if n == last else "turn.started")).encode())
        for n in sequences
    )

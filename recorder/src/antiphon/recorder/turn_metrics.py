"""LiveKit's per-turn metrics of the user's and the agent's messages, in one flat dictionary.

Both messages say when they were spoken, so these two names get a prefix; all others keep LiveKit's names.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

_SPOKEN = ("started_speaking_at", "stopped_speaking_at")
_ENDS = "agent_stopped_speaking_at"  # of several messages in a turn, the last one ends it
_LISTS = "provider_request_ids"


def merge_user(metrics: dict[str, object], report: Mapping[str, object]) -> None:
    """Add the metrics of what the user said."""
    for name, value in report.items():
        metrics[f"user_{name}" if name in _SPOKEN else name] = _plain(value)


def merge_agent(metrics: dict[str, object], report: Mapping[str, object]) -> None:
    """Add the metrics of what the agent answered; the first answer's figures stand."""
    for name, value in report.items():
        key = f"agent_{name}" if name in _SPOKEN else name
        known = metrics.get(key)
        if key == _LISTS and isinstance(known, list) and isinstance(value, list):
            metrics[key] = known + _plain(value)
        elif key == _ENDS or known is None:
            metrics[key] = _plain(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: providers put what they like into their metrics."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Real):  # numpy's floats too
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)

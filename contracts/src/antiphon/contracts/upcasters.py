"""Upcasters: bodies of older event versions become bodies of the next version, on every read.

The log keeps what was published. A breaking change of an event is a new version: raise `VERSION` of its
struct, register here the step from the version before, and keep the schema and the examples of that one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from antiphon.contracts.errors import MalformedEvent, UnsupportedEventVersion

Body = dict[str, Any]
Upcaster = Callable[[Body], Body]
Steps = Mapping[tuple[str, int], Upcaster]

# Key: the type and the version that the step reads; it returns the body of the next version. Steps are pure.
UPCASTERS: Steps = {}


def upcast(event_type: str, body: Any, version: int, wanted: int) -> Body:
    """Return the body of a version as the body of a later version, step by step.

    Raises MalformedEvent for a body that a step cannot read, UnsupportedEventVersion when a step is missing.
    """
    for number in range(version, wanted):
        step = UPCASTERS.get((event_type, number))
        if step is None:
            raise UnsupportedEventVersion(f"{event_type} version {number} has no upcaster")
        try:
            body = step(body)
        except Exception as error:  # a step relies on a body that no schema has checked
            raise MalformedEvent(f"{event_type} version {number}: {error!r}") from error
    return dict(body)


def wrong_steps(versions: Mapping[str, int], steps: Steps) -> Iterator[str]:
    """Describe each step that is missing, and each that no event needs, given the versions by type."""
    needed = {(name, number) for name, newest in versions.items() for number in range(1, newest)}
    for name, number in sorted(needed - steps.keys()):
        yield f"{name}: no upcaster from version {number} to {number + 1}"
    for name, number in sorted(steps.keys() - needed):
        yield f"{name}: the upcaster from version {number} belongs to no event"

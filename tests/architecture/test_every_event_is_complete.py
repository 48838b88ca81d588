"""Every event has a registry entry, a schema, an example, a docstring and a family."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.contracts import events
from antiphon.contracts.event import Event, Family
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.schemas import file_name

PACKAGE = Path(__file__).parents[2] / "contracts"
EVENT_MODULES = sorted(Path(events.__path__[0]).glob("*.py"))


def missing_steps(event: type[Event], package: Path = PACKAGE) -> Iterator[str]:
    """Yield what an event still lacks."""
    if event not in EVENTS:
        yield "a line in contracts/registry.py"
    family: object = event.FAMILY
    if not isinstance(family, Family):
        yield "a family"
    if not (event.__doc__ or "").strip().endswith("."):
        yield "a docstring that is a sentence"
    if not (package / "schemas" / file_name(event)).exists():
        yield f"contracts/schemas/{file_name(event)} (run make contracts)"
    if not list((package / "examples" / f"{event.TYPE}.v{event.VERSION}").glob("*.json")):
        yield f"a golden example in contracts/examples/{event.TYPE}.v{event.VERSION}/"


def concrete(kind: type[Event]) -> Iterator[type[Event]]:
    """Yield every event class that has a type, registered or not."""
    for child in kind.__subclasses__():
        if "TYPE" in vars(child):
            yield child
        yield from concrete(child)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_an_event_is_complete(event: type[Event]) -> None:
    assert list(missing_steps(event)) == []


def test_every_event_is_registered() -> None:
    ours = [event for event in concrete(Event) if event.__module__.startswith("antiphon.contracts.")]

    assert set(ours) == set(EVENTS)


def test_every_schema_and_example_has_an_event() -> None:
    schemas = {path.name for path in (PACKAGE / "schemas").iterdir()}
    examples = {path.name for path in (PACKAGE / "examples").iterdir()}

    others = {"envelope.v1.schema.json", "worker.heartbeat.v1.schema.json"}
    assert schemas == {file_name(event) for event in EVENTS} | others
    assert examples == {f"{event.TYPE}.v{event.VERSION}" for event in EVENTS}


def test_every_missing_step_is_named(tmp_path: Path) -> None:
    class Sneezed(Event, frozen=True, kw_only=True):
        """The user sneezed"""

        TYPE = "user.sneezed"
        FAMILY = "noise"  # type: ignore[assignment]

    assert len(list(missing_steps(Sneezed, tmp_path))) == 5

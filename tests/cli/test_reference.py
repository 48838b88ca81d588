"""The reference pages match the code."""

from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.settings import Settings
from antiphon.cli.reference import document
from antiphon.cli.settings import ClientSettings, StackSettings
from antiphon.fleet.settings import FleetSettings
from antiphon.persistence.settings import PersistenceSettings
from antiphon.session_api.settings import ApiSettings
from antiphon.webhook_ingest.settings import WebhookSettings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
CLASSES = (
    ClientSettings,
    StackSettings,
    ApiSettings,
    WebhookSettings,
    PersistenceSettings,
    AgentSettings,
    FleetSettings,
)


def test_commands_page_is_generated_from_the_help() -> None:
    """Regenerate with `python -m antiphon.cli.reference > docs/reference/commands.md`."""
    assert (REFERENCE / "commands.md").read_text() == document()


def missing(page: str, settings: type[Settings]) -> list[str]:
    """Return the variables of a class that are missing from the page or have another default there."""
    found = []
    for field in settings.model_fields.values():
        variable = str(field.validation_alias)
        rows = [line for line in page.splitlines() if line.startswith(f"| `{variable}` |")]
        plain = field.default is not PydanticUndefined and not isinstance(field.default, (Path, type(None)))
        if not any(not plain or f"| {field.default} |" in row for row in rows):
            found.append(variable)
    return found


@pytest.mark.parametrize("settings", CLASSES)
def test_settings_page_has_every_variable_and_default(settings: type[Settings]) -> None:
    assert missing((REFERENCE / "settings.md").read_text(), settings) == []


def test_missing_variable_is_found() -> None:
    assert "ANTIPHON_API_PORT" in missing("| `ANTIPHON_NATS_PORT` | 4222 |", StackSettings)

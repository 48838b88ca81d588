"""The reference page matches the help of the commands."""

from pathlib import Path

from antiphon.cli.reference import document

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_commands_page_is_generated_from_the_help() -> None:
    """Regenerate with `python -m antiphon.cli.reference > docs/reference/commands.md`."""
    assert (REFERENCE / "commands.md").read_text() == document()

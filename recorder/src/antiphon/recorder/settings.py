"""What the recorder needs to know, wherever it is used."""

import os
from pathlib import Path

from pydantic import Field

from antiphon.chassis.settings import NatsSettings, load


def _state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "antiphon" / "journals"


class RecorderSettings(NatsSettings):
    """Say where the broker is, and where to write down what is not yet there."""

    journal_dir: Path = Field(default_factory=_state_dir, validation_alias="ANTIPHON_JOURNAL_DIR")


def recorder_settings() -> RecorderSettings:
    """Read the recorder's settings from the environment."""
    return load(RecorderSettings)

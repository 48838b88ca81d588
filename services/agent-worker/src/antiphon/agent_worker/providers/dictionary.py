"""The words that the offline recogniser can hear."""

from functools import cache
from pathlib import Path

from pocketsphinx import get_model_path

ACOUSTIC_MODEL = get_model_path("en-us/en-us")
DICTIONARY = get_model_path("en-us/cmudict-en-us.dict")


@cache
def known_words() -> frozenset[str]:
    """Return every word of the pronunciation dictionary; read once per process."""
    lines = Path(DICTIONARY).read_text(encoding="utf-8").splitlines()
    return frozenset(line.partition(" ")[0] for line in lines)

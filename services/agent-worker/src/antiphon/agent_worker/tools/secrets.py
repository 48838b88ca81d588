"""Named secrets: {secret.NAME} in a flow is the environment variable ANTIPHON_SECRET_NAME, or a file.

The file is the one that ANTIPHON_SECRET_NAME_FILE names, as it is when a call begins.
"""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from antiphon.agent_worker.flow.url import SECRET
from antiphon.chassis.secret_files import SUFFIX, secret_or_none

PREFIX = "ANTIPHON_SECRET_"
SHORTEST = 4  # characters of a secret that is hidden in texts: a shorter one is part of any text
HIDDEN = "***"


class Secrets(Mapping[str, str]):
    """The secrets of an environment, by `secret.NAME`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        names = {name.removesuffix(SUFFIX) for name in environment if name.startswith(PREFIX)}
        self._values = {
            SECRET + name.removeprefix(PREFIX): value
            for name in names
            if (value := secret_or_none(environment, name)) is not None
        }
        forms = {form for value in self._values.values() for form in _forms(value)}
        longest_first = sorted(map(re.escape, forms), key=len, reverse=True)
        self._forms = re.compile("|".join(longest_first)) if longest_first else None

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({sorted(self._values)})"

    def hide(self, text: str) -> str:
        """Return a text without the secrets that are in it."""
        return text if self._forms is None else self._forms.sub(HIDDEN, text)


def _forms(value: str) -> Iterator[str]:
    if len(value) < SHORTEST:
        return
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    yield quote(value)
    yield quote_plus(value)
    yield repr(value)[1:-1]

"""LiveKit's API keys: the one to sign with, and those that webhooks may be signed with.

Each line of the two files is a pair: the first one signs, the others are still accepted.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.secret_files import SUFFIX, InvalidSecretFile, read_secret

log = get_logger(__name__)

KEY = "LIVEKIT_API_KEY"
SECRET = "LIVEKIT_API_SECRET"  # noqa: S105 - a name
KEY_FILE, SECRET_FILE = f"{KEY}{SUFFIX}", f"{SECRET}{SUFFIX}"
LOOK_AGAIN_SECONDS = 1.0
MOST_PAIRS = 10
READS = 3  # of both files, until a change between the two is over


class KeyPair(NamedTuple):
    """An API key and its secret."""

    key: str
    secret: str

    def __repr__(self) -> str:
        return f"<KeyPair {self.key}>"


class LiveKitKeys:
    """The API keys of a LiveKit server, given or in files, which are read again at most once a second.

    Files that cannot be used later are logged, and what they held before stays in use.
    Raises InvalidSecretFile at the start.
    """

    def __init__(
        self,
        key: str,
        secret: str,
        *,
        key_file: Path | None = None,
        secret_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = (key, secret)
        self._files = (key_file, secret_file)
        self._clock = clock
        self._problem = ""
        self._pairs = self._read()
        self._looked_at = clock()

    @property
    def current(self) -> KeyPair:
        """The pair to sign with."""
        return self.accepted[0]

    @property
    def accepted(self) -> tuple[KeyPair, ...]:
        """The pairs that signatures of LiveKit may be made with, the one to sign with first."""
        if self._files != (None, None) and (now := self._clock()) >= self._looked_at + LOOK_AGAIN_SECONDS:
            self._looked_at = now
            self._look()
        return self._pairs

    def _look(self) -> None:
        try:
            found = self._read()
        except InvalidSecretFile as error:
            if str(error) != self._problem:  # once for each mistake
                self._problem = str(error)
                log.warning("livekit.keys_invalid", extra={"error": self._problem, "used": "the earlier"})
            return
        self._problem = ""
        if found != self._pairs:
            self._pairs = found
            log.info("livekit.keys_changed", extra={"keys": [pair.key for pair in found]})

    def _read(self) -> tuple[KeyPair, ...]:
        given, files = self._given, self._files
        for _ in range(READS):
            keys = _lines(KEY_FILE, files[0], given[0])
            secrets = _lines(SECRET_FILE, files[1], given[1])
            if keys == _lines(KEY_FILE, files[0], given[0]):
                break
        if len(keys) != len(secrets) or len(keys) > MOST_PAIRS:
            raise InvalidSecretFile(
                f"{KEY} has {len(keys)} lines and {SECRET} has {len(secrets)}: each line of one belongs to "
                f"the same line of the other, and {MOST_PAIRS} are the most"
            )
        return tuple(map(KeyPair, keys, secrets))


def _lines(variable: str, path: Path | None, given: str) -> list[str]:
    text = given if path is None else read_secret(variable, path)
    return [line.strip() for line in text.splitlines() if line.strip()]

import secrets
from pathlib import Path

import msgspec

from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit import Keys
from antiphon.cli.stack.private import write_private


class Credentials(msgspec.Struct, frozen=True):
    """The secrets of one stack, made once and kept in its folder."""

    api_key: str
    livekit_api_key: str
    livekit_api_secret: str

    @property
    def livekit(self) -> Keys:
        """The pair for LiveKit."""
        return Keys(self.livekit_api_key, self.livekit_api_secret)


def credentials_of(settings: StackSettings) -> Credentials:
    """Return the stack's secrets, with the keys of the LiveKit server that it uses."""
    own = _kept(settings.home / "credentials.json")
    given = settings.livekit_keys
    if given is None:
        return own
    return msgspec.structs.replace(own, livekit_api_key=given.key, livekit_api_secret=given.secret)


def _kept(path: Path) -> Credentials:
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    livekit = Keys.generate()
    made = Credentials(f"ak_{secrets.token_urlsafe(24)}", livekit.key, livekit.secret)
    write_private(path, msgspec.json.encode(made).decode())
    return made

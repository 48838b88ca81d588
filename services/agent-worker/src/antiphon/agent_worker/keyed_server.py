"""The key of LiveKit as it is now: an AgentServer connects with it, and the requests of a job have it."""

from collections.abc import MutableMapping
from typing import Any

from livekit.agents import AgentServer

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.livekit_keys import KEY, KEY_FILE, SECRET, SECRET_FILE, LiveKitKeys

FILES = {KEY: KEY_FILE, SECRET: SECRET_FILE}


class KeyedServer(AgentServer):
    """An AgentServer whose key may change: each connection to LiveKit is signed with the current one."""

    def __init__(self, keys: LiveKitKeys, **options: Any) -> None:
        self._keys = keys
        super().__init__(api_key=keys.current.key, api_secret=keys.current.secret, **options)

    # AgentServer keeps what it was given at the start, and reads the two whenever it connects
    @property
    def _api_key(self) -> str:
        return self._keys.current.key

    @_api_key.setter
    def _api_key(self, _: str) -> None:
        pass

    @property
    def _api_secret(self) -> str:
        return self._keys.current.secret

    @_api_secret.setter
    def _api_secret(self, _: str) -> None:
        pass


def forget_keys_of_files(environment: MutableMapping[str, str]) -> None:
    """Remove the key that AgentServer has exported to its processes, if a file has it: it may be old."""
    for name, file in FILES.items():
        if environment.get(file):
            environment.pop(name, None)


def export_keys(settings: AgentSettings, environment: MutableMapping[str, str]) -> None:
    """Export the key that was just read, for the requests of this job: LiveKit reads the environment."""
    environment[KEY] = settings.livekit_api_key
    environment[SECRET] = settings.livekit_api_secret

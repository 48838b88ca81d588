from urllib.parse import urlsplit

import msgspec

from antiphon.cli.home import supervisor_of
from antiphon.cli.settings import StackSettings
from antiphon.cli.supervisor.state import Addresses, ServiceState, State, addresses_of, read_state

SECRETS = ("api_key", "livekit_api_secret")
URLS = ("nats_url", "postgres_dsn")  # which may hold a password
SHOWN = ("name", "pid", "ready", "detail", "restarts")  # of a service


class Status(msgspec.Struct, frozen=True):
    """The status of a stack."""

    addresses: Addresses
    services: list[ServiceState]

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        return bool(self.services) and all(service.ready for service in self.services)

    def as_json(self, *, secrets: bool = False) -> str:
        """Return the document that `antiphon status --json` prints; without secrets they are null."""
        addresses = msgspec.structs.asdict(self.addresses)
        if not secrets:
            addresses |= dict.fromkeys(SECRETS)
            addresses |= {name: _without_password(addresses[name]) for name in URLS}
        services = [{name: getattr(service, name) for name in SHOWN} for service in self.services]
        document = {**addresses, "services": services}
        return msgspec.json.format(msgspec.json.encode(document)).decode()


def _without_password(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}" if ":" in user else host).geturl()


def status_of(settings: StackSettings) -> Status:
    """Return the current status of a stack, from its state file."""
    state = read_state(settings.home)
    if state is None:
        return Status(addresses_of(settings), [])
    if state.supervisor_pid == supervisor_of(settings.home):
        return Status(state.addresses, state.services)
    return Status(
        state.addresses,
        [ServiceState(service.name, restarts=service.restarts) for service in state.services],
    )


def live_state(settings: StackSettings) -> State | None:
    """Return the state of a stack whose supervisor is alive and has written it, else None."""
    supervisor = supervisor_of(settings.home)
    state = read_state(settings.home)
    return state if state and state.supervisor_pid == supervisor else None

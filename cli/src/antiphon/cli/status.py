import msgspec

from antiphon.cli.home import is_locked
from antiphon.cli.settings import StackSettings
from antiphon.cli.supervisor.state import Addresses, ServiceState, State, addresses_of, read_state


class ServiceStatus(msgspec.Struct, frozen=True):
    """The status of one service."""

    name: str
    pid: int | None
    ready: bool
    detail: str
    restarts: int


class Status(msgspec.Struct, frozen=True):
    """The status of a stack."""

    addresses: Addresses
    services: list[ServiceStatus]

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        return bool(self.services) and all(service.ready for service in self.services)

    def as_json(self) -> str:
        """Return the document that `antiphon status --json` prints."""
        document = {**msgspec.structs.asdict(self.addresses), "services": self.services}
        return msgspec.json.format(msgspec.json.encode(document)).decode()


def status_of(settings: StackSettings) -> Status:
    """Return the current status of a stack, from its state file."""
    state = read_state(settings.home)
    if state is None:
        return Status(addresses_of(settings), [])
    alive = is_locked(settings.home)
    return Status(state.addresses, [_status(service, alive) for service in state.services])


def _status(service: ServiceState, alive: bool) -> ServiceStatus:
    if not alive:
        return ServiceStatus(service.name, None, False, "not running", service.restarts)
    return ServiceStatus(service.name, service.pid, service.ready, service.detail, service.restarts)


def live_state(settings: StackSettings) -> State | None:
    """Return the state of a stack whose supervisor is alive, else None."""
    return read_state(settings.home) if is_locked(settings.home) else None

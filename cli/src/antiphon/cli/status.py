import msgspec

from antiphon.cli.settings import StackSettings
from antiphon.cli.supervisor.addresses import Addresses, addresses_of
from antiphon.cli.supervisor.lock import is_locked
from antiphon.cli.supervisor.state import ServiceState, State, read_state


class ServiceStatus(msgspec.Struct, frozen=True):
    """How one service is."""

    name: str
    pid: int | None
    ready: bool
    detail: str
    restarts: int


class Status(msgspec.Struct, frozen=True):
    """How a stack is, for machines and for people."""

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
    """Look how the stack is at this moment."""
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
    """Return the state of a stack whose supervisor is alive."""
    return read_state(settings.home) if is_locked(settings.home) else None

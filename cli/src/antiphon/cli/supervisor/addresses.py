import msgspec

from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.ports import LOOPBACK

EVERYWHERE = ("0.0.0.0", "::")


class Addresses(msgspec.Struct, frozen=True):
    """Where everything of one stack is, and what opens it; what was not made yet is None."""

    home: str
    api_url: str
    api_key: str | None
    webhooks_url: str
    livekit_url: str
    livekit_api_key: str | None
    livekit_api_secret: str | None
    nats_url: str
    postgres_dsn: str | None


def addresses_of(settings: StackSettings) -> Addresses:
    """Return where a stack with these settings will be."""
    return Addresses(
        home=str(settings.home),
        api_url=f"http://{reachable(settings.api_host)}:{settings.api_port}",
        api_key=None,
        webhooks_url=f"http://{reachable(settings.webhooks_host)}:{settings.webhooks_port}",
        livekit_url=settings.livekit_url or f"ws://{LOOPBACK}:{settings.livekit_port}",
        livekit_api_key=settings.livekit_api_key,
        livekit_api_secret=settings.livekit_api_secret,
        nats_url=f"nats://{LOOPBACK}:{settings.nats_port}",
        postgres_dsn=None,
    )


def reachable(host: str) -> str:
    """Return an address at which a server that binds this one can be reached from here."""
    if host in EVERYWHERE:
        return LOOPBACK
    return f"[{host}]" if ":" in host else host

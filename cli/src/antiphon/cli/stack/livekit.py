import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import yaml
from livekit import api

from antiphon.cli.stack import child
from antiphon.cli.stack.child import Command
from antiphon.cli.stack.ports import LOOPBACK, free_port
from antiphon.cli.stack.private import write_private

# on the first signal it waits for every participant to leave, and at times for ever; the second one ends it
INSISTENT = (signal.SIGTERM, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Keys:
    """The pair that signs a LiveKit server's tokens and webhooks."""

    key: str
    secret: str

    @classmethod
    def generate(cls) -> "Keys":
        """Make a new pair; the secret is longer than the 32 characters that LiveKit asks for."""
        return cls(key=f"API{secrets.token_hex(6)}", secret=secrets.token_urlsafe(36))


class LiveKitServer:
    """One livekit-server, bound to loopback, that tells its webhooks to one address."""

    def __init__(
        self,
        directory: Path,
        *,
        program: Path,
        keys: Keys,
        port: int | None = None,
        udp_port: int | None = None,
        webhook_url: str | None = None,
        output: Path | None = None,
    ) -> None:
        self.directory = directory
        self.program = program
        self.keys = keys
        self.port = port or free_port()
        self.udp_port = udp_port or free_port()
        self.webhook_url = webhook_url
        self.output = output or directory / "livekit.log"
        self.process: Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for participants and workers."""
        return f"ws://{LOOPBACK}:{self.port}"

    def prepare(self) -> Command:
        """Write the configuration and return how to start the server."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.directory / "livekit.yaml"
        write_private(config, yaml.safe_dump(self._config(), sort_keys=False))
        # LIVEKIT_CONFIG, LIVEKIT_KEYS and NODE_IP of the user's would win over the file
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVEKIT_") and k != "NODE_IP"}
        return Command(
            argv=(str(self.program), "--config", str(config)),
            environment=environment,
            directory=self.directory,
            stop_signals=INSISTENT,
            stop_seconds=5,
            orphan_signal=signal.SIGKILL,
        )

    def ready(self) -> bool:
        """Whether the server answers a request signed with our keys."""
        return answers(self.url, self.keys)

    def start(self, *, timeout_seconds: float = 20.0) -> None:
        """Start the server and wait until it answers."""
        command = self.prepare()
        self.process = child.spawn(command, self.output)
        child.wait_until_ready(
            "LiveKit", self.process, self.ready, self.output, timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Stop the server; participants that stay do not hold it for longer than a moment."""
        if self.process:
            child.stop(self.process, INSISTENT, patience_seconds=5)

    def kill(self) -> None:
        """End the server as a crash would."""
        if self.process:
            child.kill(self.process)

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = {
            "port": self.port,
            "bind_addresses": [LOOPBACK],
            "rtc": {
                "tcp_port": 0,  # its listener would bind every interface
                "udp_port": self.udp_port,
                "node_ip": LOOPBACK,  # named, so that no outside server is asked for it
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "ips": {"includes": [f"{LOOPBACK}/32"]},
            },
            "keys": {self.keys.key: self.keys.secret},
            "room": {"auto_create": True, "empty_timeout": 300, "departure_timeout": 20},
            # a busy small machine must not lose a call: load never makes a worker unwanted
            "agents": {"target_load": 1000},
            # "info" would write a line for each look at its readiness
            "logging": {"level": "warn", "json": True},
        }
        if self.webhook_url:
            config["webhook"] = {
                "api_key": self.keys.key,
                "urls": [self.webhook_url],
                # a receiver that restarts must find its events waiting
                "resource_url_notifier": {"max_age": "5m", "max_depth": 10000},
            }
        return config


def answers(url: str, keys: Keys) -> bool:
    """Whether the LiveKit server at this address accepts these keys."""
    grants = api.VideoGrants(room_list=True)
    token = api.AccessToken(keys.key, keys.secret).with_grants(grants).to_jwt()
    address = url.replace("ws", "http", 1).rstrip("/") + "/twirp/livekit.RoomService/ListRooms"
    try:
        answer = httpx.post(address, json={}, headers={"Authorization": f"Bearer {token}"}, timeout=5.0)
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK

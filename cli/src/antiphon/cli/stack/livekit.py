import os
import secrets
import signal
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from subprocess import Popen

import jwt
import yaml

from antiphon.chassis.settings import http_url
from antiphon.cli.home import write_private
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import process
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.probe import HttpClient, NoResponse
from antiphon.cli.stack.process import Command

# the first makes it wait for participants to leave, possibly without end; the second makes it exit
STOP_SIGNALS = (signal.SIGTERM, signal.SIGTERM)
TOKEN_SECONDS = 3600  # the clock of a server elsewhere may differ


@dataclass(frozen=True, slots=True)
class Keys:
    """The API key and secret of a LiveKit server."""

    key: str
    secret: str

    @classmethod
    def generate(cls) -> "Keys":
        """Generate a pair; the secret has more than the 32 characters that LiveKit requires."""
        return cls(key=f"API{secrets.token_hex(6)}", secret=secrets.token_urlsafe(36))


class LiveKitServer:
    """A livekit-server bound to loopback that sends its webhooks to one address."""

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
        self._client = client_of(self.url)

    @property
    def url(self) -> str:
        """The address for participants and workers."""
        return f"ws://{LOOPBACK}:{self.port}"

    def prepare(self) -> Command:
        """Write the configuration and return the command of the server."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.directory / "livekit.yaml"
        write_private(config, yaml.safe_dump(self._config(), sort_keys=False))
        # the user's LIVEKIT_CONFIG, LIVEKIT_KEYS and NODE_IP would override the file
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVEKIT_") and k != "NODE_IP"}
        return Command(
            argv=(str(self.program), "--config", str(config)),
            environment=environment,
            directory=self.directory,
            stop_signals=STOP_SIGNALS,
            stop_seconds=5,
            orphan_signal=signal.SIGKILL,
        )

    def ready(self) -> bool:
        """Return whether the server accepts a request signed with our keys."""
        return accepts_keys(self._client, self.keys)

    def start(self, *, timeout_seconds: float = 20.0) -> None:
        """Start the server and wait until it is ready."""
        command = self.prepare()
        self.process = process.spawn(command, self.output)
        process.wait_until_ready(
            "LiveKit", self.process, self.ready, self.output, timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Stop the server, without waiting for participants to leave."""
        if self.process:
            process.stop(self.process, STOP_SIGNALS, timeout_seconds=5)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.process:
            process.kill(self.process)

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = {
            "port": self.port,
            "bind_addresses": [LOOPBACK],
            "rtc": {
                "tcp_port": 0,  # off: its listener binds every interface
                "udp_port": self.udp_port,
                "node_ip": LOOPBACK,  # otherwise LiveKit queries a STUN server
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "ips": {"includes": [f"{LOOPBACK}/32"]},
            },
            "keys": {self.keys.key: self.keys.secret},
            "room": {"auto_create": True, "empty_timeout": 300, "departure_timeout": 20},
            # a busy machine must not refuse calls: no load excludes a worker
            "agents": {"target_load": 1000},
            # "info" logs every readiness probe
            "logging": {"level": "warn", "json": True},
        }
        if self.webhook_url:
            config["webhook"] = {
                "api_key": self.keys.key,
                "urls": [self.webhook_url],
                # queue webhooks while the receiver restarts
                "resource_url_notifier": {"max_age": "5m", "max_depth": 10000},
            }
        return config


def client_of(url: str) -> HttpClient:
    """Return a client of the LiveKit server at this address."""
    return HttpClient(http_url(url))


def accepts_keys(client: HttpClient, keys: Keys) -> bool:
    """Return whether the LiveKit server accepts these keys."""
    headers = {"Authorization": f"Bearer {_token(keys)}", "Content-Type": "application/json"}
    try:
        status, _ = client.request(
            "POST", "/twirp/livekit.RoomService/ListRooms", body=b"{}", headers=headers
        )
    except NoResponse:
        return False
    return status == HTTPStatus.OK


def _token(keys: Keys) -> str:
    # not with LiveKit's SDK, whose import is a third of the time that a supervisor takes to start
    now = int(time.time())
    claims = {"iss": keys.key, "nbf": now, "exp": now + TOKEN_SECONDS, "video": {"roomList": True}}
    return jwt.encode(claims, keys.secret, algorithm="HS256")

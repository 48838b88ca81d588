"""The processes of the stack, with their commands, environments, ports and probes."""

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from antiphon.chassis.livekit_keys import KEY, KEY_FILE, SECRET, SECRET_FILE, LiveKitKeys
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.secret_files import without_files_of
from antiphon.cli.proxies import reaching_loopback
from antiphon.cli.settings import LOOPBACK, StackSettings
from antiphon.cli.stack import disk, livekit
from antiphon.cli.stack.livekit import LiveKitServer
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.nats_users import Login, NatsUsers
from antiphon.cli.stack.ports import PortUse
from antiphon.cli.stack.postgres import Postgres
from antiphon.cli.stack.postgres_logins import PERSISTENCE, SESSION_API, PostgresLogins
from antiphon.cli.stack.probe import Probe, healthy, responds
from antiphon.cli.stack.process import Command
from antiphon.cli.supervisor.runner import Service
from antiphon.cli.supervisor.setup import Credentials, external_keys
from antiphon.cli.supervisor.state import Addresses, addresses_of

WEBHOOK_PATH = "/api/v1/webhooks/livekit"
STREAM_MAX_BYTES = "ANTIPHON_STREAM_MAX_BYTES"


class Plan:
    """The servers and services of one stack, in the order of their start."""

    def __init__(self, settings: StackSettings, credentials: Credentials, program: Path | None) -> None:
        self.settings = settings
        self.credentials = credentials
        self.logs = settings.home / "logs"
        nats = settings.home / "nats"
        self.nats_users = NatsUsers.stored(nats)
        self.nats = NatsServer(
            nats,
            port=settings.nats_port,
            output=self.logs / "nats.log",
            users=self.nats_users,
            max_store_bytes=disk.MAX_STORE_BYTES,
        )
        self.postgres = Postgres(
            settings.home / "postgres", port=settings.postgres_port, output=self.logs / "postgres.log"
        )
        self.logins = PostgresLogins.stored(settings.home / "postgres")
        self.livekit = self._livekit(program) if program else None

    def addresses(self) -> Addresses:
        """Return all addresses, with their keys."""
        return msgspec.structs.replace(
            addresses_of(self.settings),
            api_key=self.credentials.api_key,
            livekit_api_key=self.credentials.livekit_api_key,
            livekit_api_secret=self.credentials.livekit_api_secret,
            nats_url=self.nats_users.operator.url(self.nats.url),
            postgres_dsn=self.postgres.dsn,
        )

    @property
    def nats_access(self) -> NatsAccess:
        """The broker, with the login of the operator."""
        login = self.nats_users.operator
        return NatsAccess(url=self.nats.url, user=login.user, password=login.password)

    def infrastructure(self) -> tuple[Service, ...]:
        """Return the servers that the services need."""
        settings = self.settings
        nats = (PortUse(settings.nats_port, "NATS", "ANTIPHON_NATS_PORT"),)
        postgres = (PortUse(settings.postgres_port, "Postgres", "ANTIPHON_POSTGRES_PORT"),)
        found = [
            Service(
                "nats",
                self.nats.prepare,
                self.nats.fault,
                nats,
                self.nats.output,
                restart_cures=self.nats.restart_cures,
            ),
            Service(
                "postgres",
                self.postgres.prepare,
                responds(self.postgres.ready),
                postgres,
                self.postgres.output,
            ),
        ]
        if self.livekit:
            ports = (
                PortUse(settings.livekit_port, "LiveKit", "ANTIPHON_LIVEKIT_PORT"),
                PortUse(
                    settings.livekit_udp_port, "LiveKit media", "ANTIPHON_LIVEKIT_UDP_PORT", socket.SOCK_DGRAM
                ),
            )
            server = self.livekit
            found.append(Service("livekit", server.prepare, responds(server.ready), ports, server.output))
        return tuple(found)

    def services(self) -> tuple[Service, ...]:
        """Return the services of Antiphon."""
        settings, addresses = self.settings, addresses_of(self.settings)
        health = f"http://{LOOPBACK}:"
        port_of_persistence, port_of_agent = settings.persistence_health_port, settings.agent_health_port
        return (
            self._service(
                ("antiphon.persistence", "run"),
                f"{health}{port_of_persistence}",
                PortUse(port_of_persistence, "persistence", "ANTIPHON_PERSISTENCE_HEALTH_PORT"),
                self._database(PERSISTENCE) | self._stream_size(),
            ),
            self._service(
                ("antiphon.session_api",),
                addresses.api_url,
                PortUse(settings.api_port, "session-api", "ANTIPHON_API_PORT"),
                self._database(SESSION_API),
                PortUse(settings.api_metrics_port, "session-api's metrics", "ANTIPHON_API_METRICS_PORT"),
            ),
            self._service(
                ("antiphon.webhook_ingest",),
                addresses.webhooks_url,
                PortUse(settings.webhooks_port, "webhook-ingest", "ANTIPHON_WEBHOOKS_PORT"),
                {},
                PortUse(
                    settings.webhooks_metrics_port,
                    "webhook-ingest's metrics",
                    "ANTIPHON_WEBHOOKS_METRICS_PORT",
                ),
            ),
            self._service(
                ("antiphon.agent_worker", "run"),
                f"{health}{port_of_agent}",
                PortUse(port_of_agent, "agent-worker", "ANTIPHON_AGENT_HEALTH_PORT"),
                self._agent_variables(),
            ),
        )

    def _agent_variables(self) -> dict[str, str]:
        defaults = {
            # otherwise a busy machine refuses calls silently
            "ANTIPHON_AGENT_LOAD_THRESHOLD": "inf",
            # off: its watch for a blocked loop wakes up each job process 100 times a second, also at rest
            "LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS": "0",
            # `down` ends running calls after 5 s instead of 60 s
            "ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS": "5",
            # who has a key of this stack is at this machine: their flows may start programs
            "ANTIPHON_AGENT_MCP_COMMANDS": "true",
        }
        journal = {"ANTIPHON_JOURNAL_DIR": str(self.settings.home / "journal")}
        return journal | {name: os.environ.get(name, value) for name, value in defaults.items()}

    def _database(self, login: str) -> dict[str, str]:
        return {"ANTIPHON_POSTGRES_DSN": self.logins.dsn(self.postgres.dsn, login)}

    def _stream_size(self) -> dict[str, str]:
        fitting = str(disk.stream_bytes(self.nats.directory / "store"))
        return {STREAM_MAX_BYTES: os.environ.get(STREAM_MAX_BYTES, fitting)}

    def _livekit(self, program: Path) -> LiveKitServer:
        return LiveKitServer(
            self.settings.home / "livekit",
            program=program,
            keys=self.credentials.livekit,
            port=self.settings.livekit_port,
            udp_port=self.settings.livekit_udp_port,
            webhook_url=addresses_of(self.settings).webhooks_url + WEBHOOK_PATH,
            output=self.logs / "livekit.log",
        )

    def migrate(self) -> Command:
        """Return the command that migrates the database to the latest schema."""
        return self._command(
            ("antiphon.persistence", "migrate"),
            {"ANTIPHON_POSTGRES_DSN": self.postgres.dsn},
            self.nats_users.operator,
        )

    def make_logins(self) -> Command:
        """Return the command that makes the logins of the services."""
        owner = {"ANTIPHON_POSTGRES_DSN": self.postgres.dsn}
        return self._command(
            ("antiphon.persistence", *self.logins.arguments()),
            owner | self.logins.variables(),
            self.nats_users.operator,
        )

    def recreate_streams(self) -> Command:
        """Return the command that makes the stream of events again."""
        return self._command(
            ("antiphon.persistence", "streams", "recreate", "--replace"),
            {"ANTIPHON_POSTGRES_DSN": self.postgres.dsn} | self._stream_size(),
            self.nats_users.operator,
        )

    def publish_flows(self) -> Command:
        """Return the command that publishes the flow files."""
        return self._command(
            ("antiphon.agent_worker", "publish-flows", str(self.settings.flows)),
            {},
            self.nats_users.services["flow-publisher"],
        )

    def _service(
        self,
        module: tuple[str, ...],
        url: str,
        port: PortUse,
        variables: dict[str, str],
        metrics: PortUse | None = None,
    ) -> Service:
        """Return a service; `metrics` is a port that its metrics have of their own."""
        if metrics:
            variables = {**variables, "ANTIPHON_METRICS_PORT": str(metrics.number)}
        return Service(
            name=port.what,
            prepare=lambda: self._command(module, variables, self.nats_users.services[port.what]),
            probe=healthy(url),
            ports=(port, metrics) if metrics else (port,),
            output=self.logs / f"{port.what}.log",
        )

    def _livekit_keys(self) -> dict[str, str]:
        settings, keys = self.settings, self.credentials.livekit
        files = {KEY_FILE: settings.livekit_api_key_file, SECRET_FILE: settings.livekit_api_secret_file}
        if settings.livekit_url and all(files.values()):  # which services follow
            return {name: str(path) for name, path in files.items()}
        return {KEY: keys.key, SECRET: keys.secret}

    def _command(self, module: tuple[str, ...], extra: dict[str, str], login: Login) -> Command:
        variables = {
            **self.settings.environment(),
            "ANTIPHON_NATS_URL": self.nats.url,
            "ANTIPHON_NATS_USER": login.user,
            "ANTIPHON_NATS_PASSWORD": login.password,
            "LIVEKIT_URL": addresses_of(self.settings).livekit_url,
            **self._livekit_keys(),
            "PYTHONUNBUFFERED": "1",
            **extra,
        }
        # the stack's own broker has its own users
        inherited = {
            key: value
            for key, value in without_files_of(os.environ, {**variables, "ANTIPHON_POSTGRES_DSN": ""}).items()
            if key != "ANTIPHON_POSTGRES_DSN" and not key.startswith("ANTIPHON_NATS_")
        }
        return Command(
            argv=(sys.executable, "-m", *module),
            environment=reaching_loopback(inherited | variables, variables["LIVEKIT_URL"]),
            directory=self.settings.home,  # no file in it shadows a module
            stop_signals=(signal.SIGTERM,),
            stop_seconds=20.0,
        )


def external_livekit(settings: StackSettings) -> Probe:
    """Return the probe of the LiveKit server that the user runs."""
    given = external_keys(settings)
    if settings.livekit_url is None or given is None:
        raise ValueError("the stack runs its own LiveKit server")
    url = settings.livekit_url
    files = settings.livekit_api_key_file, settings.livekit_api_secret_file
    keys = LiveKitKeys(given.key, given.secret, key_file=files[0], secret_file=files[1])
    client = livekit.client_of(url)

    def probe() -> str | None:
        accepted = livekit.accepts_keys(client, livekit.Keys(*keys.current))
        return None if accepted else f"{url} does not accept these keys"

    return probe

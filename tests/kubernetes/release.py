"""The chart in a namespace of its own, with a real NATS, Postgres and LiveKit outside of the cluster."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from tests.fixtures.nats_servers import ConfiguredServer
from tests.kubernetes.chart import CHART, over
from tests.kubernetes.control_plane import CommandFailed, ControlPlane, wait_for
from tests.kubernetes.pod_environment import command_of, environment_of
from tests.kubernetes.pod_runner import PodRunner
from tests.kubernetes.service_names import ServiceNames

from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import process
from antiphon.cli.stack.livekit import Keys
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.postgres import Postgres
from antiphon.cli.stack.process import Command

NAME = "antiphon"  # of all releases; each has its own namespace
SECRETS = {"postgres": "antiphon-postgres", "livekit": "antiphon-livekit", "key": "antiphon-key"}
READY_SECONDS = 300.0
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ANY = {"type": "Percent", "value": 100}
Values = Mapping[str, Any]


@dataclass(slots=True)
class Release:
    """A release of the chart, and the servers that its services use."""

    plane: ControlPlane
    runner: PodRunner
    names: ServiceNames
    namespace: str
    folder: Path
    nats: ConfiguredServer
    monitoring: int
    dsn: str
    livekit_url: str
    livekit_keys: Keys
    api_key: str

    def values(self) -> dict[str, Any]:
        """Return the least values, to which tests add theirs."""
        return {
            "nats": {"url": self.nats.url, "monitoring": {"endpoint": f"{LOOPBACK}:{self.monitoring}"}},
            "postgres": {"existingSecret": SECRETS["postgres"]},
            "livekit": {"url": self.livekit_url, "existingSecret": SECRETS["livekit"]},
            "sessionApi": {"bootstrapKeySecret": SECRETS["key"]},
        }

    def install(self, values: Values | None = None, *options: str) -> None:
        """Install the chart and wait until all is ready. Raises CommandFailed."""
        self._helm("install", values, *options)

    def upgrade(self, values: Values | None = None, *options: str) -> None:
        """Upgrade to other values and wait until all is ready. Raises CommandFailed."""
        self._helm("upgrade", values, *options)

    def rendered(self, values: Values | None = None, *options: str) -> str:
        """Return what the chart makes of values, for this cluster. Raises CommandFailed."""
        file = self.write(values or {})
        return self.plane.helm(
            "template", NAME, str(CHART), *self._where(), f"--values={file}", "--validate", *options
        )

    def helm(self, *arguments: str) -> str:
        """Run a command of helm in the namespace. Raises CommandFailed."""
        return self.plane.helm(*arguments, *self._where())

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run a command of kubectl in the namespace. Raises CommandFailed."""
        return self.plane.kubectl(*arguments, *self._where(), text=text)

    def get(self, *arguments: str) -> Any:
        """Return objects of the namespace, as data."""
        return self.plane.get(*arguments, *self._where())

    def replicas(self, component: str) -> tuple[int, int]:
        """Return the wanted and the ready replicas of a Deployment."""
        found = self.get("deployment", f"{NAME}-{component}")
        return found["spec"]["replicas"], found["status"].get("readyReplicas", 0)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not being deleted."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def until_replicas(self, component: str, count: int, *, seconds: float = READY_SECONDS) -> float:
        """Wait until so many replicas are wanted and ready, and no other pod is there; return the seconds."""

        def reached() -> bool:
            return self.replicas(component) == (count, count) and len(self.pods(component)) == count

        try:
            return wait_for(f"{component} has {count} replicas", reached, seconds=seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.describe_scaling()}") from error

    def hurry(self, kind: str, component: str) -> None:
        """Let an autoscaler remove pods without the quiet time and the pace of production."""
        behavior = {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{**ANY, "periodSeconds": 1}]}}
        of_keda = {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}}
        spec = of_keda if kind == "scaledobject" else {"behavior": behavior}
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", kind, f"{NAME}-{component}", "--type=merge", "-p", patch)

    def describe_scaling(self) -> str:
        """Return what the autoscalers say of themselves, and the newest events."""
        said = self.kubectl("describe", "hpa")
        if "scaledobjects" in self.plane.kubectl("api-resources", "-o", "name"):
            said += self.kubectl("get", "scaledobjects", "-o", "yaml")
        return said + self.kubectl("get", "events")

    @contextmanager
    def service(self, component: str, **settings: str) -> Iterator[int]:
        """Run a service as a process until the block ends, as one of its pods describes it; return its port.

        It is ready, on loopback, and behind the name of its Service.
        """
        pod = self.pods(component)[0]
        container = pod["spec"]["containers"][0]
        with self.plane.client() as client:
            environment = environment_of(client, pod, container)
        port = free_port()
        served = str(container["ports"][0]["containerPort"])
        for name, value in list(environment.items()):
            if name.startswith("ANTIPHON_") and name.endswith("_PORT") and value == served:
                environment |= {name: str(port), name.removesuffix("_PORT") + "_HOST": LOOPBACK}
        output = self.folder / f"{component}.{port}.log"
        running = process.spawn(Command(command_of(container), environment | settings, self.folder), output)
        service = f"{NAME}-{component}.{self.namespace}"
        try:
            process.wait_until_ready(
                component, running, lambda: _is_ready(port), output, timeout_seconds=READY_SECONDS
            )
            self.names.ports[service] = port
            yield port
        finally:
            self.names.ports.pop(service, None)
            process.stop(running, [signal.SIGTERM], timeout_seconds=30)

    def query(self, statement: str) -> Any:
        """Return one value of the database."""

        async def ask() -> Any:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def create_namespace(self) -> None:
        """Create the namespace, whose pods are held to Pod Security "restricted", with the Secrets."""
        data = {
            SECRETS["postgres"]: {"dsn": self.dsn},
            SECRETS["livekit"]: {"api-key": self.livekit_keys.key, "api-secret": self.livekit_keys.secret},
            SECRETS["key"]: {"api-key": self.api_key},
        }
        self.plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace, "labels": RESTRICTED},
            },
            *(_secret(name, self.namespace, values) for name, values in data.items()),
        )

    def delete_namespace(self) -> None:
        """Let the namespace be deleted with all that is in it, while the next tests run."""
        self.plane.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _helm(self, command: str, values: Values | None, *options: str) -> None:
        file = self.write(values or {})
        arguments = (
            NAME,
            str(CHART),
            *self._where(),
            f"--values={file}",
            "--wait",
            f"--timeout={READY_SECONDS:.0f}s",
        )
        try:
            self.plane.helm(command, *arguments, *options)
        except CommandFailed as error:
            ran = "\n".join(f"{run.name}: {run.code}\n{run.text()}" for run in self.runner.of(self.namespace))
            raise CommandFailed(f"{error}\n{ran}") from error

    def write(self, values: Values) -> Path:
        """Write a file of the least values and of these."""
        file = self.folder / f"values-{time.monotonic_ns()}.json"
        file.write_text(json.dumps(over(self.values(), values)))
        return file

    def _where(self) -> tuple[str, ...]:
        return ("--namespace", self.namespace)


def start_nats(folder: Path) -> tuple[ConfiguredServer, int]:
    """Start a NATS server whose monitoring KEDA can read; return it and the port of its monitoring."""
    monitoring = free_port()
    server = ConfiguredServer(folder, f'http: "{LOOPBACK}:{monitoring}"\n')
    server.start(timeout_seconds=READY_SECONDS)
    return server, monitoring


def create_database(postgres: Postgres, name: str) -> str:
    """Create an empty database and return its DSN."""

    async def create() -> None:
        connection = await asyncpg.connect(postgres.dsn_of("postgres"))
        try:
            await connection.execute(f'create database "{name}"')
        finally:
            await connection.close()

    asyncio.run(create())
    return postgres.dsn_of(name)


def _secret(name: str, namespace: str, values: Mapping[str, str]) -> dict[str, Any]:
    where = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": where, "stringData": dict(values)}


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/health/ready", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False

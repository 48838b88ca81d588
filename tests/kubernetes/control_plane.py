"""A Kubernetes control plane on loopback: real servers, fake nodes, KEDA and metrics.

etcd, the API server, the controllers, the scheduler, KEDA and metrics-server are those of a cluster. The
nodes are KWOK's: their pods turn Running, and no container runs. Each control plane has its own ports.
"""

import base64
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trustme
from tests.kubernetes.programs import Built

from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import process
from antiphon.cli.stack.ports import free_ports
from antiphon.cli.stack.process import Command

START_SECONDS = 300.0
STOP_SECONDS = 5.0  # for each of the clients; the servers are killed: nothing that they hold is kept
CALL_SECONDS = 180.0  # for a command of kubectl, unless told
POLL_SECONDS = 0.1
STAGES = Path(__file__).with_name("stages.yaml")
ZONES = {"n1": "zone-a", "n2": "zone-b"}  # of the nodes
PORTS = (
    "etcd", "peers", "api", "controllers", "scheduler", "kwok", "keda-metrics", "keda-health", "keda-grpc",
    "adapter", "adapter-metrics", "metrics",
)  # fmt: skip
SERVED_AS = (
    "keda-metrics-apiserver.keda.svc",
    "metrics-server.kube-system.svc",
)
CONTROLLER_OPTIONS = (
    "--leader-elect=false",
    # on a busy machine a node may be late with its heartbeat: it is not ill
    "--node-monitor-grace-period=600s",
    # the default is 15 s: tests wait for it again and again
    "--horizontal-pod-autoscaler-sync-period=5s",
    # fake pods are at their level of use at once
    "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
)


class CommandFailed(Exception):
    """A command of kubectl or helm that failed, with what it printed."""


class ControlPlane:
    """The servers of a control plane, in a folder of their own."""

    def __init__(
        self, folder: Path, built: Built, *, proxy: str | None = None, autoscaling: bool = True
    ) -> None:
        self.folder = folder
        self.built = built
        self.proxy = proxy  # through which KEDA finds the names of Services
        self.autoscaling = autoscaling  # with KEDA and metrics
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.kubeconfig = folder / "admin.kubeconfig"
        self.url = f"https://{LOOPBACK}:{self.ports['api']}"
        self.token = secrets.token_hex(16)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed the API server's."""
        return self.folder / "pki" / "ca.crt"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that use the control plane as its administrator."""
        return os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.folder),
            "NO_PROXY": f"{LOOPBACK},localhost",
            "no_proxy": f"{LOOPBACK},localhost",
        }

    def start(self) -> None:
        """Start everything and wait until nodes, KEDA and metrics are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_certificates()
        self._start_servers()
        self._start_nodes()
        if self.autoscaling:
            self._start_keda_and_metrics()
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=240s", seconds=300)

    def stop(self) -> None:
        """End all processes, clients first: an API server with open watches waits for them a minute."""
        clients = [name for name in self._running if name not in ("etcd", "kube-apiserver")]
        for name in reversed(clients):
            self._running[name].send_signal(signal.SIGTERM)
        for name in reversed(clients):
            process.stop(self._running.pop(name), [signal.SIGTERM], timeout_seconds=STOP_SECONDS)
        for name in ("kube-apiserver", "etcd"):
            if name in self._running:
                process.kill(self._running.pop(name))

    def processes(self) -> dict[str, int]:
        """Return the names and ids of the running processes."""
        return {name: running.pid for name, running in self._running.items() if running.poll() is None}

    def client(self) -> httpx.Client:
        """Return a client of the API server, as its administrator."""
        return httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(self.authority)),
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
            trust_env=False,
        )

    def kubectl(self, *arguments: str, text: str | None = None, seconds: float = CALL_SECONDS) -> str:
        """Run kubectl and return what it prints. Raises CommandFailed."""
        return self._run("kubectl", arguments, text, seconds)

    def helm(self, *arguments: str, seconds: float = 420.0) -> str:
        """Run helm and return what it prints. Raises CommandFailed."""
        return self._run("helm", arguments, None, seconds)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get` says of these, as data."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", text=json.dumps(document))

    def _run(self, program: str, arguments: tuple[str, ...], text: str | None, seconds: float) -> str:
        command = [str(self.built.path(program)), *arguments]
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self.environment,
            cwd=self.folder,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{program} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _start(self, name: str, *options: str, **environment: str) -> None:
        log = self.folder / f"{name}.log"
        argv = (str(self.built.path(name)), *options)
        self._running[name] = process.spawn(Command(argv, self.environment | environment, self.folder), log)

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        log = self.folder / f"{name}.log"
        process.wait_until_ready(name, self._running[name], ready, log, timeout_seconds=START_SECONDS)

    def _write_certificates(self) -> None:
        """Write one authority, and one certificate: it serves all, and signs service accounts' tokens."""
        pki = self.folder / "pki"
        pki.mkdir(mode=0o700)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(pki / "ca.crt")
        issued = authority.issue_cert(LOOPBACK, *SERVED_AS, common_name="front-proxy")
        issued.cert_chain_pems[0].write_to_path(pki / "tls.crt")
        issued.private_key_pem.write_to_path(pki / "tls.key")
        (pki / "tokens").write_text(f"{self.token},admin,1,system:masters\n")
        cluster = {"server": self.url, "certificate-authority": str(pki / "ca.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
        self.kubeconfig.write_text(json.dumps(config))
        self.kubeconfig.chmod(0o600)

    def _start_servers(self) -> None:
        etcd = f"http://{LOOPBACK}:{self.ports['etcd']}"
        self._start(
            "etcd", "--data-dir=etcd", "--unsafe-no-fsync", f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}", f"--listen-peer-urls=http://{LOOPBACK}:{self.ports['peers']}",
        )  # fmt: skip
        self._start(
            "kube-apiserver", *self._serving(), f"--secure-port={self.ports['api']}",
            f"--etcd-servers={etcd}", "--token-auth-file=pki/tokens",
            "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-key-file=pki/tls.key", "--service-account-signing-key-file=pki/tls.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--requestheader-client-ca-file=pki/ca.crt", "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--proxy-client-cert-file=pki/tls.crt", "--proxy-client-key-file=pki/tls.key",
        )  # fmt: skip
        with self.client() as client:
            self._until("kube-apiserver", lambda: _answers(client, "/readyz"))
        self._start(
            "kube-controller-manager", *self._as_admin(), *CONTROLLER_OPTIONS,
            f"--bind-address={LOOPBACK}", f"--secure-port={self.ports['controllers']}",
            "--service-account-private-key-file=pki/tls.key", "--root-ca-file=pki/ca.crt",
        )  # fmt: skip
        self._start(
            "kube-scheduler", *self._as_admin(), "--leader-elect=false",
            f"--bind-address={LOOPBACK}", f"--secure-port={self.ports['scheduler']}",
        )  # fmt: skip

    def _start_nodes(self) -> None:
        files = ",".join(str(path) for path in (*self.built.files("kwok"), STAGES))
        self._start(
            "kwok", *self._as_admin(), "--manage-all-nodes=true", f"--config={files}",
            f"--node-ip={LOOPBACK}", f"--node-port={self.ports['kwok']}",
            f"--server-address={LOOPBACK}:{self.ports['kwok']}",
        )  # fmt: skip
        self.apply(*(_node(name, zone) for name, zone in ZONES.items()))

    def _start_keda_and_metrics(self) -> None:
        self.kubectl("create", "namespace", "keda")
        self.kubectl("apply", "--server-side", "-f", str(self.built.folder / "crds"))
        own = {"POD_NAMESPACE": "keda", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda", "WATCH_NAMESPACE": ""}
        through = {"HTTP_PROXY": self.proxy, "http_proxy": self.proxy} if self.proxy else {}
        grpc, health = f"{LOOPBACK}:{self.ports['keda-grpc']}", f"{LOOPBACK}:{self.ports['keda-health']}"
        self._start(
            "keda-operator", "--cert-dir=pki", f"--metrics-service-bind-address={grpc}",
            f"--health-probe-bind-address={health}",
            f"--metrics-bind-address={LOOPBACK}:{self.ports['keda-metrics']}", **own, **through,
        )  # fmt: skip
        with httpx.Client(base_url=f"http://{health}", trust_env=False) as client:
            self._until("keda-operator", lambda: _answers(client, "/readyz"))
        authorised = (
            "--authentication-kubeconfig=admin.kubeconfig", "--authorization-kubeconfig=admin.kubeconfig"
        )  # fmt: skip
        self._start(
            "keda-adapter", *self._serving(), *authorised, "--lister-kubeconfig=admin.kubeconfig",
            "--cert-dir=pki", f"--secure-port={self.ports['adapter']}", f"--metrics-service-address={grpc}",
            f"--port={self.ports['adapter-metrics']}", **own,
        )  # fmt: skip
        self._start(
            "metrics-server", *self._serving(), *authorised, *self._as_admin(),
            f"--secure-port={self.ports['metrics']}", "--kubelet-insecure-tls",
            "--kubelet-use-node-status-port", "--metric-resolution=10s", "--kubelet-request-timeout=5s",
        )  # fmt: skip
        served = {
            "keda-adapter": ("external.metrics.k8s.io", SERVED_AS[0], "adapter"),
            "metrics-server": ("metrics.k8s.io", SERVED_AS[1], "metrics"),
        }
        for group, host, port in served.values():
            name, namespace, _ = host.split(".")
            self.apply(*_served(group, name, namespace, self.ports[port], self.authority))
        for program, (group, _, _) in served.items():
            self._until(program, partial(self._is_available, group))

    def _is_available(self, group: str) -> bool:
        api = self.get("apiservice", f"v1beta1.{group}")
        conditions = {each["type"]: each["status"] for each in api.get("status", {}).get("conditions", ())}
        return conditions.get("Available") == "True"

    def _as_admin(self) -> tuple[str, ...]:
        return (f"--kubeconfig={self.kubeconfig}",)

    def _serving(self) -> tuple[str, ...]:
        return (
            "--tls-cert-file=pki/tls.crt", "--tls-private-key-file=pki/tls.key", f"--bind-address={LOOPBACK}"
        )  # fmt: skip


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float = 240.0) -> float:
    """Wait until a condition is true and return the seconds that it took. Raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"after {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _node(name: str, zone: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": zone,
    }
    annotations = {"metrics.k8s.io/resource-metrics-path": f"/metrics/nodes/{name}/metrics/resource"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "200"}},
    }


def _served(group: str, name: str, namespace: str, port: int, authority: Path) -> tuple[dict[str, Any], ...]:
    """Return an API group that a process on loopback serves, and the Service that leads to it."""
    where = {"name": name, "namespace": namespace}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": where,
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    spec = {
        "group": group,
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "caBundle": base64.b64encode(authority.read_bytes()).decode(),
        "service": {**where, "port": port},
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{group}"},
        "spec": spec,
    }
    return service, api

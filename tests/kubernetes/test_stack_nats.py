"""The NATS of the whole stack: a real server with the accounts of the chart and the Secrets of its page."""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.locked_nats import may_publish, may_subscribe
from tests.fixtures.nats_servers import READY_SECONDS, ConfiguredServer
from tests.kubernetes.chart import KEDA, ROOT, Refused, containers, objects, pods, template
from tests.kubernetes.test_chart_stack import OPERATOR, shown, stack

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.nats_config import accounts, variable_of
from antiphon.chassis.nats_users import LOG_ACCOUNT, SERVICES, SUPERVISOR
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import nats_probe
from antiphon.cli.stack.nats_users import Login
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.process import Command
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PROBE

__all__ = ["stack"]  # the fixture

PAGE = (ROOT / "docs" / "how-to" / "run-on-kubernetes.md").read_text()
STREAM_BYTES = 64 << 20


def secrets_of_the_page() -> dict[str, dict[str, str]]:
    """Return what the loop of the page makes."""
    [names] = re.findall(r"^for user in (.+); do$", PAGE, re.MULTILINE)
    return {
        f"antiphon-nats-{name}": {"user": name, "password": f"n{name.encode().hex()}"}
        for name in names.split()
    }


def as_the_chart_of_nats_writes_it(config: dict[str, Any]) -> str:
    """Return its nats.conf: JSON, where `<< … >>` loses its quotes and `$include` is a directive."""
    text = re.sub(r'"\$include": "(.*)",?', r"include \1;", json.dumps(config, indent=2))
    return re.sub(r'"<<\s+(.*?)\s+>>"', r"\1", text)


def files_of(rendered: str) -> dict[str, str]:
    """Return what is mounted into the servers."""
    [found] = [
        each["data"]
        for each in objects(rendered)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "antiphon-nats-users"
    ]
    return dict(found)


def users_conf(rendered: str) -> str:
    """Return the accounts and users of the servers."""
    return files_of(rendered)["users.conf"]


class StackServer(ConfiguredServer):
    """One of the servers of the chart, started as its container starts it."""

    def __init__(self, directory: Path, rendered: str, config: dict[str, Any] | None = None) -> None:
        super().__init__(directory, "")
        self.monitor = free_port()
        self.rendered = rendered
        self.values = shown(rendered)["nats"]
        self.files = files_of(rendered)
        self._config = config or {}

    def environment(self) -> dict[str, str]:
        """Return the variables of the container, with the Secrets of the page."""
        found = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
        secrets = secrets_of_the_page()
        for name, value in sorted(self.values["container"]["env"].items()):
            if isinstance(value, str):
                # Kubernetes knows those that come before it
                found[name] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
            else:
                reference = value["valueFrom"]["secretKeyRef"]
                found[name] = secrets[reference["name"]][reference["key"]]
        return found

    def prepare(self) -> Command:
        """Write the files of the two ConfigMaps."""
        for folder in ("nats-config", "nats-users"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        store = self.directory / "store"
        for name, text in self.files.items():
            (self.directory / "nats-users" / name).write_text(text.replace("/data/", f"{store}/"))
        jetstream = self.values["config"]["jetstream"]
        config = {
            "listen": f"{LOOPBACK}:{self.port}",
            "http": f"{LOOPBACK}:{self.monitor}",
            "jetstream": {
                "store_dir": str(store),
                "max_file_store": f"<< {jetstream['fileStore']['pvc']['size']} >>",
                "max_memory_store": f"<< {jetstream['memoryStore']['maxSize']} >>",
            },
        }
        whole = as_the_chart_of_nats_writes_it(config | self._config | self.values["config"]["merge"])
        (self.directory / "nats-config" / "nats.conf").write_text(whole)
        [shell, start] = self.values["container"]["merge"]["command"]
        mount = self.values["container"]["patch"][0]["value"]["mountPath"]
        script = start.replace(mount, str(self.directory / "nats-users"))
        return Command(
            (shell, script, "--config", "nats-config/nats.conf"), self.environment(), self.directory
        )


@pytest.fixture(scope="module")
def rendered(stack: Path) -> str:
    values = {"flows": {"files": {"a.yaml": "id: a"}}, "persistence": {"autoscaling": {"enabled": True}}}
    one = {"config": {"cluster": {"enabled": False}}}  # what is of three servers, the other tests show
    return template({"antiphon": values, "nats": one}, chart=stack, apis=(*OPERATOR, KEDA))


@pytest.fixture(scope="module")
def server(rendered: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackServer]:
    """A server whose stream was made by a release without accounts."""
    folder = tmp_path_factory.mktemp("stack-nats")
    before = ConfiguredServer(folder, "")
    before.start()
    try:
        asyncio.run(_make_stream(before))
    finally:
        before.stop()
    server = StackServer(folder, rendered)
    server.launch()
    yield server
    server.stop()


async def _make_stream(server: ConfiguredServer) -> None:
    bus = await server.connect(server.url)
    await bus.ensure(max_bytes=STREAM_BYTES)
    await bus.connection.request(PROBE, b"kept")
    await bus.close()


def logins(rendered: str) -> dict[str, str]:
    """Return the Secret with the login of NATS of each container that has one."""
    return {
        container["name"]: variable["valueFrom"]["secretKeyRef"]["name"]
        for _, pod in pods([each for each in objects(rendered) if "labels" in each["metadata"]])
        for container in containers(pod)
        for variable in container.get("env", ())
        if variable["name"] == "ANTIPHON_NATS_PASSWORD"
    }


async def connect(server: StackServer, secret: str) -> Bus:
    """Connect with a Secret; the server may still start."""
    login = secrets_of_the_page()[secret]
    access = NatsAccess(url=server.url, user=login["user"], password=login["password"])
    async with asyncio.timeout(READY_SECONDS):
        while True:
            assert server.process is not None
            assert server.process.poll() is None, server.output.read_text()
            with suppress(BusUnavailable):
                return await Bus.connect(access, name=login["user"], connect_timeout_seconds=2.0)
            await asyncio.sleep(0.1)


@pytest.fixture
async def buses(rendered: str, server: StackServer) -> AsyncIterator[dict[str, Bus]]:
    """The connection of each container, by its name, with its Secret."""
    found = {name: await connect(server, secret) for name, secret in logins(rendered).items()}
    yield found
    for bus in found.values():
        await bus.close()


def test_every_service_has_a_user_of_its_own(rendered: str) -> None:
    assert {name: secret.removeprefix("antiphon-nats-") for name, secret in logins(rendered).items()} == {
        "session-api": "session-api",
        "webhook-ingest": "webhook-ingest",
        "persistence": "persistence",
        "streams": "persistence",  # makes the stream before it starts
        "agent-worker": "agent-worker",
        "publish-flows": "flow-publisher",
        "fleet": "fleet",
    }


def test_the_page_makes_the_secret_of_each_user(server: StackServer) -> None:
    users = {"route"} | {user.name for account in accounts(SERVICES).values() for user in account.users}

    assert secrets_of_the_page().keys() == {f"antiphon-nats-{user}" for user in users}
    wanted = set(re.findall(r"\$(NATS_[A-Z_]+)", server.files["users.conf"]))
    given = {variable_of(user).removeprefix("$"): user for user in users - {"route"}}
    assert wanted == given.keys()
    for variable, user in given.items():
        secret = {"name": f"antiphon-nats-{user}", "key": "password"}
        assert server.values["container"]["env"][variable] == {"valueFrom": {"secretKeyRef": secret}}


async def test_the_services_do_their_work_and_no_other(buses: dict[str, Bus]) -> None:
    # by the init container, on what one server had without accounts
    await buses["streams"].ensure(max_bytes=STREAM_BYTES)
    state = await buses["persistence"].stream_state()
    assert state is not None
    assert state.last >= 1
    await buses["session-api"].verify()
    for name in ("session-api", "webhook-ingest", "agent-worker"):
        await buses[name].publishable()

    for name, bus in buses.items():
        await bus.connection.round_trip()
        assert await may_publish(bus, "$KV.keys.forged") == (name == "session-api")
        assert not await may_publish(bus, "$JS.API.STREAM.DELETE.SESSIONS")
    assert not await may_subscribe(buses["agent-worker"], "sessions.>")


async def test_who_has_no_user_is_refused(server: StackServer, buses: dict[str, Bus]) -> None:
    for access in (server.url, NatsAccess(url=server.url, user="persistence", password="x")):
        with pytest.raises(BusUnavailable, match="Authorization Violation"):
            await Bus.connect(access, name="stranger", connect_timeout_seconds=5.0)


async def test_keda_reads_the_account_of_the_log(server: StackServer, buses: dict[str, Bus]) -> None:
    """The monitoring asks for no user: the exporter of the chart reads it too."""
    await buses["streams"].ensure(max_bytes=STREAM_BYTES)
    [scaled] = [each for each in objects(server.rendered) if each["kind"] == "ScaledObject"]
    asked = {trigger["metadata"]["account"] for trigger in scaled["spec"]["triggers"]}
    assert asked == {LOG_ACCOUNT}

    url = f"http://{LOOPBACK}:{server.monitor}/jsz?acc={LOG_ACCOUNT}&consumers=true&config=true"
    found = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read()))

    [account] = found["account_details"]
    [stream] = [each for each in account["stream_detail"] if each["name"] == SESSIONS.name]
    assert {trigger["metadata"]["consumer"] for trigger in scaled["spec"]["triggers"]} <= {
        each["name"] for each in stream["consumer_detail"]
    }


async def test_the_supervisor_asks_for_health(server: StackServer, buses: dict[str, Bus]) -> None:
    password = secrets_of_the_page()[f"antiphon-nats-{SUPERVISOR}"]["password"]

    assert nats_probe.fault(server.port, Login(SUPERVISOR, password)) is None


def run(command: Command, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder and environment of a server's container."""
    return subprocess.run(
        argv,
        cwd=command.directory,
        env=dict(command.environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_servers_let_each_other_in_by_password(server: StackServer, tmp_path: Path) -> None:
    cluster = StackServer(tmp_path, server.rendered, {"cluster": server.values["config"]["cluster"]["merge"]})
    command = cluster.prepare()
    routes = json.loads(command.environment["NATS_ROUTES"])
    password = secrets_of_the_page()["antiphon-nats-route"]["password"]

    assert routes == [
        f"nats://route:{password}@antiphon-nats-{number}.antiphon-nats-headless:6222" for number in range(3)
    ]
    done = run(command, ["nats-server", "-t", *command.argv[2:]])
    assert done.returncode == 0, done.stderr


def test_a_server_of_a_cluster_without_accounts_does_not_start(server: StackServer, tmp_path: Path) -> None:
    old = StackServer(tmp_path, server.rendered)
    command = old.prepare()
    for account in ("$G", "$SYS"):
        (tmp_path / "store" / "jetstream" / account).mkdir(parents=True)

    done = run(command, command.argv)

    assert done.returncode == 1
    assert "from a release without NATS accounts" in done.stderr
    assert {each.name for each in (tmp_path / "store" / "jetstream").iterdir()} == {"$G", "$SYS"}


@pytest.mark.parametrize(
    ("config", "bytes_of_all"),
    [
        ({}, 54 << 30),
        ({"jetstream": {"fileStore": {"pvc": {"size": "1Ti"}}}}, (1 << 40) * 3 * 9 // 10),
        ({"cluster": {"enabled": False}}, 18 << 30),
    ],
    ids=["by default", "larger volumes", "one server"],
)
def test_the_account_takes_nine_tenths_of_the_volumes(
    stack: Path,
    config: dict[str, Any],
    bytes_of_all: int,
) -> None:
    text = template({"nats": {"config": config}}, chart=stack, apis=OPERATOR)

    assert f"max_file: {bytes_of_all}," in users_conf(text)


def test_a_size_that_it_cannot_read_is_refused(stack: Path) -> None:
    config = {"jetstream": {"fileStore": {"pvc": {"size": "20000M"}}}}
    with pytest.raises(Refused, match=r"pvc\.size is 20000M, of which the limit of the account"):
        template({"nats": {"config": config}}, chart=stack, apis=OPERATOR)


def test_users_of_ones_own_take_their_place(stack: Path) -> None:
    text = template({"natsUsers": "accounts {}\n"}, chart=stack, apis=OPERATOR)

    assert users_conf(text) == "accounts {}\n"

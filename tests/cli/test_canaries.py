"""Services and commands that fail on real servers show no secret: not in logs, errors or arguments."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from tests.fixtures.certificates import Authority, put
from tests.fixtures.nats_servers import ConfiguredServer

from antiphon.cli.stack.ports import free_ports
from antiphon.cli.stack.postgres import Postgres

pytestmark = pytest.mark.embedded_servers

CANARY = "c4nary-0f-a-s3cret-that-nobody-may-see"
WAIT_SECONDS = 90.0
ENOUGH = 3  # lines of failures
FAILURES = ("error", "refuse", "_failed", "cannot")
SERVICES = (
    "antiphon.session_api",
    "antiphon.webhook_ingest",
    "antiphon.fleet",
    "antiphon.agent_worker run",
    "antiphon.persistence run",
)
COMMANDS = (
    "antiphon.persistence migrate",
    "antiphon.persistence status",
    "antiphon.persistence streams ensure",
    "antiphon.persistence verify",
    "antiphon.persistence backup --only log --to {home}/copy",
    "antiphon.agent_worker publish-flows {home}",
)
PORTS = (
    "ANTIPHON_API_PORT",
    "ANTIPHON_WEBHOOKS_PORT",
    "ANTIPHON_FLEET_PORT",
    "ANTIPHON_AGENT_HEALTH_PORT",
    "ANTIPHON_PERSISTENCE_HEALTH_PORT",
)
WAYS = ("refused", "another authority", "files")


class Servers:
    """A NATS and a Postgres that know other passwords, and an authority that signed neither."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        authority = Authority()
        cert, key = authority.issue(folder, "server")
        self.ca = authority.write(folder / "ca.pem")
        self.other = Authority().write(folder / "other.pem")
        tls = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\n'
        self.nats = ConfiguredServer(
            folder / "nats", f"{tls}authorization {{ user: ann, password: right }}\n"
        )
        self.nats.launch()
        self.postgres = urlsplit(postgres.dsn)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, embedded_postgres: Postgres) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("canaries"), embedded_postgres)
    yield found
    found.nats.kill()


def environment(servers: Servers, way: str, home: Path) -> dict[str, str]:
    """Return settings with a secret in each, of which those of NATS and Postgres are wrong."""
    nats, postgres = f"127.0.0.1:{servers.nats.port}", f"127.0.0.1:{servers.postgres.port}"
    secrets = {
        "ANTIPHON_NATS_USER": "ann",
        "ANTIPHON_NATS_PASSWORD": CANARY,
        "ANTIPHON_POSTGRES_DSN": f"postgresql://antiphon:{CANARY}@{postgres}/antiphon",
        "LIVEKIT_API_KEY": "APIkey",
        "LIVEKIT_API_SECRET": CANARY,
        "ANTIPHON_BOOTSTRAP_API_KEY": CANARY,
        "OPENAI_API_KEY": CANARY,
        "DEEPGRAM_API_KEY": CANARY,
        "ANTIPHON_SECRET_CRM": CANARY,
        "ANTIPHON_API_KEY": CANARY,
    }
    if way == "files":
        secrets = {
            f"{name}_FILE": str(put(home / "secrets" / name, value.encode()))
            for name, value in secrets.items()
        }
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "LIVEKIT_"))
    }
    return {
        **kept,
        **secrets,
        "ANTIPHON_NATS_URL": f"tls://bob:{CANARY}@{nats}",
        "ANTIPHON_NATS_CA": str(servers.other if way == "another authority" else servers.ca),
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "ANTIPHON_API_URL": "http://127.0.0.1:1",
        "ANTIPHON_LOG_LEVEL": "debug",
        "ANTIPHON_JOURNAL_DIR": str(home / "journals"),
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
    }


def run(argv: list[str], variables: dict[str, str], home: Path) -> tuple[str, str]:
    """Run until it ends or has failed often enough; return what it printed, and its processes' arguments."""
    printed, arguments = home / "printed", ""
    with printed.open("wb") as output:
        process = subprocess.Popen(argv, env=variables, cwd=home, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            arguments += "".join(_command_lines(process.pid))
            if _failures(printed.read_text()) >= ENOUGH:
                break
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(30)
    return printed.read_text(), arguments


def _failures(text: str) -> int:
    return sum(any(word in line for word in FAILURES) for line in text.splitlines())


def _command_lines(pid: int) -> Iterator[str]:
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            yield " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return


@pytest.mark.slow
@pytest.mark.parametrize(("program", "way"), [*product(SERVICES, WAYS), *product(COMMANDS, ["refused"])])
def test_a_process_that_fails_shows_no_secret(
    program: str, way: str, servers: Servers, tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", *program.format(home=tmp_path).split()]

    printed, arguments = run(argv, environment(servers, way, tmp_path), tmp_path)

    assert printed  # it says something
    assert CANARY not in printed
    assert CANARY not in arguments
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_secret_that_is_printed_would_be_found(tmp_path: Path) -> None:
    shown = "import os, time; print('error\\n' * 3, os.environ['X']); time.sleep(60)"
    printed, arguments = run([sys.executable, "-uc", shown, CANARY], {**os.environ, "X": CANARY}, tmp_path)

    assert CANARY in printed
    assert CANARY in arguments

"""A Docker engine of our own, for a command or a test run.

    python -m tests.containers.engine [--name NAME] -- COMMAND ...

Starts Debian's `dockerd` and `containerd` with a data folder, socket, bridge and range of addresses of their
own, runs the command with DOCKER_HOST, and stops both. Images and build cache stay in the cache folder, under
the name, up to a limit; containers, networks and volumes do not. It works beside other engines.

The command finds Debian's `docker` first on PATH: its BuildKit (secrets, cache mounts) needs no plugin.
Containers reach the outside, one another by name, and published ports; this machine reaches their addresses.
Publish a port of a compose file as 127.0.0.1:PORT:PORT, or it is open to all: the engine's `ip` is only for
its own bridge. If only this machine trusts the certificate of a package index, builds need it, as a secret.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.containers import network

from antiphon.cli.errors import StackError
from antiphon.cli.home import lock_file
from antiphon.cli.stack import process
from antiphon.cli.stack.process import Command

CACHE = Path("/var/cache/antiphon/containers")
CLIENT = Path("/usr/bin/docker")  # Debian's: another one on PATH may lack BuildKit
NEEDED = {
    "dockerd": "docker.io",
    str(CLIENT): "docker.io",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
}
READY_SECONDS = 60.0
STOP_SECONDS = 40.0
CLEAN_SECONDS = 300.0
BUILD_CACHE = "4GB"  # what is kept of it
CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/containerd.sock"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine."""

    folder: Path
    network: network.Network

    @property
    def host(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment for clients: testcontainers' own reaper is an image that it would pull."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "DOCKER_HOST": self.host,
            "DOCKER_BUILDKIT": "1",
            "TESTCONTAINERS_RYUK_DISABLED": "true",
        }

    def docker(self, *arguments: str, seconds: float = CLEAN_SECONDS) -> str:
        """Run the client; return what it prints. Raises StackError when it fails."""
        done = subprocess.run(
            [CLIENT, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StackError(f"docker {' '.join(arguments)} failed:\n{done.stderr.strip()}")
        return done.stdout.strip()


def missing() -> str | None:
    """Return what this machine lacks, and the command that installs it; None if nothing."""
    if os.geteuid() != 0:
        return "a Docker engine needs root: sudo make test-containers"
    packages = {package for program, package in NEEDED.items() if shutil.which(program) is None}
    return f"missing programs: apt-get install {' '.join(sorted(packages))}" if packages else None


@contextmanager
def running(name: str = "tests", cache: Path = CACHE) -> Iterator[Engine]:
    """Start the engine of this name, and stop it; raises StackError if it is in use or does not start."""
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_file(folder / "lock")
    if lock is None:
        raise StackError(f"another run uses the engine {name!r}: wait for it, or choose another --name")
    with lock:
        _clear(folder)
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / "docker").unlink(missing_ok=True)
        (folder / "bin" / "docker").symlink_to(CLIENT)
        made = network.make()
        (folder / "network").write_text(str(made.number))
        try:
            yield from _run(Engine(folder, made))
        finally:
            _clear(folder)


def _run(engine: Engine) -> Iterator[Engine]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.append(_start(engine, "containerd"))
        _wait(engine, "containerd", processes[0], (engine.folder / "containerd.sock").is_socket)
        processes.append(_start(engine, "dockerd"))
        _wait(engine, "dockerd", processes[1], lambda: _answers(engine))
        _remove_all(engine)  # of a run that was killed
        try:
            yield engine
        finally:
            _remove_all(engine)
            engine.docker("image", "prune", "--force")
            engine.docker("builder", "prune", "--force", "--keep-storage", BUILD_CACHE)
    finally:
        for started in reversed(processes):
            process.stop(started, [signal.SIGTERM], timeout_seconds=STOP_SECONDS)


def _start(engine: Engine, program: str) -> subprocess.Popen[bytes]:
    folder = engine.folder
    (folder / f"{program}.log").unlink(missing_ok=True)
    (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
    (folder / "daemon.json").write_text(json.dumps(_settings(engine), indent=2))
    arguments = {
        "containerd": ("--config", str(folder / "containerd.toml"), "--log-level", "warn"),
        "dockerd": ("--config-file", str(folder / "daemon.json")),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    command = Command((program, *arguments[program]), environment, folder)
    return process.spawn(command, folder / f"{program}.log")


def _settings(engine: Engine) -> dict[str, object]:
    folder = engine.folder
    return {
        "hosts": [engine.host],
        "containerd": str(folder / "containerd.sock"),
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "dockerd.pid"),
        "bridge": engine.network.bridge,
        "default-address-pools": [{"base": engine.network.pool, "size": 24}],
        "mtu": engine.network.mtu,
        "iptables": False,  # it would remove the rules of the machine's own engine
        "ip-masq": False,
        "ip": "127.0.0.1",  # for published ports
        "exec-opts": ["native.cgroupdriver=cgroupfs"],  # systemd may not run
        "shutdown-timeout": 10,
        "log-level": "warn",
    }


def _answers(engine: Engine) -> bool:
    with suppress(StackError):
        return bool(engine.docker("version", "--format", "{{.Server.Version}}", seconds=10))
    return False


def _wait(engine: Engine, name: str, started: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    log = engine.folder / f"{name}.log"
    process.wait_until_ready(name, started, ready, log, timeout_seconds=READY_SECONDS)


def _remove_all(engine: Engine) -> None:
    """Remove every container, volume and network."""
    for kind, remove in (("container", ["rm", "--force", "--volumes"]), ("volume", ["rm", "--force"])):
        found = engine.docker(kind, "ls", "--quiet", *(["--all"] if kind == "container" else [])).split()
        if found:
            engine.docker(kind, *remove, *found)
    engine.docker("network", "prune", "--force")


def _clear(folder: Path) -> None:
    """End what a killed run left: processes, mounts, the network. Images stay."""
    left = [found for found in psutil.process_iter() if _belongs(found, folder)]
    left += [child for found in left for child in found.children(recursive=True)]  # of shims: the containers
    for found in left:
        with suppress(psutil.NoSuchProcess):
            found.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)
    for mount in _mounts(folder):
        subprocess.run(["umount", "--lazy", mount], timeout=30, check=False)
    number = folder / "network"
    if number.exists():
        network.remove(network.Network(int(number.read_text()), 0))
        number.unlink()
    # networks have their range written down, and the next run may have another
    for part in ("data/network", "exec", "state"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for file in ("dockerd.pid", "docker.sock", "containerd.sock", "containerd.sock.ttrpc"):
        (folder / file).unlink(missing_ok=True)


def _belongs(found: psutil.Process, folder: Path) -> bool:
    try:
        command = found.cmdline()
    except psutil.Error:
        return False
    return bool(command) and Path(command[0]).name.startswith(("dockerd", "containerd")) and any(
        argument.startswith(f"{folder}/") for argument in command
    )  # fmt: skip


def _mounts(folder: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command with an engine; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="engine", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--name", default="tests", help="whose images and build cache to use (tests)")
    parser.add_argument("command", nargs="+", help="what to run")
    options = parser.parse_args(arguments)
    if why := missing():
        print(f"engine: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the engine stops
    began = time.monotonic()
    try:
        with running(options.name) as engine:
            print(
                f"engine: ready after {time.monotonic() - began:.1f} s: DOCKER_HOST={engine.host}", flush=True
            )
            return subprocess.run(options.command, env=engine.environment, check=False).returncode
    except (StackError, network.NoNetwork) as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

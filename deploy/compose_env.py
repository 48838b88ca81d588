"""Write deploy/.env for compose: new secrets, and what differs between machines.

    python3 -m deploy.compose_env --help

It needs Python alone. An existing file keeps its secrets, which open the data that the volumes hold, and gets
those that it lacks.
"""

import argparse
import ipaddress
import os
import secrets
import socket
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy" / ".env"
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation: connecting a UDP socket sends nothing
BROKERS = ("nats", "nats-2", "nats-3")
# of the broker, beside the operator's NATS_PASSWORD; tests compare them with deploy/nats/users.conf
NATS_USERS = (
    "PERSISTENCE",
    "SESSION_API",
    "WEBHOOK_INGEST",
    "AGENT_WORKER",
    "RECORDER",
    "FLOW_PUBLISHER",
    "FLEET",
    "BACKUP",
    "SUPERVISOR",
)
MOUNTED = ("deploy/nats", "deploy/prometheus", "deploy/grafana", "flows")  # and read by users of containers


def new_secrets() -> dict[str, str]:
    """Return new passwords and keys; each starts with a letter and needs no escape anywhere."""
    return {
        "NATS_PASSWORD": f"n{secrets.token_hex(20)}",
        **{f"NATS_{user}_PASSWORD": f"n{secrets.token_hex(20)}" for user in NATS_USERS},
        "POSTGRES_PASSWORD": f"p{secrets.token_hex(20)}",
        "POSTGRES_PERSISTENCE_PASSWORD": f"p{secrets.token_hex(20)}",
        "POSTGRES_SESSION_API_PASSWORD": f"p{secrets.token_hex(20)}",
        "LIVEKIT_API_KEY": f"API{secrets.token_hex(6)}",
        "LIVEKIT_API_SECRET": f"s{secrets.token_hex(24)}",
        "ANTIPHON_API_KEY": f"ak_{secrets.token_hex(24)}",
        "GRAFANA_PASSWORD": f"g{secrets.token_hex(12)}",
    }


def address_of_this_machine() -> str | None:
    """Return the address that other machines reach, by the route to the outside; None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def variables(node_ip: str, *, cluster: bool, metrics: bool, grafana: bool = False) -> dict[str, str]:
    """Return all variables of a new file."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chosen = {"cluster": cluster, "metrics": metrics or grafana, "grafana": grafana}
    profiles = [name for name, wanted in chosen.items() if wanted]
    found = {"ANTIPHON_VERSION": version, "LIVEKIT_NODE_IP": node_ip, **new_secrets()}
    if profiles:
        found["COMPOSE_PROFILES"] = ",".join(profiles)
    if cluster:
        found["NATS_CONFIG"] = "cluster"
        found["ANTIPHON_NATS_URL"] = ",".join(f"nats://{name}:4222" for name in BROKERS)
        found["ANTIPHON_NATS_REPLICAS"] = "3"
    return found


def closed_to_containers(root: Path) -> Path | None:
    """Return a file or folder that compose mounts and that only its owner may read; None without one."""
    for folder in (root / name for name in MOUNTED):
        for path in (folder, *sorted(folder.rglob("*"))):
            needed = 0o005 if path.is_dir() else 0o004
            if path.stat().st_mode & needed != needed:
                return path
    return None


def write(file: Path, values: Mapping[str, str]) -> None:
    """Write a new file that only its owner reads. Raises FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(f"{name}={value}\n" for name, value in values.items())


def read(file: Path) -> dict[str, str]:
    """Return the variables of a file that have a value."""
    lines = (line.partition("=") for line in file.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines if value.strip()}


def add_secrets(file: Path) -> list[str]:
    """Add the secrets that a file of an earlier version lacks; return their names."""
    found = read(file)
    missing = {name: value for name, value in new_secrets().items() if name not in found}
    whole = file.read_text().endswith("\n")
    with file.open("a") as stream:
        # the last line ends too: the next `echo ... >>` must not become a part of a password
        stream.write("" if whole else "\n")
        stream.writelines(f"{name}={value}\n" for name, value in missing.items())
    return list(missing)


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _kept(file: Path, profiles: str) -> int:
    """Add to an existing file what it lacks, say what it does not get, and return the exit code."""
    added = add_secrets(file)
    if added:
        print(f"{file}: added {', '.join(added)}; the rest is kept.")
    has = read(file).get("COMPOSE_PROFILES", "").split(",")
    lacks = [name for name in profiles.split(",") if name and name not in has]
    if "cluster" in lacks:  # its streams have one copy
        print(f"compose_env: {file} exists: --cluster is for a new one", file=sys.stderr)
        return 1
    if lacks:
        wanted = ",".join([*filter(None, has), *lacks])
        print(f"compose_env: {file} keeps its profiles: set COMPOSE_PROFILES={wanted} in it", file=sys.stderr)
        return 1
    if not added:
        print(f"compose_env: {file} exists and is kept: its secrets open the stored data", file=sys.stderr)
    return int(not added)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="compose_env", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--node-ip", type=_address, help="the address for media that callers and containers reach"
    )
    parser.add_argument("--cluster", action="store_true", help="three brokers, each event on all of them")
    parser.add_argument("--metrics", action="store_true", help="run Prometheus")
    parser.add_argument(
        "--grafana", action="store_true", help="run Prometheus, and Grafana with the dashboards"
    )
    parser.add_argument("--file", type=Path, default=FILE, help="the file (deploy/.env)")
    options = parser.parse_args(arguments)
    node_ip = options.node_ip or address_of_this_machine()
    if node_ip is None:
        print(
            "compose_env: this machine has no route outside: name its address with --node-ip", file=sys.stderr
        )
        return 1
    if closed := closed_to_containers(ROOT):
        print(
            f"compose_env: containers cannot read {closed}, as after umask 077: "
            f"chmod -R go+rX {' '.join(MOUNTED)}",
            file=sys.stderr,
        )
        return 1
    chosen = variables(node_ip, cluster=options.cluster, metrics=options.metrics, grafana=options.grafana)
    try:
        write(options.file, chosen)
    except FileExistsError:
        return _kept(options.file, chosen.get("COMPOSE_PROFILES", ""))
    print(f"{options.file}: new secrets, media at {node_ip}. It stays on this machine: git ignores it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The bridge of a Docker engine of our own, its range of addresses, and the rules that lead outside.

The engine itself changes no firewall rule: one that starts removes the rules of every other engine. Ports are
published by its proxy, on loopback.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass

NUMBERS = range(200, 250)  # of instances: 10.<number>.0.0/16
SECONDS = 30.0
COMMENT = "antiphon-test-containers"


class NoNetwork(Exception):
    """No range of addresses is free, or a command failed."""


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge and a range: the upper half for the bridge, the lower half for networks made later."""

    number: int
    mtu: int

    @property
    def bridge(self) -> str:
        """The name of the bridge."""
        return f"antiphon{self.number}"

    @property
    def range(self) -> str:
        """All addresses of the instance."""
        return f"10.{self.number}.0.0/16"

    @property
    def gateway(self) -> str:
        """The address of this machine on the bridge."""
        return f"10.{self.number}.128.1"

    @property
    def pool(self) -> str:
        """The addresses for networks that compose makes."""
        return f"10.{self.number}.0.0/17"

    def rules(self) -> list[list[str]]:
        """The firewall rules, each without its verb."""
        comment = ["-m", "comment", "--comment", COMMENT]
        outside = ["-s", self.range, "!", "-d", self.range]
        return [
            ["-t", "nat", "POSTROUTING", *outside, *comment, "-j", "MASQUERADE"],
            ["-t", "filter", "FORWARD", "-s", self.range, *comment, "-j", "ACCEPT"],
            ["-t", "filter", "FORWARD", "-d", self.range, *comment, "-j", "ACCEPT"],
        ]


def make() -> Network:
    """Make a bridge with the first range that nothing on this machine uses."""
    mtu = _mtu()
    for number in NUMBERS:
        network = Network(number, mtu)
        if _in_use(network):
            continue
        # the kernel refuses a second link of a name, so two instances never share a number
        made = ["ip", "link", "add", "name", network.bridge, "mtu", str(mtu), "type", "bridge"]
        if subprocess.run(made, capture_output=True, timeout=SECONDS, check=False).returncode:
            continue
        try:
            _run("ip", "address", "add", f"{network.gateway}/24", "dev", network.bridge)
            _run("ip", "link", "set", network.bridge, "up")
            for table_flag, table, chain, *rule in network.rules():
                _run("iptables", "-w", "10", table_flag, table, "-I", chain, *rule)
        except BaseException:
            remove(network)
            raise
        return network
    raise NoNetwork(f"no range of addresses is free from 10.{NUMBERS[0]}.0.0/16 to 10.{NUMBERS[-1]}.0.0/16")


def remove(network: Network) -> None:
    """Remove the rules, the bridge, and the bridges of networks that were left."""
    for table_flag, table, chain, *rule in network.rules():
        command = ["iptables", "-w", "10", table_flag, table, "-D", chain, *rule]
        subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)  # it may not exist
    ours = ipaddress.ip_network(network.range)
    for link in json.loads(_run("ip", "-json", "-4", "address")):
        addresses = [entry["local"] for entry in link["addr_info"]]
        if link["ifname"] == network.bridge or any(ipaddress.ip_address(a) in ours for a in addresses):
            _run("ip", "link", "delete", link["ifname"])


def _in_use(network: Network) -> bool:
    ours = ipaddress.ip_network(network.range)
    routes = json.loads(_run("ip", "-json", "-4", "route", "show", "table", "all"))
    used = [route["dst"] for route in routes if route["dst"] != "default"]
    return any(ours.overlaps(ipaddress.ip_network(used_range, strict=False)) for used_range in used)


def _mtu() -> int:
    """Return the MTU of the way outside: with a larger one, answers never arrive on some networks."""
    routes = json.loads(_run("ip", "-json", "-4", "route", "show", "default"))
    if not routes:
        return 1500
    return int(json.loads(_run("ip", "-json", "link", "show", "dev", routes[0]["dev"]))[0]["mtu"])


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise NoNetwork(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout

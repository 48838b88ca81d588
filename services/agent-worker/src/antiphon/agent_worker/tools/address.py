"""The addresses that tools may connect to: public ones, unless the flow says `private: true`."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port: the addresses to try

# what `is_global` of some Python versions takes for public
_SPECIAL = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # the metadata of Azure
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "64:ff9b:1::/48",
        "::ffff:0:0:0/96",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)
_NAT64 = ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet, also when an IPv4 address is within it."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_is_public(each) for each in _with_embedded(ip))


def _with_embedded(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [IPv4Address(int(ip) & 0xFFFFFFFF)]
    if int(ip) >> 32 == 0:  # ::127.0.0.1
        return [ip, IPv4Address(int(ip))]
    return [ip] if ip.sixtofour is None else [ip, ip.sixtofour]


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local or not ip.is_global:
        return False
    return not any(ip in network for network in _SPECIAL if network.version == ip.version)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order to try. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def private_host(host: str) -> bool:
    """Return whether a host, as it is written, is certainly not public; a name may turn out so later."""
    if host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        try:
            return not is_public(socket.inet_ntoa(socket.inet_aton(host)))  # 2130706433, 0x7f.1
        except (OSError, UnicodeEncodeError):
            return False
    return not is_public(host)

"""Which proxy the environment names for an address; none for this machine's own."""

import ipaddress
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import httpx
from msgspec import Struct

from antiphon.client.errors import InvalidClientSettings

SCHEMES = ("http", "https", "socks5", "socks5h")


class Proxy(Struct, frozen=True):
    """A proxy, and the variable that names it; its password is not in its representation."""

    url: str
    variable: str

    def __repr__(self) -> str:
        url = httpx.URL(self.url)
        return f"{url.scheme}://{url.netloc.decode()} ({self.variable})"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, whatever the resolver says."""
    name = host.rstrip(".").lower()
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def proxy_of(address: httpx.URL) -> Proxy | None:
    """Return the proxy for an address: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, unless NO_PROXY names the host.

    Raises InvalidClientSettings for one that cannot be used.
    """
    if is_loopback(address.host):
        return None  # the API key must not leave the machine
    found = getproxies()
    name = address.scheme if found.get(address.scheme) else "all"
    url = found.get(name)
    excepted = [part.strip() for part in found.get("no", "").split(",")]
    if not url or "*" in excepted or proxy_bypass(address.netloc.decode()):
        return None
    return _checked(Proxy(url if "://" in url else f"http://{url}", f"{name.upper()}_PROXY"))


def _checked(proxy: Proxy) -> Proxy:
    # no message repeats the URL: it may hold a password
    try:
        url = httpx.URL(proxy.url)
    except httpx.InvalidURL as error:
        raise InvalidClientSettings(f"{proxy.variable} is not a URL: correct it, or unset it") from error
    if url.scheme not in SCHEMES or not url.host:
        raise InvalidClientSettings(
            f"{proxy.variable} must begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)} "
            "and name a host: correct it, or unset it"
        )
    if url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise InvalidClientSettings(
            f"{proxy.variable} names a SOCKS proxy, which needs a package: pip install 'httpx[socks]'"
        )
    return proxy

"""The proxy of the environment: never for this machine, and named by errors without its password."""

import asyncio
from typing import Any

import httpx
import pytest
from tests.client.events import SESSION
from tests.client.raw_server import answering, raw_server

from antiphon.client import Antiphon, AntiphonError, AsyncAntiphon, InvalidClientSettings
from antiphon.client.proxies import is_loopback, proxy_of

BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(kind: str, url: str) -> Any:
    if kind == "sync":
        return Antiphon(url, "a-secret-key", max_retries=0).sessions.get(SESSION)

    async def getting() -> Any:
        async with AsyncAntiphon(url, "a-secret-key", max_retries=0) as client:
            return await client.sessions.get(SESSION)

    return asyncio.run(getting())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_key_for_this_machine_does_not_go_to_a_proxy(
    kind: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"session_id":"s","tenant":"t","status":"active"}'
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with raw_server(answering(BAD_GATEWAY)) as proxy, raw_server(answering(ok)) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)

        assert get(kind, f"http://{host}:{server.port}").status == "active"
        assert proxy.requests == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_error_names_the_proxy_without_its_password(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answering(BAD_GATEWAY)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://ada:pa55@127.0.0.1:{proxy.port}")
        with pytest.raises(AntiphonError) as refused:
            get(kind, "http://api.test")
        monkeypatch.setenv("HTTP_PROXY", "http://ada:pa55@127.0.0.1:9")
        with pytest.raises(AntiphonError) as unreachable:
            get(kind, "http://api.test")

    assert proxy.requests[0].startswith(b"GET http://api.test/")
    assert f"gone (through the proxy http://127.0.0.1:{proxy.port} (HTTP_PROXY))" in str(refused.value)
    assert "(through the proxy http://127.0.0.1:9 (HTTP_PROXY)) does not respond" in str(unreachable.value)
    assert not any("pa55" in repr(error.value) for error in (refused, unreachable))


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://api.test", {}, None),
        ("https://api.test", {"HTTPS_PROXY": "proxy.test:3128"}, "http://proxy.test:3128 (HTTPS_PROXY)"),
        ("https://api.test", {"HTTP_PROXY": "http://proxy.test"}, None),
        ("https://api.test", {"all_proxy": "http://proxy.test"}, "http://proxy.test (ALL_PROXY)"),
        ("http://api.test", {"HTTP_PROXY": "http://proxy.test", "NO_PROXY": "a, .test"}, None),
        ("http://api.test:81", {"HTTP_PROXY": "http://proxy.test", "NO_PROXY": "api.test:81"}, None),
        ("http://api.test", {"HTTP_PROXY": "http://proxy.test", "NO_PROXY": "a,*"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": "http://proxy.test"}, None),
    ],
)
def test_the_variables_of_the_environment_choose(
    url: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    found = proxy_of(httpx.URL(url))

    assert (found and repr(found)) == proxy


@pytest.mark.parametrize("value", ["ftp://pa55@x", "http://", "http://pa55@x:port", "socks5://pa55@x:9"])
@pytest.mark.parametrize("kind", [Antiphon, AsyncAntiphon])
def test_a_proxy_that_cannot_be_used_is_named(
    kind: type[Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_socksio(name: str) -> Any:
        return None if name == "socksio" else pytest.fail(name)

    monkeypatch.setattr("antiphon.client.proxies.find_spec", without_socksio)
    monkeypatch.setenv("HTTP_PROXY", value)

    with pytest.raises(InvalidClientSettings, match="HTTP_PROXY") as refused:
        kind("http://api.test", "a-key")
    assert "pa55" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST.", "a.localhost", "::1"])
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example".replace("::1", "2001:db8::1"))

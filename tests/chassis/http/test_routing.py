"""The base of URLs in responses."""

from typing import Any

import pytest

from antiphon.chassis.http.routing import public_origin


def scope(host: bytes) -> dict[str, Any]:
    return {"scheme": "http", "headers": [(b"host", host)]}


@pytest.mark.parametrize("host", [b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"localhost"])
def test_a_client_on_the_machine_gets_the_url_that_it_called(host: bytes) -> None:
    assert public_origin(scope(host), None) == f"http://{host.decode()}"


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example.com",
        b"127.0.0.1@evil.example.com",
        b"localhost/..",
        b"localhost.evil.com",
        b"[::1",
        b"",
    ],
)
def test_another_host_is_not_repeated(host: bytes) -> None:
    assert public_origin(scope(host), None) == ""


def test_the_setting_wins() -> None:
    assert public_origin(scope(b"localhost"), "https://api.example.com") == "https://api.example.com"

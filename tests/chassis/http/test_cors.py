"""Origins of the setting."""

import pytest

from antiphon.chassis.http.cors import Cors, parse_origins


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("https://console.example.com", {"https://console.example.com"}),
        ("http://localhost:3000, http://[::1]:3000", {"http://localhost:3000", "http://[::1]:3000"}),
        ("*", {"*"}),
    ],
)
def test_origins_are_read_from_a_list(text: str, origins: set[str]) -> None:
    assert parse_origins(text) == origins


@pytest.mark.parametrize(
    "text",
    [
        "console.example.com",
        "https://console.example.com/",
        "https://console.example.com/app",
        "https://user@console.example.com",
        "https://*.example.com",
        "HTTPS://console.example.com",
        "ftp://console.example.com",
        "https://a:99999",
        "null",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        parse_origins(text)


def test_any_origin_is_allowed_with_a_star() -> None:
    assert (b"access-control-allow-origin", b"*") in Cors(frozenset("*")).headers(b"https://a.example.com")

"""The page of settings has every variable that the sources read, as the class that reads it has it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field
from tools.docs import settings
from tools.docs.variable import ROOT, fields_of

from antiphon.chassis.settings import Port, Settings

NAME = re.compile(r"\b(?:ANTIPHON|LIVEKIT|OTEL)_[A-Z0-9_]*[A-Z0-9]\b(?!_)")
SOURCES = sorted(
    path
    for folder in ("contracts", "chassis", "recorder", "services", "client", "cli", "deploy", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix not in {".md", ".pyc", ".lock"} and ".egg-info" not in str(path)
)
COMPOSE = "of the compose file: docs/how-to/run-with-compose.md"
ELSEWHERE = {  # variables that are not on the page, each with its reason
    **dict.fromkeys(
        ("ANTIPHON_BIND", "ANTIPHON_CPUS", "ANTIPHON_IMAGES", "ANTIPHON_VERSION"),
        COMPOSE,
    ),
    **dict.fromkeys(
        (
            "LIVEKIT_BIND",
            "LIVEKIT_IMAGE",
            "LIVEKIT_NODE_IP",
            "LIVEKIT_PORT",
            "LIVEKIT_TCP_PORT",
            "LIVEKIT_UDP_PORT",
        ),
        COMPOSE,
    ),
    **dict.fromkeys(
        ("LIVEKIT_CONFIG", "LIVEKIT_KEYS"),
        "livekit-server reads it; the stack or the compose file sets it",
    ),
    **dict.fromkeys(
        ("LIVEKIT_DEV_MODE", "LIVEKIT_REMOTE_EOT_URL"), "LiveKit's own, made ineffective by an explicit model"
    ),
}
SECRETS = "ANTIPHON_SECRET_"  # the page has ANTIPHON_SECRET_<NAME>


def names_in(path: Path, text: str) -> Iterator[str]:
    """Yield the variables that a file names: in a Python file, in its strings."""
    if path.suffix == ".py":
        constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        text = "\n".join(value for value in constants if isinstance(value, str))
    yield from (name for name in NAME.findall(text) if not name.startswith(SECRETS))


def unknown(path: Path, text: str, page: str) -> set[str]:
    return {name for name in names_in(path, text) if f"`{name}`" not in page} - set(ELSEWHERE)


def test_every_variable_of_the_sources_is_on_the_page() -> None:
    page = settings.current()
    found = {path.relative_to(ROOT): unknown(path, path.read_text(), page) for path in SOURCES}

    assert {str(path): names for path, names in found.items() if names} == {}
    assert all(f"`{name}`" not in page for name in ELSEWHERE), "on the page: not elsewhere"


def test_a_variable_that_is_missing_is_found() -> None:
    assert unknown(Path("a.py"), 'READ = environ["ANTIPHON_NEW_1"]', "`ANTIPHON_NEW`") == {"ANTIPHON_NEW_1"}
    assert unknown(Path("a.yaml"), "OTEL_NEW: 1", "") == {"OTEL_NEW"}
    assert unknown(Path("a.py"), 'LIVEKIT_LEVELS = {"ANTIPHON_NATS_": 1}', "") == set()


def test_the_compose_file_has_its_variables_on_its_page() -> None:
    page = (ROOT / "docs" / "how-to" / "run-with-compose.md").read_text()

    assert {name for name, why in ELSEWHERE.items() if why == COMPOSE and name not in page} == set()


def undescribed(classes: list[type]) -> set[str]:
    return {
        name for found in classes for row in fields_of(found) if not row.description for name in row.names
    }


class Service(Settings):
    """Settings of a test."""

    port: Port = Field(
        8000, validation_alias="ANTIPHON_TEST_PORT", description="its [port](docs/adr/0002-envelope.md)"
    )
    size_bytes: int | None = Field(None, ge=1024, validation_alias="ANTIPHON_TEST_BYTES")
    plain: Literal[7] = Field(7, description="a | b")
    mode: Literal["on", "off"] = Field("off", validation_alias="ANTIPHON_TEST_MODE", description="a mode")
    token: str = Field(validation_alias="ANTIPHON_TEST_TOKEN", repr=False, description="a token")
    token_file: Path | None = Field(
        None, validation_alias="ANTIPHON_TEST_TOKEN_FILE", repr=False, description="a file with it"
    )
    share: float = Field(
        gt=0, le=1, validation_alias="ANTIPHON_TEST_SHARE", repr=False, description="a share"
    )


def test_every_setting_has_a_description() -> None:
    assert undescribed(settings.sources()) == set()
    assert undescribed([Service]) == {"ANTIPHON_TEST_BYTES"}


def test_a_class_without_a_place_gets_a_section_of_its_own() -> None:
    page = settings.page("# Settings\n", [Service])

    assert "## Service\n\nSettings of a test.\n" in page
    assert "| `ANTIPHON_TEST_PORT` | 8000 | 1 to 65535 | its [port](../adr/0002-envelope.md) |" in page
    assert "| `ANTIPHON_TEST_BYTES` | none | 1 KiB or more |" in page
    assert "| `ANTIPHON_PLAIN` | 7 | `7` | a \\| b |" in page
    assert "| `ANTIPHON_TEST_MODE` | `off` | `on`, `off` | a mode |" in page
    assert "| `ANTIPHON_TEST_SHARE` | required | secret; above 0 to 1 | a share |" in page
    assert "| `ANTIPHON_TEST_TOKEN` | required, or `ANTIPHON_TEST_TOKEN_FILE` | secret; text |" in page
    assert "| `ANTIPHON_TEST_TOKEN_FILE` | none | path | a file with it |" in page


def test_a_place_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="names GoneSettings"):
        settings.page("<!-- settings: GoneSettings -->", [])
    with pytest.raises(ValueError, match=r"names antiphon\.gone"):
        settings.page("<!-- settings: antiphon.gone -->", settings.sources())


def test_a_shared_variable_names_its_readers_and_their_defaults() -> None:
    rows = {
        line.split("`")[1]: line for line in settings.current().splitlines()[::-1] if line.startswith("| `")
    }

    assert "| every service, recorder |" in rows["ANTIPHON_NATS_URL"]
    assert "| 30 (session-api: 5) |" in rows["ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS"]
    assert "| persistence, session-api |" in rows["ANTIPHON_POSTGRES_DSN"]
    assert "| `$XDG_CACHE_HOME/antiphon`, else `~/.cache/antiphon` |" in rows["ANTIPHON_CACHE"]

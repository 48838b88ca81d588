"""Providers of other packages."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from antiphon.agent_worker.flow.voice import Provider
from antiphon.agent_worker.providers.entry import ProviderEntry, ProviderProblem
from antiphon.agent_worker.providers.extensions import GROUP
from antiphon.agent_worker.providers.table import load_providers


class AcmeVoice:
    """The plugin of another package."""

    def __init__(self, *, voice: str = "anna", speed: float = 1.0, client: object | None = None) -> None:
        self.voice = voice


ACME = ProviderEntry("tts", "acme", AcmeVoice, "Acme's voices.", "voice: {tts: acme}\n", key="ACME_API_KEY")


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an entry point of a module that has one value."""

    def point(value: object, name: str = "acme") -> EntryPoint:
        module = ModuleType(f"{name}_antiphon")
        module.PROVIDERS = value  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, f"{module.__name__}:PROVIDERS", GROUP)

    return point


@pytest.mark.parametrize("value", [ACME, [ACME], lambda: ACME, lambda: iter([ACME])], ids=range(4))
def test_an_entry_point_adds_a_provider(value: object, point: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    providers = load_providers([point(value)])
    assert providers.failed == ()
    assert providers.names()["tts"] == ["offline", "openai", "deepgram", "acme"]
    monkeypatch.setenv("ACME_API_KEY", "key")
    assert [*providers.option_problems("tts", Provider(use="acme", voice="otto"))] == []
    ((name, reason),) = providers.option_problems("tts", Provider(use="acme", vioce="otto"))
    assert (name, reason) == ("vioce", "unknown option; did you mean 'voice'?; allowed: speed, voice")


def test_the_key_of_an_extension_must_be_set(point: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_API_KEY", raising=False)
    ((_, reason),) = load_providers([point(ACME)]).option_problems("tts", Provider(use="acme"))
    assert "set ACME_API_KEY" in reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (42, "it is 42, not a ProviderEntry or a list of them"),
        ([ACME, "acme"], "it has 'acme', which is not a ProviderEntry"),
        (ProviderEntry("tts", "openai", AcmeVoice, "", ""), "there is already a provider 'tts openai'"),
        (ProviderEntry("voice", "x", AcmeVoice, "", ""), "has the kind 'voice'"),  # type: ignore[arg-type]
        (lambda: 1 / 0, "division by zero"),
    ],
    ids=range(5),
)
def test_a_bad_entry_point_is_left_out_with_the_reason(value: object, reason: str, point: Any) -> None:
    providers = load_providers([point(value, "a_bad_one"), point(ACME)])
    (failed,) = providers.failed
    assert failed.name == "a_bad_one"
    assert reason in str(failed)
    assert "acme" in providers.names()["tts"]


def test_an_entry_point_that_cannot_be_imported_is_left_out(tmp_path: Path) -> None:
    providers = load_providers([EntryPoint("gone", "no_such_module:X", GROUP)])
    assert "No module named 'no_such_module'" in providers.failed[0].reason
    with pytest.raises(ProviderProblem, match="no tts provider 'acme'; the entry point 'gone' of an unknown"):
        providers.find("tts", "acme")


def test_a_factory_that_cannot_be_imported_is_an_error_of_the_flow(point: Any) -> None:
    entry = ProviderEntry("tts", "lost", "no_such_module:TTS", "", "")
    providers = load_providers([point(entry)])
    ((place, reason),) = providers.option_problems("tts", Provider(use="lost"))
    assert place == ""
    assert "no_such_module:TTS cannot be imported" in reason

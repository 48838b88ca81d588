"""Unknown query parameters are named, at a cost that does not grow with their number."""

from typing import Any

import httpx
import pytest

from antiphon.session_api import query_check


async def test_an_unknown_parameter_gets_a_suggestion(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/v1/sessions?limt=5")

    [error] = response.json()["errors"]
    assert (response.status_code, error["code"]) == (422, "unknown_parameter")
    assert "did you mean limit?" in error["message"]


async def test_suggestions_are_made_for_the_first_few_only(
    rejecting: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(name: str, *_: Any, **__: Any) -> list[str]:
        calls.append(name)
        return []

    monkeypatch.setattr(query_check, "get_close_matches", counting)

    response = await rejecting.get("/v1/sessions?" + "&".join(f"limit{number}=1" for number in range(100)))

    assert response.status_code == 422
    assert len(response.json()["errors"]) == 20
    assert len(calls) == 5


async def test_too_many_parameters_are_refused_unread(
    rejecting: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_check, "get_close_matches", None)

    response = await rejecting.get("/v1/sessions?" + "&".join(["lim="] * 7200))

    [error] = response.json()["errors"]
    assert (response.status_code, error["code"]) == (422, "too_many")
    assert error["message"] == "takes at most 100 parameters"

"""The check of an installation names what does not work; tests/journeys has one that works."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest
from tests.session_api.conftest import Running

from antiphon.session_api.first_session import Api, SessionFailed, first_session, main

UNUSED = "http://127.0.0.1:1"


async def _failure(url: str, key: str, *, seconds: float, flow: str | None = None) -> str:
    said: list[str] = []
    with pytest.raises(SessionFailed) as failed:
        await asyncio.to_thread(first_session, Api(url, key, seconds), flow, said.append)
    return str(failed.value)


async def test_a_server_that_does_not_answer() -> None:
    failure = await _failure(UNUSED, "writer", seconds=0.6)

    assert failure.startswith(f"POST /v1/sessions: {UNUSED} does not answer: ")
    assert failure.endswith(", until the time was over")


async def test_a_wrong_key(running: Running) -> None:
    failure = await _failure(running.url, "unknown", seconds=30)

    assert failure.startswith("POST /v1/sessions: 401 ")


async def test_a_key_that_may_not_create(running: Running) -> None:
    assert "POST /v1/sessions: 403 " in await _failure(running.url, "reader", seconds=30)


async def test_an_unknown_flow(running: Running) -> None:
    assert "404 Unknown flow" in await _failure(running.url, "writer", seconds=30, flow="nowhere")


async def test_an_agent_that_does_not_come(running: Running) -> None:
    failure = await _failure(running.url, "writer", seconds=2, flow="booking")

    assert failure.startswith(
        "the agent: no agent has come (the session is dispatched): look at agent-worker"
    )


async def test_a_session_that_is_not_recorded(start: Callable[..., Awaitable[Running]]) -> None:
    # nothing of these tests commits events
    running = await start()

    failure = await _failure(running.url, "writer", seconds=3)

    assert failure.startswith("the record in Postgres: the session is not in the views: look at persistence")


@pytest.mark.parametrize(("url", "key"), [("", "key"), ("ftp://127.0.0.1", "key"), ("http://127.0.0.1", "")])
def test_wrong_settings_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, key: str
) -> None:
    monkeypatch.setenv("ANTIPHON_API_URL", url)
    monkeypatch.setenv("ANTIPHON_API_KEY", key)
    monkeypatch.setattr(sys, "argv", ["first_session"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "ANTIPHON_API_URL" in capsys.readouterr().err

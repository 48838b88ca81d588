import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from antiphon.cli.commands import sessions as module


class Api:
    """An API whose list of sessions grows."""

    def __init__(self) -> None:
        self.listed = 0

    async def sessions(self, *, limit: int, room: str | None = None) -> list[dict[str, Any]]:
        self.listed += 1
        ended = [{"session_id": f"ses_{number}", "status": "closed"} for number in (1, 2, 3)]
        running = [{"session_id": "ses_4", "status": "active"}]
        later = [{"session_id": "ses_5", "status": "closed"}] if self.listed > 1 else []
        return [*later, *running, *ended]


class Recorded(Api):
    """An API with one session of a room and three turns."""

    session_of: ClassVar[dict[str, Any]] = {
        "session_id": "ses_1",
        "status": "closed",
        "flow_id": None,
        "room": "lobby",
        "skipped": 2,
    }

    async def __aenter__(self) -> "Recorded":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def sessions(self, *, limit: int, room: str | None = None) -> list[dict[str, Any]]:
        found = {**self.session_of, "turns": 3, "created_at": "2026-01-01T00:00:00Z"}
        return [found] if room in {None, "lobby"} else []

    async def session(self, session_id: str) -> dict[str, Any]:
        return {**self.session_of, "session_id": session_id}

    async def turns(self, _: str) -> AsyncIterator[dict[str, Any]]:
        turn = {"agent_id": "host", "state": "saved", "recovered": False, "interrupted": False}
        yield {**turn, "turn": 1, "user_text": "hello", "assistant_text": "Good day."}
        yield {**turn, "turn": 2, "user_text": "two", "assistant_text": "A table", "recovered": True}
        yield {**turn, "turn": 3, "user_text": "three", "assistant_text": None, "state": "unfinished"}

    async def events(self, _: str) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "turn.sung", "sequence": 1, "time": "2026-01-01T00:00:00Z", "data": {}}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_api", Recorded)


@pytest.mark.usefixtures("recorded")
async def test_show_marks_turns_and_counts_what_could_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    await module.print_session("ses_1")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ses_1  closed, no flow, room lobby"
    assert lines[1] == "2 events could not be read and are not in the view"
    assert "  1  host     Good day." in lines
    assert "  2  host     A table (recovered: the agent was killed while it spoke)" in lines
    assert "  3  caller   three" in lines
    assert "  3  host     (unfinished: the session ended before the turn was saved)" in lines


HOSTILE = "hi\x1b[2J\x1b]52;c;ZXZpbA==\x07\r\n  2  agent    forged\u2028\ud83d"


class Hostile(Recorded):
    """An API whose texts come from someone who wants to act on the terminal."""

    session_of: ClassVar[dict[str, Any]] = {**Recorded.session_of, "room": HOSTILE}

    async def turns(self, _: str) -> AsyncIterator[dict[str, Any]]:
        turn = {"turn": 1, "agent_id": HOSTILE, "user_text": HOSTILE, "assistant_text": HOSTILE}
        yield {**turn, "state": "saved", "recovered": False, "interrupted": False}

    async def events(self, _: str) -> AsyncIterator[dict[str, Any]]:
        event = {"sequence": 1, "time": "2026-01-01T00:00:00Z"}
        yield {**event, "type": "session.adopted", "data": {"room": HOSTILE}}
        yield {**event, "type": f"turn.{HOSTILE}", "data": {}}

    async def follow(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        async for event in self.events(session_id):
            yield event


async def test_texts_of_others_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "open_api", Hostile)
    await module.print_session("ses_1")
    await module.print_sessions(20, None)
    await module.print_live("ses_1")

    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if not line.isprintable()] == []
    assert not any(line.startswith("  2  agent") for line in printed.splitlines())
    assert printed.count("hi\\x1b[2J") == 9


@pytest.mark.usefixtures("recorded")
async def test_sessions_of_a_room(capsys: pytest.CaptureFixture[str]) -> None:
    await module.print_sessions(20, "lobby")
    assert "ses_1" in capsys.readouterr().out
    await module.print_sessions(20, "elsewhere")
    assert "ses_1" not in capsys.readouterr().out


async def test_tail_skips_sessions_that_had_ended_before_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []

    async def follow(_: Any, session: str, *, prefix: str = "") -> None:
        followed.append(session)

    monkeypatch.setattr(module, "print_events", follow)
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    api = Api()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await module._print_all(api)  # type: ignore[arg-type]

    assert api.listed > 2
    assert followed == ["ses_4", "ses_5"]

import json
from typing import Any

import pytest
from tests.cli.commands.recorded import NOW, SESSION, Recorded, event

from antiphon.cli.commands import sessions as module
from antiphon.cli.commands import tail
from antiphon.client import Session, Turn

HOSTILE = "hi\x1b[2J\x1b]52;c;ZXZpbA==\x07\r\n  2  agent    forged\u2028\ud83d"


def turn(number: int, **changes: Any) -> Turn:
    return Turn(session_id=SESSION, turn=number, agent_id="host", **{"state": "saved", **changes})


def recorded(room: str = "lobby", **changes: Any) -> Recorded:
    session = Session(
        session_id=SESSION, tenant="default", status="closed", room=room, skipped=2, turns=3, created_at=NOW
    )
    return Recorded(session, **{"turns": [], "events": [], **changes})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A client with one session of a room and three turns."""
    client = recorded(
        turns=[
            turn(1, user_text="hello", assistant_text="Good day."),
            turn(2, user_text="two", assistant_text="A table", recovered=True),
            turn(3, user_text="three", state="unfinished"),
        ],
        events=[event(1, "turn.sung", {})],
    )
    monkeypatch.setattr(module, "open_api", client.open_api)
    return client


@pytest.mark.usefixtures("client")
async def test_show_marks_turns_and_counts_what_could_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    await module.print_session(SESSION)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{SESSION}  closed, no flow, room lobby"
    assert lines[1] == "2 events could not be read and are not in the view"
    assert "  1  host     Good day." in lines
    assert "  2  host     A table (recovered: the agent was killed while it spoke)" in lines
    assert "  3  caller   three" in lines
    assert "  3  host     (unfinished: the session ended before the turn was saved)" in lines


async def test_texts_of_others_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = recorded(
        room=HOSTILE,
        turns=[turn(1, user_text=HOSTILE, assistant_text=HOSTILE)],
        events=[
            event(1, "session.adopted", json.dumps({"room": HOSTILE}).encode()),
            event(2, f"turn.{HOSTILE}", {}),
        ],
    )
    for commands in (module, tail):
        monkeypatch.setattr(commands, "open_api", client.open_api)
    await module.print_session(SESSION)
    await module.print_sessions(20, {})
    await tail.print_live(SESSION)

    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if not line.isprintable()] == []
    assert not any(line.startswith("  2  agent") for line in printed.splitlines())
    assert printed.count("hi\\x1b[2J") == 8


async def test_sessions_of_a_room(client: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    await module.print_sessions(20, {"room": "lobby", "flow_id": "booking"})
    assert client.sessions.filters == {"room": "lobby", "flow_id": "booking"}
    assert SESSION in capsys.readouterr().out
    await module.print_sessions(20, {"room": "elsewhere"})
    assert SESSION not in capsys.readouterr().out


async def test_sessions_as_json_are_one_document_in_ascii(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "open_api", recorded(room=f"é\x7f{HOSTILE}").open_api)
    await module.print_sessions(20, {}, as_json=True)

    printed = capsys.readouterr().out
    [session] = json.loads(printed)["sessions"]
    assert (session["session_id"], session["room"]) == (SESSION, f"é\x7f{HOSTILE}")
    assert all(char == "\n" or " " <= char <= "~" for char in printed)


@pytest.mark.usefixtures("client")
async def test_end_says_what_has_happened(capsys: pytest.CaptureFixture[str]) -> None:
    await module.end_session(SESSION)

    assert capsys.readouterr().out == f"{SESSION} has ended\n"

import json
from typing import Any

import msgspec
import pytest
from tests.cli.commands.recorded import NOW, SESSION, Recorded, event

from antiphon.cli.commands import sessions as module
from antiphon.cli.commands import tail
from antiphon.client import Session, Turn
from antiphon.contracts.session import Participant

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


PAST = {"participants": {"PA_1": Participant(identity="ada", kind="standard", joined_at=NOW)}}


@pytest.mark.parametrize(
    "moment", [{"at": 2, "at_time": None}, {"at": None, "at_time": "2026-01-01T00:00:00Z"}]
)
async def test_show_at_an_event_prints_the_state_and_the_event(
    moment: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [event(n, "user_input_transcribed", {"transcript": f"said {n}"}) for n in (1, 2, 3)]
    client = recorded(turns=[turn(1, user_text="hello", state="open")], events=events)
    client.sessions.session = msgspec.structs.replace(
        client.sessions.session, sequence=2, status="active", agent_id="host", agent_state="thinking", **PAST
    )
    monkeypatch.setattr(module, "open_api", client.open_api)
    await module.print_session(SESSION, **moment)

    assert client.sessions.moment == moment
    assert client.sessions.moment_of_turns == {"at": 2}
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{SESSION}  active, no flow, room lobby"
    assert lines[1] == "as it was after event 2, of 2026-01-01T00:00:00+00:00:"
    assert lines[2] == "   +0.000 s     2  user_input_transcribed      “said 2”"
    state = lines[lines.index("State") + 1 : lines.index("Conversation") - 1]
    assert [line.split(maxsplit=1)[0] for line in state[:2]] == ["status", "agent"]
    assert "  in the room   ada" in state
    assert "  1  host     (open)" in lines
    assert [line[-7:-1] for line in lines[lines.index("Timeline") + 1 :]] == ["said 1", "said 2"]


async def test_show_as_json_is_the_session(client: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    await module.print_session(SESSION, at=3, as_json=True)

    assert json.loads(capsys.readouterr().out)["session_id"] == SESSION


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

"""`antiphon flow run` as a process, with lines from a pipe and from a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from antiphon.cli.flows.metadata import metadata_of

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
FLOWS = Path(__file__).parents[3] / "flows"
SECONDS = 120.0


def run(lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANTIPHON, "flow", "run", *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_conversation_from_a_pipe_shows_tools_hand_offs_and_its_end() -> None:
    lines = [
        "book a table for two tomorrow at seven",
        "yes please",
        "",
        "/silence",
        "may i speak to the manager",
        "thank you good bye",
        "never heard",
    ]
    done = run("\n".join(lines), str(FLOWS / "booking.yaml"))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = done.stdout.splitlines()
    assert shown[0].startswith("Table desk (booking) as text")
    assert "host         Good evening, this is the table desk. How can I help you?" in shown
    assert "you          yes please" in shown
    (tool,) = [line for line in shown if "book_table" in line]
    assert '{"party_size": 2, "day": "tomorrow", "time": "19:00"} → {"reference":"T' in tool
    assert "host         I did not catch that. Are you still there?" in shown
    assert "  hand-off   host → manager" in shown
    assert shown[-1] == "ended        the agent ended the call (agent_ended)"
    assert "never heard" not in done.stdout


def test_the_end_of_the_pipe_hangs_up() -> None:
    done = run("hello", str(FLOWS / "booking.yaml"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ended        you hung up"
    assert "Hello. Would you like to book a table?" in done.stdout


def test_metadata_is_used_by_texts() -> None:
    done = run("end\n", str(FLOWS / "survey.yaml"), "--metadata", "guest=Ada", "--metadata", "place=Ulm")

    assert "Hello Ada. This is Ulm." in done.stdout


def test_text_from_a_file_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    done = run("\x1b[31mred\x07\nend\n", str(FLOWS / "booking.yaml"))

    assert "\x1b" not in done.stdout
    assert "\\x1b[31mred\\x07" in done.stdout


def test_a_flow_with_errors_is_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("id: x\nagent: {}\n")

    done = run("", str(path))

    assert done.returncode == 1
    assert f"{path}:2: agent: unknown key; " in done.stderr
    assert "did you mean 'agents'?" in done.stderr


def test_a_missing_variable_says_how_to_give_it(tmp_path: Path) -> None:
    source = (FLOWS / "survey.yaml").read_text()
    path = tmp_path / "survey.yaml"
    path.write_text(
        source.replace("metadata.guest: {default: dear guest}", "metadata.guest: {required: true}")
    )

    done = run("", str(path))

    assert done.returncode == 1
    assert "which the flow survey requires: pass --metadata or --variable NAME=VALUE" in done.stderr


@pytest.mark.parametrize(
    ("key", "interrupt"),
    [(b"\x03", signal.SIG_DFL), (b"\x03", signal.SIG_IGN), (b"\x04", signal.SIG_DFL)],
    ids=["Ctrl-C", "Ctrl-C-ignored-by-the-parent", "Ctrl-D"],
)
def test_a_terminal_ends_it(key: bytes, interrupt: signal.Handlers) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, interrupt)  # a shell ignores it for all that background jobs start
        os.execv(ANTIPHON, [str(ANTIPHON), "flow", "run", str(FLOWS / "booking.yaml")])
    shown = b""
    deadline = time.monotonic() + SECONDS
    try:
        while b"you " not in shown:
            assert time.monotonic() < deadline, shown
            shown += os.read(terminal, 4096)
        os.write(terminal, key)
        while time.monotonic() < deadline:
            try:
                more = os.read(terminal, 4096)
            except OSError:  # Linux: the other end is closed
                break
            shown += more
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == (130 if key == b"\x03" else 0), shown
    assert b"Traceback" not in shown


def test_metadata_arguments_are_nested_by_dots() -> None:
    pairs = ["name=Ada", "metadata.address.city=Ulm", "address.zip=1=2"]

    assert metadata_of(pairs) == {"name": "Ada", "address": {"city": "Ulm", "zip": "1=2"}}


@pytest.mark.parametrize("pairs", [["name"], ["=x"], ["a..b=x"], ["a=1", "a.b=2"], ["a.b=1", "a=2"]])
def test_metadata_arguments_that_are_none(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not NAME=VALUE|gives a part of it"):
        metadata_of(pairs)


def test_a_line_that_is_too_long_is_one_line() -> None:
    done = run("ä" * 300_000 + "\nhello\nend\n", str(FLOWS / "booking.yaml"))

    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("you ")]
    assert [line[13:20] for line in said] == ["ä" * 7, "hello", "end"]
    assert set(said[0][13:]) == {"ä"}
    assert len(said[0]) == 13 + 4000


def test_a_command_that_there_is_not_is_not_said() -> None:
    done = run("/help\n/keys 12\nend\n", str(FLOWS / "booking.yaml"))

    assert "not sent     unknown command; there are /silence, /keys 12#, end" in done.stdout
    assert "not sent     the flow has no `dtmf`: it does not listen to keys" in done.stdout
    assert "did not catch" not in done.stdout


def test_what_is_no_key_of_a_telephone_is_not_pressed(tmp_path: Path) -> None:
    flow = tmp_path / "keys.yaml"
    text = (FLOWS / "booking.yaml").read_text()
    flow.write_text(f'{text}\ndtmf: {{keys: {{"1": {{say: Pressed.}}}}}}\n')

    done = run("/keys x1\n/keys 1\nend\n", str(flow))

    assert "not sent     no key of a telephone: x" in done.stdout
    assert done.stdout.count("Pressed.") == 1


def test_a_realtime_model_is_refused_before_anything_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    done = run("", str(FLOWS.parent / "examples" / "flows" / "interpreter.yaml"))

    assert (done.returncode, done.stdout) == (1, "")
    assert "has a realtime model, which hears and speaks itself: try interpreter by voice" in done.stderr

"""The progress of a command: a bar on a terminal, a line every few seconds elsewhere."""

import io
import sys
import time

import pytest

from antiphon.persistence import progress
from antiphon.persistence.progress import shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def until(text: io.StringIO, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in text.getvalue():
        assert time.monotonic() < deadline, text.getvalue()
        time.sleep(0.01)


def test_lines_are_printed_while_a_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.02)
    with shown("turns") as state:
        until(output, "turns: 0 events in 0 s\n")
        state.add(1_200, 0.43)
        until(output, "turns: 43%, 1,200 events in ")
        state.waits("pg_dump (backend 7)")
        until(output, ", waits for pg_dump (backend 7)\n")
        state.add(1, 0.5)
        until(output, "turns: 50%, 1,201 events in ")
    printed = output.getvalue()
    time.sleep(0.1)
    assert output.getvalue() == printed


def test_a_short_command_prints_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("turns") as state:
        state.add(5, 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Terminal()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setenv("TERM", "xterm")
    with shown("turns") as state:
        state.add(1_200, 0.43)
        state.waits("pg_dump")
        until(output, "43%")
        until(output, "waits for pg_dump")

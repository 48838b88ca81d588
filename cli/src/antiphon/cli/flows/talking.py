"""`antiphon flow run`: talk with a flow as text in the terminal, in this process."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.agent_worker.conversation.flow_file import Flow
from antiphon.agent_worker.conversation.happenings import (
    Called,
    Ended,
    Failed,
    HandedOff,
    Happening,
    Said,
    told,
)
from antiphon.agent_worker.conversation.text import TELEPHONE_KEYS, TextConversation
from antiphon.agent_worker.conversation.trial import CannotTry, discard_logs, trial
from antiphon.cli.errors import StackError
from antiphon.cli.flows.checking import opened
from antiphon.cli.screen import out, shown

LONGEST_LINE = 8_000  # bytes
HANG_UP = ("end", "/end")
SILENCE, KEYS = "/silence", "/keys "
COMMANDS = "/silence, /keys 12#, end"
LEFT = 12  # characters of the column of names
STANDARD_INPUT = 0


async def talk(path: Path, metadata: Mapping[str, Any], variables: Mapping[str, Any]) -> bool:
    """Talk with a flow until the caller or the agent hangs up; return whether nothing failed."""
    flow = opened(path).flow
    discard_logs()
    try:
        conversation = trial(flow, metadata, variables)
    except CannotTry as error:
        raise StackError(str(error)) from error
    _print_head(flow)
    async with conversation as call:
        fine = _print_all(await call.greet())
        lines = Lines()
        while not call.has_ended:
            words = await _next(lines)
            if words is None or words in HANG_UP:
                _print("ended", Text("you hung up", style="dim"))
                break
            fine = _print_all(await _answer(flow, call, words)) and fine
    return fine


async def _answer(flow: Flow, call: TextConversation, words: str) -> list[Happening]:
    if words == SILENCE:
        return await call.stay_silent()
    if words.startswith(KEYS):
        if flow.dtmf is None:
            _print("not sent", Text("the flow has no `dtmf`: it does not listen to keys", style="dim"))
            return []
        keys = words.removeprefix(KEYS).strip()
        if strange := set(keys) - set(TELEPHONE_KEYS):
            why = f"no key of a telephone: {' '.join(sorted(strange))}"
            _print("not sent", Text(shown(why), style="dim"))
            return []
        return await call.press(keys)
    if words.startswith("/"):
        _print("not sent", Text(f"unknown command; there are {COMMANDS}", style="dim"))
        return []
    return await call.hear(words) if words else []


async def _next(lines: "Lines") -> str | None:
    """Return what the caller says next, None at the end."""
    typed = sys.stdin is not None and sys.stdin.isatty()
    if typed:
        out.print(_name("you", "bold green"), end="")
    words = await lines.next()
    if words is None:
        if typed:
            out.print()
        return None
    if not typed and words:
        _print("you", Text(shown(words)), "bold green")
    return words


class Lines:
    """The lines of standard input; each is read when it is asked for, in a thread that the end may leave.

    A line that is too long is cut.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at_end = False

    async def next(self) -> str | None:
        """Return the next line, None at the end of the input."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[str | None] = loop.create_future()

        def deliver(line: str | None) -> None:
            if not found.done():
                found.set_result(line)

        def read() -> None:
            line = self._read()
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, line)

        # os.read and a daemon: an interpreter that ends does not wait for what nobody types
        threading.Thread(target=read, name="standard-input", daemon=True).start()
        return await found

    def _read(self) -> str | None:
        while b"\n" not in self._buffer and not self._at_end:
            kept = self._buffer[: LONGEST_LINE + 1]  # one more: it shows that the line was cut
            try:
                more = os.read(STANDARD_INPUT, LONGEST_LINE)
            except OSError:  # it is closed
                more = b""
            self._at_end = not more
            self._buffer = kept + more
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line and self._at_end and not self._buffer:
            return None
        if len(line) > LONGEST_LINE:  # never in the middle of a character
            return line[:LONGEST_LINE].decode(errors="ignore").strip()
        return line.decode(errors="replace").strip()


def _print_head(flow: Flow) -> None:
    hint = "each line is what the caller says; end or Ctrl-D hangs up, /silence waits"
    out.print(Text(shown(f"{flow.name} ({flow.id}) as text: {hint}"), style="dim"))
    for note in _notes(flow):
        out.print(Text(shown(note), style="dim"))


def _notes(flow: Flow) -> Iterator[str]:
    """Yield what a call has and a conversation in text has not."""
    if flow.silence is not None:
        yield f"not timed here: the agent asks after {flow.silence.after_seconds:g} s of silence"
    limits = [f"a call of {flow.limits.call_seconds:g} s"]
    if flow.limits.silence_seconds is not None:
        limits.append(f"{flow.limits.silence_seconds:g} s in which nobody speaks")
    yield f"not timed here: the agent hangs up after {', or '.join(limits)}"


def _print_all(happened: Sequence[Happening]) -> bool:
    for happening in happened:
        text = Text(shown(told(happening)))
        match happening:
            case Said():
                _print(happening.agent, text, "bold magenta")
            case Called():
                text.stylize("red" if happening.failed else "dim")
                _print("  tool", text, "yellow")
            case HandedOff():
                _print("  hand-off", text, "cyan")
            case Ended():
                _print("ended", Text(f"the agent ended the call ({shown(happening.reason)})", style="dim"))
            case Failed():
                text.stylize("red")
                _print("failed", text, "bold red")
    return not any(isinstance(happening, Failed) for happening in happened)


def _print(name: str, text: Text, style: str = "dim") -> None:
    out.print(_name(name, style).append_text(text))


def _name(name: str, style: str) -> Text:
    return Text(f"{shown(name):<{LEFT}} ", style=style).append("", style="default")

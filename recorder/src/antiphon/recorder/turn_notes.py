"""What is known of the open turns, noted in the journal a few times a second.

If the agent is killed, the process that adopts the journal publishes the last note as the turn.
"""

import asyncio
from collections.abc import Callable

from antiphon.recorder.open_turn import OpenTurn, Wait
from antiphon.recorder.outbox import WriteNote
from antiphon.recorder.taps import ErrorGuard
from antiphon.recorder.turns import TurnTracker

NOTE_SECONDS = 0.25
WAIT_SECONDS = 5.0  # for a transcript, or a reply to a tool's output, after the last speech of a turn


def note_key(epoch: str, number: int) -> str:
    """Return the key of a turn's note, which the turn's `turn.saved` settles."""
    return f"turn:{epoch}:{number}"


class TurnNotes:
    """The notes of a session's open turns, and the timer that keeps them current.

    Each time, `on_tick` is called first, with the turns that have waited too long.
    """

    def __init__(
        self,
        turns: TurnTracker,
        note: WriteNote,
        guard: ErrorGuard,
        *,
        on_tick: Callable[[list[OpenTurn]], None],
    ) -> None:
        self._turns = turns
        self._note = note
        self._on_tick = on_tick
        self._tick = guard.wrap("notes", self._refresh)
        self._noted: dict[OpenTurn, int] = {}  # the changes of a turn that its note shows
        self._waiting: dict[OpenTurn, float] = {}  # since when, in the loop's time
        self._timer: asyncio.TimerHandle | None = None

    def turns_changed(self) -> None:
        """Note a turn that has just started, and keep the notes current while a turn is open."""
        open_turns = self._turns.open_turns
        self._update_waiting(open_turns)
        for turn in open_turns:
            if turn not in self._noted:
                self._write(turn)
        if open_turns and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._tick)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _refresh(self) -> None:
        self._timer = None
        try:
            self._update_waiting(self._turns.open_turns)
            self._on_tick(self.waiting_for(WAIT_SECONDS))
            open_turns = self._turns.open_turns
            self._noted = {turn: self._noted[turn] for turn in open_turns if turn in self._noted}
            for turn in open_turns:
                if self._noted.get(turn) != turn.changes:
                    self._write(turn)
        finally:
            self.turns_changed()

    def _write(self, turn: OpenTurn) -> None:
        self._noted[turn] = turn.changes
        self._note(note_key(turn.epoch, turn.number or 0), turn.saved(recovered=True))

    def waiting_for(self, seconds: float) -> list[OpenTurn]:
        """Return the turns whose last speech ended that long ago, and which wait for something else."""
        now = asyncio.get_running_loop().time()
        return [turn for turn, since in self._waiting.items() if now - since >= seconds]

    def _update_waiting(self, open_turns: list[OpenTurn]) -> None:
        now = asyncio.get_running_loop().time()
        self._waiting = {
            turn: self._waiting.get(turn, now)
            for turn in open_turns
            if not turn.is_speaking and turn.waits & {Wait.TRANSCRIPT, Wait.TOOL_REPLY}
        }

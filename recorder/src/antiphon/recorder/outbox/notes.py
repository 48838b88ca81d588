"""The notes that a killed job left behind, as the events that another process publishes for it."""

from datetime import datetime

import msgspec

from antiphon.contracts.envelope import Envelope, decode, encode
from antiphon.contracts.errors import ContractError
from antiphon.contracts.events.agent import AgentLeft
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.recorder.outbox.records import EVENT, NOTE, Record


class _Numbered(msgspec.Struct):
    subject: str
    producerseq: int
    time: datetime


_decoder = msgspec.json.Decoder(_Numbered)


class LeftNotes:
    """The last note of each key that no event has settled."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # the last event of each session
        self._times: dict[str, datetime] = {}  # the newest of each session
        self._notes: dict[bytes, bytes] = {}

    def see(self, record: Record) -> None:
        """Take the next record of the journal into account."""
        if record.key:
            self._notes.pop(record.key, None)
        if record.kind == NOTE:
            self._notes[record.key] = record.payload
        if record.kind in (EVENT, NOTE):
            self._count(record.payload)

    def _count(self, line: bytes) -> None:
        try:
            event = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # it is set aside when it is published
        self._numbers[event.subject] = max(self._numbers.get(event.subject, 0), event.producerseq)
        self._times[event.subject] = max(self._times.get(event.subject, event.time), event.time)

    def events(self) -> list[bytes]:
        """Return the notes in the order in which they were written, numbered after their session's events.

        What the kill ended, calls of tools and the agent's stay, ended when the agent wrote its last record.
        That it left is last.
        """
        numbers = dict(self._numbers)
        events, last = [], []
        for line in self._notes.values():
            note = _envelope(line)
            if note is None:
                events.append(line)  # to be set aside
            elif note.type == AgentLeft.TYPE:
                last.append(self._at_the_end(note))
            elif note.type == ToolCompleted.TYPE:
                events.append(_numbered(self._at_the_end(note), numbers))
            else:
                events.append(_numbered(note, numbers))
        return events + [_numbered(note, numbers) for note in last]

    def _at_the_end(self, note: Envelope) -> Envelope:
        return msgspec.structs.replace(note, time=self._times.get(note.subject, note.time))


def _numbered(note: Envelope, numbers: dict[str, int]) -> bytes:
    numbers[note.subject] = number = numbers.get(note.subject, 0) + 1
    return encode(msgspec.structs.replace(note, producerseq=number))


def _envelope(line: bytes) -> Envelope | None:
    try:
        return decode(line)
    except ContractError:
        return None

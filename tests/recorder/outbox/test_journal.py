import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.recorder.outbox.journal_process import PACKAGE, WITHOUT_LIVEKIT

from antiphon.recorder.outbox import Journal, NotAJournal, held
from antiphon.recorder.outbox.records import EVENT, NOTE, PIECE_BYTES, Record, frame

WRITER = (
    WITHOUT_LIVEKIT
    + """
journal = Journal.create(Path(sys.argv[2]))
number = 0
while True:
    number += 1
    journal.append(b'{"number": %d, "text": "%s"}' % (number, b"x" * (number % 700)))
    print(number, flush=True)
    if number % 10 == 0:
        journal.acknowledge(journal.next_batch(7))
"""
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "ses_1.AJ_1.journal"


def lines_of(journal: Journal, limit: int = 100) -> list[bytes]:
    batch = journal.next_batch(limit)
    return batch.lines if batch else []


def drain(journal: Journal) -> list[bytes]:
    lines: list[bytes] = []
    while batch := journal.next_batch(10):
        lines += batch.lines
        journal.acknowledge(batch)
    return lines


def records_in(path: Path) -> list[Record]:
    journal = Journal.adopt(path)
    assert journal is not None
    records = list(journal.scan())
    journal.release()
    return records


def is_drained(journal: Journal) -> bool:
    return journal.drained


def adopted(path: Path) -> Journal:
    journal = Journal.adopt(path)
    assert journal is not None
    for _ in journal.scan():
        pass
    return journal


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_lines_are_read_in_the_order_of_appends(path: Path) -> None:
    journal = Journal.create(path)
    for number in range(5):
        journal.append(b"line %d" % number)
    assert lines_of(journal, limit=3) == [b"line 0", b"line 1", b"line 2"]
    batch = journal.next_batch(3)
    assert batch is not None
    journal.acknowledge(batch)
    assert lines_of(journal) == [b"line 3", b"line 4"]


def test_journal_is_drained_when_everything_is_acknowledged(path: Path) -> None:
    journal = Journal.create(path)
    assert is_drained(journal)
    journal.append(b"line")
    assert not is_drained(journal)
    assert drain(journal) == [b"line"]
    assert is_drained(journal)


def test_long_journal_is_read_in_pieces(path: Path) -> None:
    journal = Journal.create(path)
    line = b"x" * 1000
    for _ in range(1000):
        journal.append(line)
    batch = journal.next_batch(1000)
    assert batch is not None
    assert sum(map(len, batch.lines)) <= PIECE_BYTES


def test_line_longer_than_a_piece_is_read_completely(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"y" * (3 * PIECE_BYTES))
    journal.append(b"next")
    assert [len(line) for line in lines_of(journal)][:1] == [3 * PIECE_BYTES]
    assert [line[:1] for line in drain(journal)] == [b"y", b"n"]


def test_journal_with_a_writer_is_not_adopted(path: Path) -> None:
    journal = Journal.create(path)
    assert Journal.adopt(path) is None
    journal.release()
    assert Journal.adopt(path) is not None


def test_adopted_journal_continues_after_the_acknowledged_lines(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"first")
    batch = journal.next_batch(10)
    assert batch is not None
    journal.acknowledge(batch)
    journal.append(b"second")
    journal.release()
    assert lines_of(adopted(path)) == [b"second"]


@pytest.mark.parametrize(
    "torn", [b"\n", b"\n\xff", frame(EVENT, b"half")[:-1], frame(EVENT, b"x" * 300_000)[:-9], b"\0" * 100]
)
def test_torn_last_line_is_dropped_with_a_warning(
    path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.create(path)
    journal.append(b"complete")
    journal.release()
    with path.open("ab") as file:
        file.write(torn)
    journal = adopted(path)
    assert drain(journal) == [b"complete"]
    assert journal.drained
    assert [message.split()[0] for message in caplog.messages] == ["journal.torn_record_dropped"]


@pytest.mark.parametrize("torn", [b"", b"antiphon-jour", b"antiphon-journal-2 0000", b"\0" * 40])
def test_torn_header_is_an_empty_journal(path: Path, torn: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(torn)
    assert adopted(path).drained


@pytest.mark.parametrize("foreign", [b"0000", b"{}\n", bytes(range(256)) * 40, b"\n" * 1000])
def test_foreign_file_is_refused_and_left_as_it_is(path: Path, foreign: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(foreign)
    with pytest.raises(NotAJournal):
        Journal.adopt(path)
    assert path.read_bytes() == foreign


def test_acknowledged_offset_beyond_the_file_is_a_drained_journal(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"line")
    drain(journal)
    journal.release()
    os.truncate(path, 52)  # a power failure can lose the lines and keep the header
    assert adopted(path).drained


def test_missing_file_is_not_adopted(path: Path) -> None:
    assert Journal.adopt(path) is None


def test_file_that_was_removed_before_the_lock_is_not_adopted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal.create(path).release()
    lock = fcntl.flock

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    assert Journal.adopt(path) is None


def test_new_journal_leaves_no_other_file(path: Path) -> None:
    Journal.create(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_refused_writes_are_held_in_memory_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(path)
    journal.append(b"1")
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", refuse)
        journal.append(b"2")
    journal.append(b"3")  # writes succeed again, but 2 comes first

    assert drain(journal) == [b"1", b"2", b"3"]
    journal.append(b"4")
    assert lines_of(journal) == [b"4"]
    journal.release()
    assert [record.payload for record in records_in(path)] == [b"1", b"4"]


def test_memory_is_bounded_and_lost_lines_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(held, "EVENTS_HELD", 2)
    monkeypatch.setattr(os, "pwrite", refuse)
    journal = Journal.create(path)
    for line in (b"1", b"2", b"3", b"4"):
        journal.append(line)
    assert journal.lost == 2
    assert [message.split()[0] for message in caplog.messages].count("journal.event_lost") == 2
    assert drain(journal) == [b"1", b"2"]


def test_partial_write_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def three_bytes(descriptor: int, data: bytes, offset: int) -> int:
        return write(descriptor, data[:3], offset)

    journal = Journal.create(path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", three_bytes)
        journal.append(b"a long line")
    journal.append(b"next")
    journal.release()
    assert drain(adopted(path)) == [b"a long line", b"next"]


def test_partial_write_that_fails_is_overwritten_or_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def fill(descriptor: int, data: bytes, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", refuse)
        return write(descriptor, data[:8], offset)

    journal = Journal.create(path)
    journal.append(b"1")
    monkeypatch.setattr(os, "pwrite", fill)
    journal.append(b"2" * 20)
    monkeypatch.setattr(os, "pwrite", write)
    assert drain(journal) == [b"1", b"2" * 20]

    journal.append(b"3")  # shorter than what is left of the failed write
    journal.release()

    assert drain(adopted(path)) == [b"3"]


def test_unsaved_acknowledgement_only_publishes_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(path)
    journal.append(b"line")
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", refuse)
        assert drain(journal) == [b"line"]
    assert journal.drained
    journal.release()
    assert drain(adopted(path)) == [b"line"]


def test_truncated_journal_raises(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"line")
    os.truncate(path, 0)
    with pytest.raises(OSError, match="truncated"):
        journal.next_batch(10)


def test_journal_without_a_disk_is_in_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "not a folder"
    blocked.write_text("")
    journal = Journal.create(blocked / "ses_1.AJ_1.journal")
    journal.append(b"1")
    assert drain(journal) == [b"1"]
    assert journal.drained
    journal.remove()


def test_removed_journal_is_gone(path: Path) -> None:
    journal = Journal.create(path)
    journal.remove()
    assert not path.exists()


@pytest.mark.parametrize("attempt", range(3))
def test_killed_writer_loses_no_appended_line(path: Path, attempt: int) -> None:
    """Kill a process while it appends and acknowledges; what it reported is in the journal, in order."""
    limit = 300 + random.randrange(300)
    command = [sys.executable, "-c", WRITER, str(PACKAGE), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(limit):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        reported = limit + writer.stdout.read().count(b"\n")

    numbers = [int(line[len(b'{"number": ') :].split(b",")[0]) for line in drain(adopted(path))]

    first = numbers[0]
    assert first % 7 == 1  # batches of 7 were acknowledged
    assert numbers == list(range(first, numbers[-1] + 1))
    assert numbers[-1] in (reported, reported + 1)


REWRITER = (
    WITHOUT_LIVEKIT
    + """
journal = Journal.create(Path(sys.argv[2]))
number = 0
while True:
    number += 1
    journal.note(b"turn", b"%d" % number)
    journal.append(b"%d %s" % (number, b"x" * (number % 500)), b"turn")
    journal.note(b"next", b"%d" % number)
    print(number, flush=True)
    if number % 5 == 0:
        while batch := journal.next_batch(7):
            journal.acknowledge(batch)
        journal.shrink([(b"next", b"%d" % number)])
"""
)


@pytest.mark.parametrize("attempt", range(3))
def test_writer_killed_while_it_rewrites_its_journal_loses_nothing(path: Path, attempt: int) -> None:
    limit = 100 + random.randrange(200)
    with subprocess.Popen(
        [sys.executable, "-c", REWRITER, str(PACKAGE), str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        for _ in range(limit):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        reported = limit + writer.stdout.read().count(b"\n")

    journal = Journal.adopt(path)
    assert journal is not None
    notes = {record.key: int(record.payload) for record in journal.scan() if record.kind == NOTE}
    numbers = [int(line.split()[0]) for line in drain(journal)]
    assert journal.damage == {}
    assert numbers == list(range(reported - len(numbers) + 1, reported + 1)) or numbers == list(
        range(reported - len(numbers) + 2, reported + 2)
    )
    assert notes[b"next"] in (reported, reported + 1)
    assert journal.remove()
    assert list(path.parent.iterdir()) == []

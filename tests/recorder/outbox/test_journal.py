import errno
import os
from pathlib import Path

import pytest

from antiphon.recorder.outbox import Journal
from antiphon.recorder.outbox.journal import READ_BYTES, ROOM_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "ses_1.AJ_1.journal"


def lines_of(journal: Journal, limit: int = 100) -> list[bytes]:
    batch = journal.next_batch(limit)
    return batch.lines if batch else []


def test_lines_come_back_in_the_order_in_which_they_were_written(path: Path) -> None:
    journal = Journal.create(path)
    for number in range(5):
        journal.append(b"line %d" % number)
    assert lines_of(journal, limit=3) == [b"line 0", b"line 1", b"line 2"]
    batch = journal.next_batch(3)
    assert batch is not None
    journal.acknowledge(batch)
    assert lines_of(journal) == [b"line 3", b"line 4"]


def test_a_journal_is_drained_when_everything_is_acknowledged(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"line")
    assert not journal.drained
    batch = journal.next_batch(10)
    assert batch is not None
    journal.acknowledge(batch)
    assert journal.next_batch(10) is None


def test_a_new_journal_is_drained(path: Path) -> None:
    assert Journal.create(path).drained


def test_a_long_journal_is_read_piece_by_piece(path: Path) -> None:
    journal = Journal.create(path)
    line = b"x" * 1000
    for _ in range(1000):
        journal.append(line)
    batch = journal.next_batch(1000)
    assert batch is not None
    assert sum(map(len, batch.lines)) <= READ_BYTES


def test_a_line_longer_than_a_piece_is_read_whole(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"y" * (3 * READ_BYTES))
    journal.append(b"next")
    assert [len(line) for line in lines_of(journal)] == [3 * READ_BYTES]


def test_the_journal_of_a_living_writer_is_not_adopted(path: Path) -> None:
    journal = Journal.create(path)
    assert Journal.adopt(path) is None
    journal.release()
    assert Journal.adopt(path) is not None


def test_an_adopted_journal_goes_on_after_what_was_acknowledged(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"first")
    batch = journal.next_batch(10)
    assert batch is not None
    journal.acknowledge(batch)
    journal.append(b"second")
    journal.release()

    adopted = Journal.adopt(path)

    assert adopted is not None
    assert lines_of(adopted) == [b"second"]


def test_a_line_torn_by_a_crash_is_passed_over(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"whole")
    journal.release()
    path.write_bytes(path.read_bytes().rstrip(b"\0") + b'{"half')
    adopted = Journal.adopt(path)
    assert adopted is not None
    batch = adopted.next_batch(10)
    assert batch is not None
    assert batch.lines == [b"whole"]
    adopted.acknowledge(batch)
    assert adopted.next_batch(10) is None
    assert adopted.drained


def test_a_journal_torn_in_its_first_line_is_read_from_its_start(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0000")
    adopted = Journal.adopt(path)
    assert adopted is not None
    assert adopted.next_batch(10) is None


def test_there_is_nothing_to_adopt_where_there_is_no_file(path: Path) -> None:
    assert Journal.adopt(path) is None


def test_nobody_sees_a_journal_that_is_not_locked_yet(path: Path) -> None:
    Journal.create(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_the_disk_refuses_is_kept_in_memory_in_its_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(path)
    journal.append(b"1")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", refuse)
        journal.append(b"2" * ROOM_BYTES)
    journal.append(b"3")  # the disk is back, but 2 comes first

    seen = []
    while batch := journal.next_batch(10):
        seen += [line[:1] for line in batch.lines]
        journal.acknowledge(batch)
    assert seen == [b"1", b"2", b"3"]
    journal.append(b"4")
    assert lines_of(journal) == [b"4"]
    assert b"\n4\n\0" in path.read_bytes()


def test_a_line_cut_in_its_middle_by_a_kill_is_passed_over(path: Path) -> None:
    journal = Journal.create(path)
    journal.append(b"whole")
    journal.release()
    content = path.read_bytes()
    torn = b'{"begin' + b"\0" * 20 + b'end"}\n'  # the two ends were copied, the middle was not
    path.write_bytes(content.rstrip(b"\0") + torn + b"\0" * 100)
    adopted = Journal.adopt(path)
    assert adopted is not None
    assert lines_of(adopted) == [b"whole"]


def test_a_call_goes_on_where_no_journal_can_be_made(tmp_path: Path) -> None:
    blocked = tmp_path / "a file, no folder"
    blocked.write_text("")
    journal = Journal.create(blocked / "ses_1.AJ_1.journal")
    journal.append(b"1")
    batch = journal.next_batch(10)
    assert batch is not None
    assert batch.lines == [b"1"]
    journal.acknowledge(batch)
    assert journal.drained
    journal.remove()


def test_a_removed_journal_is_gone(path: Path) -> None:
    journal = Journal.create(path)
    journal.remove()
    assert not path.exists()

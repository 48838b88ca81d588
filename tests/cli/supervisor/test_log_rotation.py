from pathlib import Path

from antiphon.cli.supervisor.supervisor import rotate_logs


def test_large_log_is_rotated_while_its_writer_appends(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old " * 10)
        rotate_logs(tmp_path, largest_bytes=16)
        writer.write(b"new")

    assert log.read_text() == "new"
    assert (tmp_path / "service.log.1").read_text() == "old " * 10


def test_small_log_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "service.log").write_text("small")

    rotate_logs(tmp_path, largest_bytes=16)

    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]

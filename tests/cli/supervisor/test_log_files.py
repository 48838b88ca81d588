from pathlib import Path

from antiphon.cli.supervisor.log_files import rotate


def test_a_log_that_grew_too_large_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old " * 10)
        rotate(tmp_path, largest_bytes=16)
        writer.write(b"new")

    assert log.read_text() == "new"
    assert (tmp_path / "service.log.1").read_text() == "old " * 10


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "service.log").write_text("small")

    rotate(tmp_path, largest_bytes=16)

    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]

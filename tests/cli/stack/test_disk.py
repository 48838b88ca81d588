"""The disk that a stack needs, and the shares of its servers."""

import shutil
from pathlib import Path

import pytest

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.errors import StackError
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import disk, livekit_build
from antiphon.cli.stack.disk import GIB, MIB


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free disk, which a test may change."""
    found = [2 * GIB]
    real = shutil.disk_usage

    def usage(path: Path) -> object:
        return real(path)._replace(free=found[0])

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return found


def test_too_little_disk_is_said_in_a_line_before_anything_starts(
    free: list[int], settings: StackSettings
) -> None:
    free[0] = 700 * MIB

    with pytest.raises(StackError) as raised:
        EmbeddedStack(settings).start()

    assert str(raised.value) == (
        f"{settings.home} has 700 MiB of free disk, and the data and logs of the stack need 1.0 GiB: "
        "free some, or choose another disk with ANTIPHON_HOME"
    )
    assert not settings.home.exists()


def test_a_home_that_exists_needs_less(free: list[int], tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    free[0] = 200 * MIB
    disk.require_for_home(tmp_path)

    free[0] = 100 * MIB
    with pytest.raises(StackError, match="need 128 MiB"):
        disk.require_for_home(tmp_path)


def test_a_build_of_livekit_needs_space_for_its_modules(
    free: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    free[0] = GIB

    with pytest.raises(StackError, match=r"building livekit-server need .* with ANTIPHON_CACHE"):
        livekit_build.find_livekit(tmp_path / "cache", lambda _: None)


@pytest.mark.parametrize(
    ("gibibytes", "stream", "wal"),
    [(0.25, 128 * MIB, 96 * MIB), (2, 512 * MIB, 256 * MIB), (10, 2560 * MIB, GIB), (100, 8 * GIB, GIB)],
)
def test_the_stream_and_the_log_of_postgres_fit_the_disk(
    gibibytes: float, stream: int, wal: int, free: list[int], tmp_path: Path
) -> None:
    free[0] = int(gibibytes * GIB)

    assert disk.stream_bytes(tmp_path / "none yet") == stream
    assert disk.wal_bytes(tmp_path) == wal


def test_a_stream_that_holds_much_may_still_grow_on_a_small_disk(free: list[int], tmp_path: Path) -> None:
    (tmp_path / "1.blk").write_bytes(bytes(40 * MIB))
    free[0] = 100 * MIB

    assert disk.stream_bytes(tmp_path) == 40 * MIB + disk.SMALLEST_STREAM

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from antiphon.cli.errors import StackError
from antiphon.cli.stack import livekit_build as build
from antiphon.cli.stack.livekit_build import Progress, cached, find_livekit, has_version


def _program(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho livekit-server version {version}\n")
    path.chmod(0o755)
    return path


def _fail_to_build(*_: object) -> None:
    raise AssertionError("unexpected build")


def test_pinned_version_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(tmp_path / "bin" / "livekit-server", build.VERSION)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(build, "_build", _fail_to_build)

    assert find_livekit(tmp_path / "cache", lambda _: None) == program


def test_other_version_on_path_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _program(tmp_path / "bin" / "livekit-server", "1.9.0")
    ours = _program(cached(tmp_path / "cache"), build.VERSION)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(build, "_build", _fail_to_build)

    assert find_livekit(tmp_path / "cache", lambda _: None) == ours


def test_real_program_has_the_pinned_version(livekit_program: Path) -> None:
    assert has_version(livekit_program)


def test_build_without_network_raises_and_leaves_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOPROXY", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", "")
    seen: list[Progress] = []

    with pytest.raises(StackError, match=r"building livekit-server failed(.|\n)*LIVEKIT_URL"):
        find_livekit(tmp_path, seen.append)

    assert seen
    assert not cached(tmp_path).exists()


def test_a_build_is_watched_to_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "POLL_SECONDS", 0.05)
    log = tmp_path / "build.log"
    script = f"echo go: downloading a v1; echo a; sleep 1; echo b; echo {build.MAIN}; sleep 1"
    seen: list[Progress] = []
    with log.open("wb") as output:
        process = subprocess.Popen(["sh", "-c", script], stdout=output)
        build._watch(process, log, seen.append)

    counts = [(progress.modules, progress.packages, progress.linking) for progress in seen]
    assert (1, 1, False) in counts
    assert counts[-1] == (1, 3, True)


def _remove_slowly(folder: Path) -> None:
    time.sleep(1)
    folder.rmdir()


def test_removing_the_files_of_a_build_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(shutil, "rmtree", _remove_slowly)
    (tmp_path / "build").mkdir()
    seen: list[Progress] = []

    build._remove(tmp_path / "build", seen.append)

    assert len(seen) > 1
    assert all(progress.cleaning for progress in seen)
    assert not (tmp_path / "build").exists()


def test_second_build_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = cached(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(build, "_build", _fail_to_build)
    seen: list[Progress] = []

    with build._locked(program.with_suffix(".lock"), seen.append):
        held = build._locked(program.with_suffix(".lock"), lambda progress: _stop_waiting(progress, seen))
        with pytest.raises(InterruptedError), held:
            pass

    assert seen[-1].waiting


def _stop_waiting(progress: Progress, seen: list[Progress]) -> None:
    seen.append(progress)
    raise InterruptedError

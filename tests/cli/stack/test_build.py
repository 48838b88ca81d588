from pathlib import Path

import pytest

from antiphon.cli.errors import StackError
from antiphon.cli.stack import build
from antiphon.cli.stack.build import Progress, cached, find_livekit, is_our_version


def _program(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho livekit-server version {version}\n")
    path.chmod(0o755)
    return path


def _nothing_is_built(*_: object) -> None:
    raise AssertionError("nothing must be built")


def test_a_program_of_our_version_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(tmp_path / "bin" / "livekit-server", build.VERSION)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(build, "_build", _nothing_is_built)

    assert find_livekit(tmp_path / "cache", lambda _: None) == program


def test_a_program_of_another_version_on_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _program(tmp_path / "bin" / "livekit-server", "1.9.0")
    ours = _program(cached(tmp_path / "cache"), build.VERSION)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(build, "_build", _nothing_is_built)

    assert find_livekit(tmp_path / "cache", lambda _: None) == ours


def test_the_real_program_is_recognised(livekit_program: Path) -> None:
    assert is_our_version(livekit_program)


def test_a_build_without_network_says_so_and_leaves_no_program(
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


def test_a_second_build_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = cached(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(build, "_build", _nothing_is_built)
    seen: list[Progress] = []

    with build._alone(program.with_suffix(".lock"), seen.append):
        held = build._alone(program.with_suffix(".lock"), lambda progress: _give_up(progress, seen))
        with pytest.raises(InterruptedError), held:
            pass

    assert seen[-1].waiting


def _give_up(progress: Progress, seen: list[Progress]) -> None:
    seen.append(progress)
    raise InterruptedError

"""What `make release` refuses, and what its list says."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tools.release.__main__ import Refused, empty, files_of, listing, main
from tools.release.deployables import HELM, Missing, charts, images
from tools.release.readiness import changelog_problems, check_repository, problems
from tools.release.version import ROOT, current, members


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that can be released, with our project files."""
    root = tmp_path / "checkout"
    for path in (ROOT, *members()):
        target = root / path.relative_to(ROOT)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path / "pyproject.toml", target)
    (root / "CHANGELOG.md").write_text(f"## Unreleased\n\n## {current()} - 2026-11-22\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "A release")
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, timeout=30)


def test_a_clean_checkout_can_be_released(checkout: Path) -> None:
    assert problems(checkout) == []


def test_each_problem_says_what_to_do(checkout: Path) -> None:
    git(checkout, "tag", f"v{current()}")
    (checkout / "CHANGELOG.md").write_text("## Unreleased\n")

    changelog, tree, tag = problems(checkout)

    assert changelog == (
        f"CHANGELOG.md has no section '## {current()} - <date>': put that line below '## Unreleased'"
    )
    assert tree == "the tree is not clean: commit or remove CHANGELOG.md"
    assert tag.startswith(f"the tag v{current()} exists: a version is released once")


@pytest.mark.parametrize("date", ["2026-99-99", "2026-02-30", "9999-01-01"])
def test_a_date_that_was_not_is_refused(checkout: Path, date: str) -> None:
    text = f"## Unreleased\n\n## {current()} - {date}\n"

    [found] = changelog_problems(text, current())
    assert found.startswith(f"CHANGELOG.md dates {current()} {date}: write the day of the release")


def test_what_is_still_unreleased_is_refused() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- A change\n\n## 1.0.0 - 2026-11-22\n\n- More\n"

    [found] = changelog_problems(text, "1.0.0")
    assert found == "CHANGELOG.md still has lines under '## Unreleased': move them to 1.0.0"
    assert changelog_problems(text.replace("- A change\n", ""), "1.0.0") == []


def test_a_file_that_git_does_not_show_by_default_is_seen(checkout: Path) -> None:
    git(checkout, "config", "status.showUntrackedFiles", "no")
    (checkout / "new.py").touch()

    assert problems(checkout) == ["the tree is not clean: commit or remove new.py"]


def test_an_archive_is_no_clone(checkout: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "archive", checkout / "archive"):  # one of them in another repository
        folder.mkdir()
        with pytest.raises(RuntimeError, match="a release is made of a commit: run this in a clone"):
            check_repository(folder)
    check_repository(checkout)


def test_without_git_it_says_so(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["--rehearse", "--folder", str(tmp_path / "out")]) == 1
    assert "git is not installed, or not on the path" in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    for name in ("python", "mine"):
        (tmp_path / name).mkdir()
    with pytest.raises(Refused, match="has 'mine', which is of no release"):
        empty(tmp_path)
    (tmp_path / "mine").rmdir()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refused, match="is no folder"):
        empty(tmp_path / "link")
    (tmp_path / "link").unlink()

    empty(tmp_path)
    assert not tmp_path.exists()
    empty(tmp_path)


def test_ctrl_c_ends_what_was_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    child = (
        "import os, pathlib, time; "
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    code = (
        f"import sys; from tools.release.alone import _run; _run([sys.executable, '-c', {child!r}], 60, 'it')"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until(lambda: started.exists() and started.read_text() != "")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    until(lambda: not psutil.pid_exists(int(started.read_text())))


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_checkout_without_charts_says_so(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"no charts in deploy/helm"):
        charts(tmp_path / "out", "1.0.0", tmp_path)
    with pytest.raises(Missing, match=r"no Dockerfile in deploy/images"):
        images("1.0.0", tmp_path)


def test_a_machine_without_tools_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart, dockerfile = tmp_path / "deploy/helm/a/Chart.yaml", tmp_path / "deploy/images/a.Dockerfile"
    for path in (chart, dockerfile):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(HELM, raising=False)

    with pytest.raises(Missing, match=f"no helm on the path: install it, or set {HELM}"):
        charts(tmp_path / "out", "1.0.0", tmp_path)
    with pytest.raises(Missing, match="no docker on the path"):
        images("1.0.0", tmp_path)


def test_charts_get_the_version_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy/helm/a").mkdir(parents=True)
    (tmp_path / "deploy/helm/a/Chart.yaml").touch()
    helm = program(tmp_path / "helm", f'echo "$@" > {tmp_path}/given')
    monkeypatch.setenv(HELM, str(helm))

    assert charts(tmp_path / "out", "1.0.0rc1", tmp_path) == {}
    assert "--version 1.0.0-rc1 --app-version 1.0.0rc1" in (tmp_path / "given").read_text()


def test_what_helm_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy/helm/a").mkdir(parents=True)
    (tmp_path / "deploy/helm/a/Chart.yaml").touch()
    monkeypatch.setenv(
        HELM, str(program(tmp_path / "helm", "echo 'chart.metadata is wrong' >&2; [ $1 != package ]"))
    )

    with pytest.raises(RuntimeError, match=r"chart\.metadata is wrong"):
        charts(tmp_path / "out", "1.0.0", tmp_path)


def test_an_engine_that_does_not_answer_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy/images").mkdir(parents=True)
    (tmp_path / "deploy/images/a.Dockerfile").touch()
    program(tmp_path / "docker", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    with pytest.raises(Missing, match="no Docker engine answers"):
        images("1.0.0", tmp_path)


def test_the_build_of_images_gets_no_arguments_of_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deploy/images").mkdir(parents=True)
    (tmp_path / "deploy/images/a.Dockerfile").touch()
    (tmp_path / "deploy/images/build.py").write_text(
        "import sys; open('given', 'w').write(str(sys.argv[1:]))"
    )
    program(tmp_path / "docker", "true")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ARGS", "--rehearse")  # as make does
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=--rehearse")

    assert images("1.0.0", tmp_path, base="mine:1") == []
    assert (tmp_path / "given").read_text() == "['--base', 'mine:1']"


def test_the_list_has_sizes_checksums_and_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "a.whl").write_bytes(bytes(2048))
    [file] = files = files_of(tmp_path)
    manifest = {
        "version": "1.0.0",
        "commit": "0123456789abcdef",
        "files": files,
        "images": [{"name": "antiphon/session-api:1.0.0", "size": "101MB"}],
        "left_out": {"charts": "no helm"},
    }

    assert file["sha256"] == hashlib.sha256(bytes(2048)).hexdigest()
    shown = listing(manifest, tmp_path)
    assert "python/a.whl" in shown
    assert "2.0 KiB" in shown
    assert "antiphon/session-api:1.0.0" in shown
    assert "not in it: charts: no helm" in shown


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path

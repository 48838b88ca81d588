"""The version is in one place, and everything that shows one shows that."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from tools.release.readiness import section_date
from tools.release.version import ROOT, change, current, main, members, other_bounds, other_charts

from antiphon.contracts.asyncapi import document
from antiphon.session_api.reference import openapi_document

NAMES = [tomllib.loads((member / "pyproject.toml").read_text())["project"]["name"] for member in members()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project files and the charts of this checkout, to be changed."""
    files = [path / "pyproject.toml" for path in (ROOT, *members())]
    for path in (*files, *ROOT.glob("deploy/helm/*/Chart.yaml")):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_packages_have_the_version_of_the_root(name: str) -> None:
    assert version(name) == current()


def test_documents_have_the_version() -> None:
    committed = json.loads((ROOT / "contracts" / "asyncapi.json").read_text())

    assert committed["info"]["version"] == current()
    assert document(current())["info"] == committed["info"]
    assert openapi_document()["info"]["version"] == current()


def test_the_command_prints_the_version() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("antiphon"), "--version"],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == f"antiphon {current()}\n"


def test_no_other_file_says_the_version() -> None:
    for member in members():
        project = tomllib.loads((member / "pyproject.toml").read_text())
        assert project["project"]["dynamic"] == ["version"]
        path = (member / project["tool"]["hatch"]["version"]["path"]).resolve()
        assert path == ROOT / "pyproject.toml"
    assert other_bounds() == []


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    assert section_date(text, current())
    assert section_date(text, "99.0.0") is None


def test_a_new_version_changes_all_bounds(copy: Path) -> None:
    change("1.2.3", copy)

    assert current(copy) == "1.2.3"
    assert other_bounds(copy) == []
    assert (
        '"antiphon-chassis[postgres,service]~=1.2.3"'
        in (copy / "services" / "persistence" / "pyproject.toml").read_text()
    )


@pytest.mark.parametrize(("version", "in_charts"), [("1.2.3", "1.2.3"), ("1.2.3rc4", "1.2.3-rc4")])
def test_a_new_version_is_that_of_the_charts(copy: Path, version: str, in_charts: str) -> None:
    before = {path: yaml.safe_load(path.read_text()) for path in copy.glob("deploy/helm/*/Chart.yaml")}
    assert len(before) == 2
    change(version, copy)

    assert other_charts(copy) == []
    for path, old in before.items():
        new = yaml.safe_load(path.read_text())
        ours = [each for each in old.get("dependencies", []) if each["name"] == "antiphon"]
        for each in ours:
            each["version"] = in_charts
        assert new == {**old, "version": in_charts, "appVersion": version}


def test_a_forgotten_chart_is_found(copy: Path) -> None:
    path = copy / "deploy" / "helm" / "antiphon-stack" / "Chart.yaml"
    old = "  - name: antiphon\n    version: "
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f"{old}0.0."))

    [found] = other_charts(copy)
    assert found.startswith("deploy/helm/antiphon-stack/Chart.yaml has the version 0.0.")
    assert other_charts() == []


def test_a_forgotten_bound_is_found(copy: Path) -> None:
    path = copy / "client" / "pyproject.toml"
    path.write_text(path.read_text().replace("antiphon-contracts~=0.1.0", "antiphon-contracts"))

    [found] = other_bounds(copy)
    assert "client/pyproject.toml requires 'antiphon-contracts'" in found


def test_what_is_no_version_is_refused(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"'v1\.0' is no version: write 1\.2\.3"):
        change("v1.0", copy)
    with pytest.raises(ValueError, match=r"'01\.2\.3' is no version"):
        change("01.2.3", copy)


def test_help_is_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m tools.release.version")

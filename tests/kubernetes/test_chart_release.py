"""The charts of a release, as the real helm packages them."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from tests.kubernetes.chart import HELM_CHARTS, ROOT, helm
from tests.kubernetes.programs import Built
from tools.release.deployables import HELM, charts
from tools.release.version import change, members

from antiphon.cli.settings import StackSettings

VERSION = "7.8.9rc1"
IN_CHARTS = "7.8.9-rc1"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of another version, whose charts of others are here and not on the internet."""
    monkeypatch.setenv(HELM, str(Built.of(StackSettings().cache).path("helm")))
    root = tmp_path / "checkout"
    shutil.copytree(HELM_CHARTS, root / "deploy" / "helm", ignore=shutil.ignore_patterns("charts", "*.lock"))
    for path in (ROOT, *members()):
        target = root / path.relative_to(ROOT)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path / "pyproject.toml", target)
    about = yaml.safe_load(stack(root).read_text())
    for needed in about["dependencies"]:
        if needed["name"] != "antiphon":
            folder = tmp_path / "others" / needed["name"]
            folder.mkdir(parents=True)
            text = yaml.safe_dump({"apiVersion": "v2", "name": folder.name, "version": needed["version"]})
            (folder / "Chart.yaml").write_text(text)
            stack(root).write_text(
                stack(root).read_text().replace(needed["repository"], f"file://{folder}", 1)
            )
    change(VERSION, root)
    return root


def stack(root: Path) -> Path:
    return root / "deploy" / "helm" / "antiphon-stack" / "Chart.yaml"


def test_a_release_has_both_charts_in_its_version(checkout: Path, tmp_path: Path) -> None:
    before = sorted(checkout.rglob("*"))
    assert charts(tmp_path / "out", VERSION, checkout) == {}

    names = [f"antiphon-{IN_CHARTS}.tgz", f"antiphon-stack-{IN_CHARTS}.tgz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        about = yaml.safe_load(helm("show", "chart", str(tmp_path / "out" / name)))
        assert (about["version"], about["appVersion"]) == (IN_CHARTS, VERSION)
    with tarfile.open(tmp_path / "out" / names[1]) as archive:
        inner = [name for name in archive.getnames() if name.endswith("/antiphon/Chart.yaml")]
        inner += [name for name in archive.getnames() if name.endswith(".tgz")]
        found = archive.extractfile(inner[0])
        assert found is not None
        about = yaml.safe_load(io.TextIOWrapper(found))
        assert (about["version"], about["appVersion"]) == (IN_CHARTS, VERSION)
    assert sorted(checkout.rglob("*")) == before  # nothing was fetched into it


def test_charts_that_cannot_be_fetched_are_left_out_with_why(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "others" / "keda")

    left_out = charts(tmp_path / "out", VERSION, checkout)

    assert list(left_out) == ["chart antiphon-stack"]
    assert "keda" in left_out["chart antiphon-stack"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"antiphon-{IN_CHARTS}.tgz"]


def test_a_repository_that_does_not_answer_is_named(checkout: Path, tmp_path: Path) -> None:
    text = stack(checkout).read_text().replace(f"file://{tmp_path}/others/keda", "http://127.0.0.1:1/charts")
    stack(checkout).write_text(text)

    left_out = charts(tmp_path / "out", VERSION, checkout)

    assert 'Get "http://127.0.0.1:1/charts/index.yaml"' in left_out["chart antiphon-stack"]
    assert "\n" not in left_out["chart antiphon-stack"]

"""The CronJob of the page on backups, as it is written, in a restricted namespace; both of its parts run."""

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.kubernetes.chart import ROOT
from tests.kubernetes.control_plane import wait_for
from tests.kubernetes.release import Release

from antiphon.cli.stack.postgres_files import programs_for

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

PAGE = ROOT / "docs" / "how-to" / "back-up-and-restore.md"
OF_THE_PAGE = "nats://nats.nats.svc:4222"


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("night")
    release.install()
    where = {"name": "antiphon-nats", "namespace": release.namespace}
    login = {"user": "me", "password": "secret"}  # of a server that asks nobody
    release.plane.apply({"apiVersion": "v1", "kind": "Secret", "metadata": where, "stringData": login})
    return release


@pytest.fixture(scope="module")
def objects(release: Release) -> list[dict[str, Any]]:
    """The objects of the page: only the address of NATS and the place of the folder are ours."""
    section = PAGE.read_text().partition("## Every night on Kubernetes")[2]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    assert OF_THE_PAGE in found[1]
    text = found[1].replace(OF_THE_PAGE, release.nats.url).replace("/backups/$", f"{release.folder}/$")
    return list(yaml.safe_load_all(text))


def test_the_api_server_takes_every_field(release: Release, objects: list[dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})

    taken = release.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)

    assert len(taken.splitlines()) == 2


def test_a_night_writes_both_parts(release: Release, objects: list[dict[str, Any]]) -> None:
    claim, cronjob = objects
    claim["spec"] |= {"storageClassName": "", "volumeName": release.namespace}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": release.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": claim["spec"]["resources"]["requests"],
            "hostPath": {"path": str(release.folder)},
        },
    }
    release.kubectl(
        "apply", "-f", "-", text=json.dumps({"kind": "List", "apiVersion": "v1", "items": [volume, *objects]})
    )
    release.kubectl("create", "job", "night", "--from=cronjob/antiphon-backup")

    # the fake node has no image of Postgres: its part is run below
    wait_for("the broker's part has run", lambda: _started(release) == ["broker", "postgres"])
    run = release.runner.of(release.namespace)[-1]
    folder = release.folder / run.name
    assert (folder / "broker" / "manifest.json").exists(), run.text()

    [container] = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    variables = {"POD": run.name, "ANTIPHON_POSTGRES_DSN": release.dsn}
    path = f"{programs_for(None)}:{os.environ['PATH']}"
    subprocess.run(
        container["command"], env={**os.environ, **variables, "PATH": path}, check=True, timeout=120
    )
    assert sorted(each.name for each in folder.iterdir()) == ["broker", "postgres.dump"]


def _started(release: Release) -> list[str]:
    runs = [run for run in release.runner.of(release.namespace) if run.name.startswith("night")]
    return runs[-1].started if runs else []

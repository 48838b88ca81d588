"""Upgrades, and migrations that fail: then nothing else was changed, and the release can be rolled back."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.kubernetes.control_plane import CommandFailed, wait_for
from tests.kubernetes.figures import Figures
from tests.kubernetes.release import NAME, Release

from antiphon.persistence.migrations import head

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

DEBUG = {"log": {"level": "debug"}}
# what is there would be made again, and cannot be
AGAIN = "update alembic_version set version_num = '0001'"
WARNING = {"log": {"level": "warning"}}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("upgrade")
    release.install()
    return release


def test_an_upgrade_replaces_the_pods(release: Release, figures: Figures) -> None:
    before = _deployments(release)

    with figures.measure("helm upgrade --wait: migration, then all pods replaced"):
        release.upgrade(DEBUG)

    after = _deployments(release)
    assert all(after[name] != before[name] for name in before)
    _until_level(release, "debug")


def test_the_same_values_replace_no_pod(release: Release) -> None:
    before = _deployments(release)

    release.upgrade(DEBUG)

    assert _deployments(release) == before


def test_a_failed_migration_changes_nothing_else_and_is_rolled_back(
    release: Release, figures: Figures
) -> None:
    before = _deployments(release)
    _execute(release, AGAIN)
    with (
        figures.measure("helm upgrade with a migration that fails, until it has failed"),
        pytest.raises(CommandFailed, match="pre-upgrade hooks failed"),
    ):
        release.upgrade(WARNING)
    assert _deployments(release) == before
    assert json.loads(release.helm("status", NAME, "-o", "json"))["info"]["status"] == "failed"
    assert "Postgres refused the migration" in release.runner.of(release.namespace)[-1].text()

    _execute(release, f"update alembic_version set version_num = '{head()}'")
    with figures.measure("helm rollback --wait"):
        release.helm("rollback", NAME, "--wait", "--timeout=300s")

    assert json.loads(release.helm("status", NAME, "-o", "json"))["info"]["status"] == "deployed"
    assert _deployments(release) == before
    _until_level(release, "debug")


def test_a_migration_that_hangs_is_ended_at_its_time_limit(release: Release) -> None:
    before = _deployments(release)
    limits = {"migration": {"activeDeadlineSeconds": 15, "statementTimeoutSeconds": 14}}

    with _locked(release), pytest.raises(CommandFailed, match="pre-upgrade hooks failed"):
        release.upgrade(limits)

    migration = release.runner.of(release.namespace)[-1]
    wait_for("the process has ended", lambda: migration.running is None)
    assert migration.code != 0
    assert _deployments(release) == before
    release.upgrade(DEBUG)  # once it can


def test_a_release_with_a_failed_migration_rolls_itself_back_when_told(release: Release) -> None:
    before = _deployments(release)
    _execute(release, AGAIN)

    with pytest.raises(CommandFailed, match="rolled back"):
        release.upgrade(WARNING, "--atomic")

    assert json.loads(release.helm("status", NAME, "-o", "json"))["info"]["status"] == "deployed"
    assert _deployments(release) == before
    _until_level(release, "debug")


def _deployments(release: Release) -> dict[str, Any]:
    """Return the pod template of each Deployment."""
    found = release.get("deployments")["items"]
    assert len(found) > 1
    return {each["metadata"]["name"]: each["spec"]["template"] for each in found}


def _until_level(release: Release, level: str) -> None:
    """Wait until all pods have this level: the old ones go after the new ones are ready, and Helm is done."""
    wait_for(f"all pods log at {level}", lambda: _levels(release) == {level})


def _levels(release: Release) -> set[str]:
    pods = [pod for pod in release.get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]]
    return {
        variable["value"]
        for pod in pods
        for variable in pod["spec"]["containers"][0]["env"]
        if variable["name"] == "ANTIPHON_LOG_LEVEL" and "job-name" not in pod["metadata"]["labels"]
    }


def _execute(release: Release, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(release.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@contextmanager
def _locked(release: Release) -> Iterator[None]:
    """Hold the table of the schema's version: a migration waits for it."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(release.dsn))
        try:
            runner.run(connection.execute("begin; lock table alembic_version in access exclusive mode"))
            yield
        finally:
            runner.run(connection.close())

"""Persistence by what waits on a real stream, views by what waits in a real log; the consumers are ours."""

from typing import TYPE_CHECKING

import pytest
from tests.kubernetes.backlog import publish_events
from tests.kubernetes.control_plane import wait_for
from tests.kubernetes.figures import Figures
from tests.kubernetes.release import Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

EVENTS = 450
PER_REPLICA = 100
SCALED = {"enabled": True, "minReplicas": 1, "maxReplicas": 4}
VALUES = {
    "persistence": {"autoscaling": {**SCALED, "messagesPerReplica": PER_REPLICA}},
    "projections": {"enabled": True, "autoscaling": {**SCALED, "eventsPerReplica": PER_REPLICA}},
}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("log")
    release.install(VALUES)
    for component in ("persistence", "projections"):
        release.hurry("scaledobject", component)
    with release.service("persistence"):
        pass  # it makes the stream and its consumers when it starts
    return release


def test_persistence_follows_the_lag_of_the_stream(release: Release, figures: Figures) -> None:
    release.until_replicas("persistence", 1)
    with figures.measure(f"persistence 1 → 4: {EVENTS} events are published, {PER_REPLICA} per replica"):
        publish_events(release.nats.url, EVENTS)
        release.until_replicas("persistence", 4)

    with release.service("persistence"):
        wait_for("all events are committed", lambda: _count(release, "event_log") == EVENTS)
        shrunk = release.until_replicas("persistence", 1)
    figures.add("persistence 4 → 1: all events committed", shrunk)


def test_views_follow_the_lag_of_the_log(release: Release, figures: Figures) -> None:
    with release.service("projections"):
        wait_for("views are up to date", lambda: _count(release, "turns") == _count(release, "event_log"))
        release.until_replicas("projections", 1)
    before = _count(release, "event_log")
    with release.service("persistence"):
        with figures.measure(f"projections 1 → 4: {EVENTS} events are published and committed"):
            publish_events(release.nats.url, EVENTS, after=before)
            release.until_replicas("projections", 4)
        wait_for("all are committed", lambda: _count(release, "event_log") == before + EVENTS)

    with release.service("projections"):
        shrunk = release.until_replicas("projections", 1)
        wait_for("the last ones are in the views", lambda: _count(release, "turns") == before + EVENTS)
    figures.add("projections 4 → 1: views up to date", shrunk)


def _count(release: Release, table: str) -> int:
    return int(release.query(f"select count(*) from {table}"))

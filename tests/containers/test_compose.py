"""The compose file: everything starts from nothing, and the first call of the quickstart works."""

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from deploy import compose_env
from deploy.images.build import SERVICES, Docker
from tests.containers.conftest import Platform, programs, running

ONE_SHOT = ("migrate", "roles", "streams", "publish-flows")
SERVERS = ("nats", "postgres", "livekit", "prometheus")
CLOSED_SECONDS = 240.0
CLUSTER_SECONDS = 300.0
SCRAPED_SECONDS = 180.0
HEALTH_SECONDS = 300.0


def inspected(docker: Docker, container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.ask("container", "inspect", container))[0]
    return found


@pytest.fixture(scope="module")
def called(platform: Platform, docker: Docker) -> str:
    """Make a call by voice from this machine, once all is healthy; return the id of its session."""
    wait_for_health(docker, platform, "healthy", *SERVICES)
    docker.ask("wait", platform.container("publish-flows"), seconds=HEALTH_SECONDS)
    done = platform.antiphon("call", "--ready-within", "150")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"ses_\w+", done.stdout)
    assert found, done.stdout
    return found[0]


def wait_for_health(docker: Docker, platform: Platform, status: str, *services: str) -> None:
    deadline = time.monotonic() + HEALTH_SECONDS
    for service in services:
        container = platform.container(service)
        while (health := inspected(docker, container)["State"]["Health"])["Status"] != status:
            assert time.monotonic() < deadline, (service, health)
            time.sleep(0.5)


def closed(platform: Platform, session: str) -> dict[str, Any]:
    """Return a session as the view shows it, once it has closed."""
    deadline = time.monotonic() + CLOSED_SECONDS
    while True:
        done = platform.antiphon("show", session, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        if found["status"] == "closed":
            return found
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.5)


def events(platform: Platform, session: str, *kinds: str) -> list[dict[str, Any]]:
    chosen = [option for kind in kinds for option in ("--type", kind)]
    done = platform.antiphon("events", "--session", session, "--json", *chosen)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_first_call_is_heard_answered_and_recorded(platform: Platform, called: str) -> None:
    shown = closed(platform, called)

    assert shown["session_id"] == called
    turns = [event["data"] for event in events(platform, called, "turn.saved")]
    assert any("table for two" in (turn.get("user_text") or "") for turn in turns), turns
    assert all(turn.get("assistant_text") for turn in turns), turns


def test_livekit_sends_its_webhooks_to_the_service(platform: Platform, called: str) -> None:
    closed(platform, called)

    assert len(events(platform, called, "livekit.room_started")) == 1


@pytest.mark.parametrize("service", [*SERVICES, *SERVERS])
def test_every_container_is_healthy_and_confined(
    platform: Platform, docker: Docker, called: str, service: str
) -> None:
    wait_for_health(docker, platform, "healthy", service)
    found = inspected(docker, platform.container(service))
    host = found["HostConfig"]

    assert host["ReadonlyRootfs"]
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    if service in SERVICES:
        assert found["Config"]["User"] == "10001:10001"
        assert host["CapDrop"] == ["ALL"]
        assert found["RestartCount"] == 0


def test_the_engine_waits_for_longer_than_calls_may_go_on(platform: Platform, docker: Docker) -> None:
    config = inspected(docker, platform.container("agent-worker"))["Config"]

    assert config["StopTimeout"] == int(platform.variables["ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS"]) + 60


@pytest.mark.parametrize("service", ONE_SHOT)
def test_what_runs_once_has_ended_well(platform: Platform, docker: Docker, service: str) -> None:
    state = inspected(docker, platform.container(service))["State"]

    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


@pytest.mark.parametrize("service", [*SERVICES, *SERVERS, *ONE_SHOT])
def test_every_volume_has_a_name(platform: Platform, docker: Docker, called: str, service: str) -> None:
    mounts = inspected(docker, platform.container(service))["Mounts"]
    volumes = [mount["Name"] for mount in mounts if mount["Type"] == "volume"]

    assert all(name.startswith("antiphontests_") for name in volumes), volumes  # `down` leaves one without


def test_only_loopback_and_the_media_address_are_published(
    platform: Platform, docker: Docker, called: str
) -> None:
    published = {
        binding["HostIp"]
        for service in (*SERVICES, *SERVERS)
        for bindings in inspected(docker, platform.container(service))["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }

    assert published == {"127.0.0.1", platform.variables["LIVEKIT_BIND"]}


def test_health_is_that_calls_can_be_taken(platform: Platform, docker: Docker, called: str) -> None:
    wait_for_health(docker, platform, "healthy", *SERVICES)
    platform.compose("stop", "nats")
    wait_for_health(docker, platform, "unhealthy", *SERVICES)
    platform.compose("start", "nats")
    wait_for_health(docker, platform, "healthy", *SERVICES)

    done = platform.antiphon("call", "--ready-within", "150")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {inspected(docker, platform.container(each))["RestartCount"] for each in SERVICES} == {0}


def test_the_data_outlives_the_containers(platform: Platform, docker: Docker, called: str) -> None:
    platform.compose("down", "--timeout", "20")
    platform.compose("up", "-d")
    wait_for_health(docker, platform, "healthy", *SERVICES)

    done = platform.antiphon("show", called)
    again = platform.antiphon("call", "--ready-within", "150")

    assert done.returncode == 0, done.stderr
    assert again.returncode == 0, again.stdout + again.stderr


def test_prometheus_reads_what_its_configuration_says(platform: Platform, called: str) -> None:
    deadline = time.monotonic() + SCRAPED_SECONDS
    while True:
        targets = asked(platform, "targets?state=active")["activeTargets"]
        if len(targets) > len(SERVICES) and all(each["health"] != "unknown" for each in targets):
            break
        assert time.monotonic() < deadline, targets
        time.sleep(0.5)
    names = asked(platform, "label/__name__/values")

    assert {(each["scrapePool"], each["health"]) for each in targets} == {
        (job, "up") for job in (*SERVICES, "livekit")
    }
    assert {"livekit_room_total", "livekit_participant_total", "antiphon_bus_connected"} <= set(names)
    health = [rule["health"] for group in asked(platform, "rules")["groups"] for rule in group["rules"]]
    assert health
    assert "err" not in health


def asked(platform: Platform, question: str) -> Any:
    """Return an answer of Prometheus."""
    url = f"http://127.0.0.1:{platform.variables['PROMETHEUS_PORT']}/api/v1/{question}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]


@pytest.mark.parametrize("version", programs())
def test_the_profile_of_a_cluster_makes_one_of_three_brokers(
    variables: dict[str, str], tmp_path: Path, version: str
) -> None:
    chosen = variables | compose_env.variables("192.0.2.1", cluster=True, metrics=False)
    compose = programs()[version]
    with running(compose, "antiphoncluster", chosen, tmp_path / "env", *compose_env.BROKERS) as cluster:
        deadline = time.monotonic() + CLUSTER_SECONDS
        while True:
            url = "http://127.0.0.1:8222/jsz"
            state = json.loads(
                cluster.compose("exec", "-T", "nats", "wget", "-q", "-O", "-", url, seconds=120)
            )
            if state["meta_cluster"].get("leader") and state["meta_cluster"]["cluster_size"] == 3:
                break
            assert time.monotonic() < deadline, state["meta_cluster"]
            time.sleep(0.5)

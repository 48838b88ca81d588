"""The file of variables for compose: new secrets, private, never written over."""

import re
import stat
from pathlib import Path

import pytest
from deploy import compose_env

from antiphon.chassis.nats_config import accounts, as_config, variable_of
from antiphon.chassis.nats_users import users

USERS = {f"NATS_{user}_PASSWORD" for user in compose_env.NATS_USERS}
OTHERS = {
    "NATS_PASSWORD",
    "POSTGRES_PASSWORD",
    "POSTGRES_PERSISTENCE_PASSWORD",
    "POSTGRES_SESSION_API_PASSWORD",
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "ANTIPHON_API_KEY",
    "GRAFANA_PASSWORD",
}
SECRETS = OTHERS | USERS


def read(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_a_new_file_has_new_secrets_that_only_its_owner_reads(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one, two):
        assert compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7"]) == 0

    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert read(one).keys() == {"ANTIPHON_VERSION", "LIVEKIT_NODE_IP", *SECRETS}
    assert read(one)["LIVEKIT_NODE_IP"] == "192.0.2.7"
    for name in SECRETS:
        assert read(one)[name] != read(two)[name]
        assert read(one)[name].replace("_", "").isalnum()  # it is put into URLs and into YAML
        assert read(one)[name][0].isalpha()
    assert len(read(one)["LIVEKIT_API_SECRET"]) >= 32
    assert len(read(one)["ANTIPHON_API_KEY"]) >= 32


def test_an_existing_file_keeps_its_secrets_and_gets_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "env"
    file.write_text("".join(f"{name}=old\n" for name in sorted(OTHERS)).rstrip())

    assert compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7"]) == 0
    assert "added NATS_PERSISTENCE_PASSWORD, " in capsys.readouterr().out
    found = dict(line.split("=") for line in file.read_text().split())
    assert {name for name, value in found.items() if value == "old"} == OTHERS
    assert found.keys() == SECRETS
    assert compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7"]) == 1

    assert found == dict(line.split("=") for line in file.read_text().split())
    assert "exists and is kept: its secrets open the stored data" in capsys.readouterr().err


def test_what_is_appended_later_is_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("".join(f"{name}=old\n" for name in sorted(OTHERS)) + "NATS_FLEET_PASSWORD=")

    assert compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7"]) == 0
    with file.open("a") as appended:
        appended.write("COMPOSE_PROFILES=metrics\n")

    found = read(file)
    assert found["COMPOSE_PROFILES"] == "metrics"
    assert found["NATS_FLEET_PASSWORD"], "an empty secret is one that the file lacks"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--grafana", "set COMPOSE_PROFILES=fleet,metrics,grafana in it"),
        ("--cluster", "--cluster is for a new one"),
    ],
)
def test_an_existing_file_does_not_get_profiles_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, told: str
) -> None:
    file = tmp_path / "env"
    file.write_text("COMPOSE_PROFILES=fleet\n")

    assert compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7", option]) == 1
    captured = capsys.readouterr()
    assert "added NATS_PASSWORD, " in captured.out
    assert told in captured.err
    assert read(file)["COMPOSE_PROFILES"] == "fleet"


def test_the_users_of_the_broker_are_those_of_the_code() -> None:
    """`python -m antiphon.persistence nats-users > deploy/nats/users.conf` mends it.

    Without --max-file: a server that has less free disk would not start.
    """
    config = as_config(accounts(users()), variable_of)

    assert (compose_env.ROOT / "deploy" / "nats" / "users.conf").read_text() == config
    wanted = set(re.findall(r"\$(NATS_[A-Z_]+_PASSWORD)", config))
    assert wanted == USERS | {"NATS_OPERATOR_PASSWORD"}
    compose = (compose_env.ROOT / "deploy" / "compose.yaml").read_text()
    assert not [name for name in wanted if f"      {name}: " not in compose]


def test_a_cluster_names_three_brokers(tmp_path: Path) -> None:
    file = tmp_path / "env"
    compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7", "--cluster", "--metrics"])

    found = read(file)
    assert found["COMPOSE_PROFILES"] == "cluster,metrics"
    assert found["ANTIPHON_NATS_URL"] == "nats://nats:4222,nats://nats-2:4222,nats://nats-3:4222"
    assert (found["NATS_CONFIG"], found["ANTIPHON_NATS_REPLICAS"]) == ("cluster", "3")


def test_grafana_comes_with_prometheus_and_a_password_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "env"
    compose_env.main(["--file", str(file), "--node-ip", "192.0.2.7", "--grafana"])

    found = read(file)
    assert found["COMPOSE_PROFILES"] == "metrics,grafana"
    assert len(found["GRAFANA_PASSWORD"]) >= 24


def test_a_wrong_address_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        compose_env.main(["--file", str(tmp_path / "env"), "--node-ip", "example.com"])

    assert refused.value.code == 2
    assert "--node-ip" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "mode"), [("flows/a.yaml", 0o600), ("deploy/nats", 0o700)])
def test_a_checkout_that_containers_cannot_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, mode: int
) -> None:
    for folder in compose_env.MOUNTED:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder).chmod(0o755)
    (tmp_path / "flows" / "a.yaml").touch()
    (tmp_path / "flows" / "a.yaml").chmod(0o644)
    assert compose_env.closed_to_containers(tmp_path) is None
    (tmp_path / name).chmod(mode)
    assert compose_env.closed_to_containers(tmp_path) == tmp_path / name
    monkeypatch.setattr(compose_env, "closed_to_containers", lambda _: tmp_path / name)

    assert compose_env.main(["--file", str(tmp_path / "env"), "--node-ip", "192.0.2.7"]) == 1

    assert f"{name}, as after umask 077: chmod -R go+rX deploy/nats" in capsys.readouterr().err
    assert not (tmp_path / "env").exists()

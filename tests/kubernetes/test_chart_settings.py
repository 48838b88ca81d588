"""The variables that the chart sets are settings of the service that gets them, and valid ones."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.kubernetes.chart import CHART, ROOT, Object, containers, of_kind, over, pods, render

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.settings import Settings
from antiphon.fleet.settings import FleetSettings
from antiphon.persistence.settings import EnsureSettings, MigrateSettings, PersistenceSettings
from antiphon.session_api.settings import ApiSettings
from antiphon.webhook_ingest.settings import WebhookSettings

FULL: dict[str, Any] = yaml.safe_load((CHART / "examples" / "everything.yaml").read_text())
PASSWORDS = {"nats": {"auth": {"type": "userPassword"}}}

# block of values → the settings of its service
BLOCKS: dict[str, type[Settings]] = {
    "sessionApi": ApiSettings,
    "webhookIngest": WebhookSettings,
    "persistence": PersistenceSettings,
    "projections": PersistenceSettings,
    "agentWorker": AgentSettings,
    "fleet": FleetSettings,
}
COMPONENTS = {re.sub("([A-Z])", lambda match: f"-{match[1].lower()}", key): key for key in BLOCKS}
# of libraries
TELEMETRY = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "SSL_CERT_FILE"}
FILES = {
    "secrets": {"asFiles": True},
    "postgres": {"tls": {"existingSecret": "db-tls"}},
    "livekit": {"tls": {"existingSecret": "livekit-tls"}},
}
# what Secrets and the downward API would say
KNOWN = {
    "ANTIPHON_POSTGRES_DSN": "postgresql://me:secret@db:5432/antiphon",
    "ANTIPHON_BOOTSTRAP_API_KEY": "k" * 40,
    "ANTIPHON_POD_NAME": "voice-agent-worker-5d9f-x2v4q",
}


def names(settings: type[Settings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def variables(container: Object) -> dict[str, str]:
    return {
        each["name"]: each.get("value", KNOWN.get(each["name"], "from-a-secret"))
        for each in container.get("env", ())
    }


def services(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the block of values and the environment of each service."""
    for component, deployment in of_kind("Deployment", render(values)).items():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        yield COMPONENTS[component], variables(container)


@pytest.mark.parametrize(
    "values",
    [{}, FULL, over(FULL, PASSWORDS), over(over(FULL, PASSWORDS), FILES)],
    ids=["least", "most", "passwords", "files"],
)
def test_every_variable_is_a_setting_of_its_service(values: dict[str, Any]) -> None:
    for block, environment in services(values):
        assert set(environment) - names(BLOCKS[block]) - TELEMETRY == set(), block


def test_secrets_as_files_are_mounted_where_the_variables_say_and_nowhere_else() -> None:
    found = render(over(over(FULL, PASSWORDS), FILES))
    named = {name: pod for name, pod in pods(found) if not name.startswith("Pod/")}  # that of `helm test`
    assert len(named) == 8
    for name, pod in named.items():
        volumes = {
            volume["name"]: volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume
        }
        read: set[str] = set()
        for container in containers(pod):
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            for variable in container.get("env", ()):
                path = variable.get("value", "")
                assert "secretKeyRef" not in variable.get("valueFrom", {}), (name, variable)
                if variable["name"].endswith("_FILE"):
                    folder, _, file = path.rpartition("/")
                    items = volumes[mounts[folder]["name"]].get("items")
                    assert items is None or file in {item["path"] for item in items}
                    assert "subPath" not in mounts[folder]
                    read.add(mounts[folder]["name"])
        unread = {volume for volume in volumes if volume.startswith("secrets-")} - read
        assert unread == set(), name
    workers = str(named["Deployment/voice-agent-worker"])
    assert "postgres" not in workers
    assert "secrets-livekit" in workers


def test_a_service_starts_with_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    for block, environment in services(over({}, {"projections": {"enabled": True}})):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            settings = BLOCKS[block]()
        given = settings.model_dump(by_alias=False)
        fields = {str(field.validation_alias): key for key, field in BLOCKS[block].model_fields.items()}
        for name, value in environment.items():
            assert str(given[fields[name]]).lower() in (value.lower(), f"{value}.0"), (block, name)


def test_a_wrong_setting_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    [environment] = [found for block, found in services({}) if block == "fleet"]
    for name, value in (environment | {"ANTIPHON_FLEET_DELETION_COST": "always"}).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match="ANTIPHON_FLEET_DELETION_COST"):
        FleetSettings()


def test_the_migration_gets_its_settings() -> None:
    job = of_kind("Job", render({}))["migrate"]["spec"]["template"]
    migrate, streams = containers(job)

    assert set(variables(migrate)) - names(MigrateSettings) == set()
    assert set(variables(streams)) - names(EnsureSettings) == set()


def test_streams_are_made_with_the_settings_of_persistence() -> None:
    found = render(FULL)
    [persistence] = containers(of_kind("Deployment", found)["persistence"]["spec"]["template"])
    streams = containers(of_kind("Job", found)["migrate"]["spec"]["template"])[-1]

    made = variables(streams)
    assert {"ANTIPHON_NATS_REPLICAS", "ANTIPHON_STREAM_MAX_BYTES"} < set(made)
    assert made.items() <= variables(persistence).items()
    assert all(mount in persistence["volumeMounts"] for mount in streams["volumeMounts"])


def test_the_values_take_each_setting_that_the_chart_does_not_make(
    schema: dict[str, Any], made: dict[str, set[str]]
) -> None:
    for block, settings in BLOCKS.items():
        taken = schema["properties"][block]["properties"]["settings"]["propertyNames"]["enum"]
        assert taken == sorted(names(settings) - made[block]), block


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


@pytest.fixture(scope="module")
def made() -> dict[str, set[str]]:
    """The variables that the templates may set, by block: all that they name for its component."""
    text = (CHART / "templates" / "_environment.tpl").read_text()
    parts = re.split(r'\{\{- define "antiphon\.env\.([a-z-]+)" -\}\}', text)
    defined = dict(zip(parts[1::2], parts[2::2], strict=True))

    def named(part: str) -> set[str]:
        found = set(re.findall(r"name: ([A-Z][A-Z_]+)", defined[part]))
        for inner in re.findall(r'include "antiphon\.env\.([a-z-]+)"', defined[part]):
            found |= named(inner)
        return found

    return {block: named(component) | named("logs") for component, block in COMPONENTS.items()}


def test_pages_name_each_setting() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for block, environment in services(FULL):
        missing = {name for name in environment if f"`{name}`" not in page}
        assert missing == set(), block
    assert len(list(pods(render(FULL)))) == 9


def test_each_service_has_the_login_of_its_key_and_migrations_that_of_the_owner() -> None:
    """A service without a key of its own has the owner's, as the whole chart without any."""
    keys = {"persistence": "ingest", "projections": "views", "sessionApi": "api"}

    def dsn_keys(values: dict[str, Any]) -> dict[str, str]:
        found = {}
        for kind in ("Deployment", "Job"):
            for name, workload in of_kind(kind, render(values)).items():
                for container in containers(workload["spec"]["template"]):
                    for each in container.get("env", ()):
                        if each["name"] == "ANTIPHON_POSTGRES_DSN":
                            found[f"{name}/{container['name']}"] = each["valueFrom"]["secretKeyRef"]["key"]
        return found

    alone = dsn_keys(FULL)
    assert set(alone.values()) == {"uri"}
    given = dsn_keys(over(FULL, {"postgres": {"dsnKeys": keys}}))
    assert given.keys() == alone.keys()
    assert set(given.values()) == {"uri", *keys.values()}
    for name, key in given.items():
        expected = {"persistence": "ingest", "projections": "views", "session-api": "api"}
        assert key == expected.get(name.partition("/")[0], "uri"), name

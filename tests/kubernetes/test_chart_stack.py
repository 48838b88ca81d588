"""The chart of the whole stack, with stubs for the charts of others: no chart repository is asked."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.chart import CHART, HELM_CHARTS, Refused, helm, objects, of_kind, template

STACK = HELM_CHARTS / "antiphon-stack"
POLICIES = "charts/antiphon/templates/networkpolicies.yaml"
OPERATOR = ("postgresql.cnpg.io/v1/Cluster",)
# what a stub shows of itself: that it is installed, and with which values
SHOWN = """\
kind: ConfigMap
apiVersion: v1
metadata: {name: {{ .Chart.Name }}}
data: {values: {{ toJson .Values | quote }}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart whose dependencies are stubs of the same name and version, but for our own."""
    folder = tmp_path_factory.mktemp("charts")
    copy = folder / "antiphon-stack"
    shutil.copytree(STACK, copy)
    shutil.copytree(CHART, folder / "antiphon")
    about = yaml.safe_load((copy / "Chart.yaml").read_text())
    for needed in about["dependencies"]:
        if needed["name"] != "antiphon":
            needed["repository"] = f"file://../{needed['name']}"
            _stub(folder / needed["name"], needed["version"])
    (copy / "Chart.yaml").write_text(yaml.safe_dump(about))
    helm("dependency", "update", str(copy))
    return copy


def _stub(folder: Path, version: str) -> None:
    (folder / "templates").mkdir(parents=True)
    about = {"apiVersion": "v2", "name": folder.name, "version": version}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about))
    (folder / "templates" / "shown.yaml").write_text(SHOWN)


def shown(text: str) -> dict[str, Any]:
    """Return the values of each stub that is installed."""
    return {
        each["metadata"]["name"]: yaml.safe_load(each["data"]["values"])
        for each in objects(text)
        if each["kind"] == "ConfigMap" and "values" in each["data"]
    }


def test_the_pinned_charts_have_conditions_and_exact_versions() -> None:
    about = yaml.safe_load((STACK / "Chart.yaml").read_text())
    switches = yaml.safe_load((STACK / "values.yaml").read_text())["install"]

    for needed in about["dependencies"]:
        assert needed["condition"].removeprefix("install.") in switches
        assert needed["version"].count(".") == 2
        assert needed["version"].replace(".", "").isdigit()


def test_the_defaults_install_all_but_the_operators(stack: Path) -> None:
    text = template({}, chart=stack, apis=OPERATOR)

    found = objects(text)
    assert set(shown(text)) == {"nats", "postgres", "livekit-server"}
    assert set(of_kind("Deployment", [each for each in found if "labels" in each["metadata"]])) == {
        "session-api",
        "webhook-ingest",
        "persistence",
        "agent-worker",
        "fleet",
    }


def test_the_parts_know_one_another(stack: Path) -> None:
    text = template({}, chart=stack, apis=OPERATOR)

    others = shown(text)
    ours = [each for each in objects(text) if each["kind"] == "Deployment"]
    [persistence] = [each for each in ours if each["metadata"]["name"].endswith("-persistence")]
    [container] = persistence["spec"]["template"]["spec"]["containers"]
    by_name = {each["name"]: each for each in container["env"]}
    assert by_name["ANTIPHON_NATS_URL"]["value"] == f"nats://{others['nats']['fullnameOverride']}:4222"
    secret = by_name["ANTIPHON_POSTGRES_DSN"]["valueFrom"]["secretKeyRef"]
    # what CloudNativePG calls the Secret of the owner of the database
    assert secret == {"name": f"{others['postgres']['fullnameOverride']}-app", "key": "uri"}
    assert "initContainers" in persistence["spec"]["template"]["spec"]
    replicas = others["nats"]["config"]["cluster"]["replicas"]
    assert by_name["ANTIPHON_NATS_REPLICAS"]["value"] == str(replicas)


def test_an_uninstall_keeps_the_database(stack: Path) -> None:
    others = shown(template({}, chart=stack, apis=OPERATOR))

    # the chart of the Cluster writes these annotations on it, and the operator removes volumes with it
    assert others["postgres"]["cluster"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_keda_of_the_operators_reaches_fleet(stack: Path) -> None:
    policies = of_kind("NetworkPolicy", objects(template({}, chart=stack, apis=OPERATOR, show=POLICIES)))

    [peer] = policies["fleet"]["spec"]["ingress"][0]["from"]
    assert "operators" in peer["namespaceSelector"]["matchExpressions"][0]["values"]


def test_what_is_there_already_is_not_installed(stack: Path) -> None:
    values = {"install": {"nats": False, "postgres": False, "livekit": False}}

    text = template(values, chart=stack, apis=())

    assert shown(text) == {}


def test_the_operators_come_alone(stack: Path) -> None:
    values = yaml.safe_load((STACK / "operators.yaml").read_text())

    text = template(values, chart=stack, apis=())

    assert set(shown(text)) == {"cloudnative-pg", "keda"}
    assert len(objects(text)) == 2


@pytest.mark.parametrize(
    ("values", "apis", "message"),
    [
        ({}, (), "install.postgres needs the operator CloudNativePG, which this cluster does not have"),
        ({"install": {"operators": True}}, OPERATOR, "install.operators goes into a release of its own"),
        (
            {"antiphon": {"migration": {"run": "hook"}}},
            OPERATOR,
            "the Postgres of this release starts after the hook. Set it to init",
        ),
        ({"postgresql": {}}, OPERATOR, "additional properties 'postgresql' not allowed"),
        ({"antiphon": {"replicas": 3}}, OPERATOR, "additional properties 'replicas' not allowed"),
    ],
    ids=["no operator", "operators beside", "a hook too early", "an unknown part", "a wrong value of ours"],
)
def test_what_cannot_work_is_refused(
    stack: Path, values: dict[str, Any], apis: tuple[str, ...], message: str
) -> None:
    with pytest.raises(Refused) as refused:
        template(values, chart=stack, apis=apis)

    assert message in str(refused.value)

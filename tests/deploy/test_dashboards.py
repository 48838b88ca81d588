"""The dashboards: what their panels ask for exists, and each says what it shows and where to read on."""

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from tests.deploy.alert_rules import alerts, recorded
from tests.deploy.promql import unknown
from tools.dashboards import __main__ as generator
from tools.dashboards import panels as panels_of
from tools.dashboards.panels import Dashboard, Panel, Row, build

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(generator.GRAFANA.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


ALL = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, found in DASHBOARDS.items()
    for panel in panels(found)
]


def test_the_files_are_those_of_the_declarations() -> None:
    assert [path for path, text in generator.targets().items() if path.read_text() != text] == []
    assert set(DASHBOARDS) == {"calls", "log", "on-call", "overview"}


@pytest.mark.parametrize(("name", "panel"), ALL)
def test_a_panel_asks_for_what_exists(name: str, panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert list(unknown(target["expr"], recorded())) == []
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize(("name", "panel"), ALL)
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lead_to_runbooks_that_exist_and_do_not_overlap(name: str) -> None:
    found = DASHBOARDS[name]
    pages = {link["url"] for panel in panels(found) for link in panel["links"]}
    places = [panel["gridPos"] for panel in found["panels"]]

    assert pages
    assert pages <= {f"${{docs}}/runbooks/{alert}.html" for alert in alerts()}
    assert len({panel["id"] for panel in found["panels"]}) == len(places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]
    assert all(place["x"] + place["w"] <= 24 for place in places)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not above


def test_every_alert_is_a_link_of_the_on_call() -> None:
    links = {
        link["title"].rpartition(" ")[2] for panel in panels(DASHBOARDS["on-call"]) for link in panel["links"]
    }
    # the rest are in its table, by name
    table = [panel for panel in panels(DASHBOARDS["on-call"]) if panel["type"] == "table"]

    assert {name for name, rule in alerts().items() if rule["labels"]["severity"] == "critical"} <= links
    assert "${docs}/runbooks/${__value.text}.html" in json.dumps(table)


def test_a_dashboard_can_be_declared_wide_and_with_good_above_bad() -> None:
    free = Panel("Free", "Room.", (("up", ""),), kind="number", good="high", amber=20, red=10, width=24)
    twice = Dashboard("x", "x", "x", (Row("One", (free, free)),))

    made = build(twice)

    steps = made.panels[1].field_config.defaults.thresholds.steps
    assert [(step.value, step.color) for step in steps] == [(None, "red"), (10, "orange"), (20, "green")]
    assert [panel.grid_pos.y for panel in made.panels] == [0, 1, 5]


def test_links_can_lead_to_a_site_of_your_own(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--docs-url", "https://docs.example.com/voice/", "--into", str(tmp_path)]) == 0

    rules = (tmp_path / "rules" / "log.yaml").read_text()
    assert "runbook_url: https://docs.example.com/voice/runbooks/AntiphonDeadLetters.html" in rules
    assert panels_of.DOCS not in rules + (tmp_path / "dashboards" / "on-call.json").read_text()

    assert generator.main(["--check"]) == 0
    (tmp_path / "rules" / "log.yaml").write_text("")
    assert generator.main(["--check", "--into", str(tmp_path)]) == 1
    assert "run make contracts" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        generator.main(["--docs-url", "https://docs.example.com"])

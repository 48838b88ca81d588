"""The page of metrics has every metric that a service declares, with its names, labels and meaning."""

import pytest
from tools.docs import metrics


def test_every_metric_has_a_row() -> None:
    rows = {line.split("`")[1]: line for line in metrics.page().splitlines() if line.startswith("| `")}

    assert set(rows) == {listed.metric.name for listed in metrics.catalogue()}
    for listed in metrics.catalogue():
        row = rows[listed.metric.name]
        assert f"`{listed.metric.prometheus_name}`" in row
        assert listed.metric.kind in row
        assert all(f"`{label.replace('.', '_')}`: " in row for label in listed.labels)
        assert len(listed.metric.description.split()) > 2, row


def test_a_module_without_a_place_in_the_prose_gets_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.PLACES, "antiphon.fleet.settings", ("fleet",))
    assert "## antiphon.fleet.settings" in metrics.page()


def test_a_mark_that_names_no_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {place: by for place, by in metrics.PLACES.items() if place != "antiphon.fleet.metrics"}
    monkeypatch.setattr(metrics, "PLACES", places)
    with pytest.raises(ValueError, match=r"antiphon\.fleet\.metrics, which is no place"):
        metrics.page()

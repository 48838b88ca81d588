"""Every metric is in the catalogue, is exported after what it counts, and says what it is."""

import ast
import re
from pathlib import Path

from tools.docs.metrics import PLACES, catalogue

from antiphon.chassis.metrics import AtMost

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(r"tenant|session|room|key|subject|url|user|identity|\bid\b")
MOST_SERIES = 2_000  # of one metric, if each label had every value


def test_every_declaration_is_in_a_place_that_the_catalogue_reads() -> None:
    declaring = set()
    for folder in ("chassis", "recorder", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
            if names & {"counter", "gauge", "histogram"} and "src" in path.parts:
                module = path.relative_to(ROOT).with_suffix("").parts
                declaring.add(".".join(module[module.index("src") + 1 :]))
    assert declaring == set(PLACES)
    assert len(catalogue()) > 40


def test_labels_are_bounded_and_are_nothing_of_a_caller() -> None:
    for listed in catalogue():
        series = 1
        for label, allowed in listed.metric.labels.items():
            assert not FORBIDDEN.search(label), (listed.metric.name, label)
            size = allowed.limit + 1 if isinstance(allowed, AtMost) else len(allowed)
            series *= size
        if listed.metric.name != "http.server.request.duration":  # few routes have many statuses
            assert series <= MOST_SERIES, listed.metric.name


def test_names_units_and_descriptions_are_complete() -> None:
    for listed in catalogue():
        metric = listed.metric
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", metric.name)
        assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", metric.prometheus_name)
        assert metric.description[0].isupper() or metric.description[0].isdigit(), metric.name
        assert not metric.description.endswith("."), metric.name
        assert listed.services, metric.name


def test_the_page_has_every_metric() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    missing = [listed.metric.name for listed in catalogue() if f"`{listed.metric.name}`" not in page]
    assert missing == []

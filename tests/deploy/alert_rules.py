"""The rules of deploy/prometheus, as data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"))

Rule = dict[str, Any]


def rules() -> Iterator[Rule]:
    """Yield all rules."""
    for file in FILES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, Rule]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, set[str]]:
    """Return the labels of each recorded series: those that its expression groups by."""
    labels = {"job", "fault", "stage", "group"}
    return {rule["record"]: labels for rule in rules() if "record" in rule}

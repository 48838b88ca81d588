"""promtool reads the rules, and each alert fires when it should and not otherwise."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.alert_rules import FILES, ROOT, alerts
from tests.prometheus.cases import CASES, Case
from tests.prometheus.programs import Programs


def cases_of(name: str, case: Case) -> list[dict[str, Any]]:
    """Return both cases of an alert, as promtool's tests."""

    def test(what: str, series: dict[str, str], samples: list[dict[str, Any]]) -> dict[str, Any]:
        expression = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
        return {
            "name": f"{name} {what}",
            "interval": "15s",
            "input_series": [{"series": each, "values": values} for each, values in series.items()],
            "promql_expr_test": [
                {"expr": expression, "eval_time": f"{case.minute}m", "exp_samples": samples}
            ],
        }

    return [test("fires", case.fires, [{"labels": "{}", "value": 1}]), test("is quiet", case.quiet, [])]


def write(folder: Path, tests: list[dict[str, Any]]) -> Path:
    file = folder / "tests.yaml"
    names = [str(path) for path in FILES]
    file.write_text(
        yaml.safe_dump({"rule_files": names, "evaluation_interval": "15s", "tests": tests}, width=1000)
    )
    return file


def test_promtool_reads_the_rules_and_the_configuration(programs: Programs, tmp_path: Path) -> None:
    programs.check("check", "rules", *FILES)
    shutil.copytree(ROOT / "deploy" / "prometheus", tmp_path / "prometheus")
    configuration = tmp_path / "prometheus" / "prometheus.yaml"
    # where the container has them
    configuration.write_text(
        configuration.read_text().replace("/etc/prometheus", str(tmp_path / "prometheus"))
    )

    printed = programs.check("check", "config", configuration)

    assert f"{len(FILES)} rule files found" in printed


def test_every_alert_has_its_cases() -> None:
    assert set(CASES) == set(alerts())


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_not_otherwise(
    programs: Programs, tmp_path: Path, name: str
) -> None:
    programs.check("test", "rules", write(tmp_path, cases_of(name, CASES[name])))


def test_a_case_that_does_not_hold_is_found(programs: Programs, tmp_path: Path) -> None:
    case = CASES["AntiphonDeadLetters"]
    exchanged = Case(case.minute, case.quiet, case.fires)

    with pytest.raises(AssertionError, match="FAILED"):
        programs.check("test", "rules", write(tmp_path, cases_of("AntiphonDeadLetters", exchanged)))

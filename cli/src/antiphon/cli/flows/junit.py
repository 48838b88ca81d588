"""A JUnit XML report of conversations, as CI systems read it."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antiphon.agent_worker.conversation.expected import Outcome

# what XML 1.0 cannot hold, not even escaped
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Suite:
    """The outcomes of one file; `error` if it could not be opened or tried."""

    file: str
    outcomes: tuple[Outcome, ...]
    error: str | None = None


def write_report(path: Path, suites: Sequence[Suite]) -> None:
    """Write the report of all files."""
    ET.ElementTree(report(suites)).write(path, encoding="utf-8", xml_declaration=True)


def report(suites: Sequence[Suite]) -> ET.Element:
    """Return the report of all files."""
    root = ET.Element("testsuites", name="antiphon flow test")
    for suite in suites:
        element = ET.SubElement(
            root,
            "testsuite",
            name=_xml(suite.file),
            tests=str(len(suite.outcomes) + (suite.error is not None)),
            failures=str(sum(not outcome.passed for outcome in suite.outcomes)),
            errors=str(int(suite.error is not None)),
            skipped=str(sum(outcome.not_run is not None for outcome in suite.outcomes)),
            time=f"{sum(outcome.seconds for outcome in suite.outcomes):.3f}",
        )
        for outcome in suite.outcomes:
            _case(element, suite.file, outcome)
        if suite.error is not None:
            case = ET.SubElement(element, "testcase", name="the file", classname=_xml(suite.file))
            ET.SubElement(case, "error", message=_xml(suite.error.split("\n")[0])).text = _xml(suite.error)
    return root


def _case(suite: ET.Element, file: str, outcome: Outcome) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=_xml(outcome.name),
        classname=_xml(file),
        file=_xml(file),
        line=str(outcome.line),
        time=f"{outcome.seconds:.3f}",
    )
    if outcome.not_run is not None:
        ET.SubElement(case, "skipped", message=_xml(outcome.not_run))
    found = [
        f"{file}:{difference.line}: {step.place}.{difference.key}\n"
        f"expected  {difference.expected}\nheard     {difference.heard}"
        for step in outcome.steps
        for difference in step.differences
    ]
    if found:
        failure = ET.SubElement(case, "failure", message=_xml(found[0].split("\n")[0]))
        failure.text = _xml("\n\n".join(found))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)

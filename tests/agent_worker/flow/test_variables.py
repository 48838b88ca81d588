"""The texts of a flow have the metadata of the session, defaults, and the time in the caller's time zone."""

from datetime import UTC, datetime
from typing import Any

import pytest

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import InvalidFlow, load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow.variables import LONGEST_VALUE, MissingVariable

VARIABLES = """\
variables:
  metadata.name: there
  metadata.order.number: {default: 7}
  metadata.time_zone: Europe/Berlin
time_zone: "{metadata.time_zone}"
"""


def bound(small: str, metadata: dict[str, Any], greeting: str, variables: str = VARIABLES) -> BoundFlow:
    text = small.replace("greeting: Good evening.", f'greeting: "{greeting}"') + variables
    return bind(
        load_flow(text, CATALOG),
        CATALOG,
        metadata=metadata,
        now=lambda: datetime(2026, 1, 31, 23, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("metadata", "heard"),
    [
        ({}, "Hello there, order 7."),
        ({"name": "Ada", "order": {"number": 12}}, "Hello Ada, order 12."),
        ({"name": None, "order": "none"}, "Hello there, order 7."),
        ({"name": ["Ada", "Bob"], "order": {"number": {"a": 1}}}, 'Hello ["Ada", "Bob"], order {"a": 1}.'),
        ({"name": "{metadata.order.number} {0}"}, "Hello {metadata.order.number} {0}, order 7."),
    ],
)
def test_a_text_has_the_metadata_or_its_default(small: str, metadata: dict[str, Any], heard: str) -> None:
    call = bound(small, metadata, "Hello {metadata.name}, order {metadata.order.number}.")
    assert call.greeting_of("host") == heard


@pytest.mark.parametrize(
    ("zone", "heard"),
    [
        ({}, "2026-02-01 00:30 Sunday"),
        ({"time_zone": "America/New_York"}, "2026-01-31 18:30 Saturday"),
        ({"time_zone": "Mars/Phobos"}, "2026-01-31 23:30 Saturday"),
        ({"time_zone": "../../etc/passwd"}, "2026-01-31 23:30 Saturday"),
        ({"time_zone": "\0"}, "2026-01-31 23:30 Saturday"),
    ],
)
def test_the_time_is_that_of_the_caller(small: str, zone: dict[str, Any], heard: str) -> None:
    call = bound(small, zone, "{now.date} {now.time} {now.weekday}")
    assert call.greeting_of("host") == heard


def test_a_session_without_what_its_flow_requires_is_refused(small: str) -> None:
    variables = "variables: {metadata.name: {required: true}}\n"
    with pytest.raises(MissingVariable, match=r"the session has no metadata\.name, which the flow small"):
        bound(small, {}, "Hello {metadata.name}.", variables)
    assert (
        bound(small, {"name": "Ada"}, "Hello {metadata.name}.", variables).greeting_of("host") == "Hello Ada."
    )


def test_a_text_has_the_variables_of_the_request(small: str) -> None:
    text = small.replace("greeting: Good evening.", 'greeting: "Hello {variables.guest}."')
    flow = load_flow(text + "variables: {variables.guest: there}\n", CATALOG)
    assert bind(flow, CATALOG, variables={"guest": "Ada"}).greeting_of("host") == "Hello Ada."
    assert bind(flow, CATALOG, metadata={"guest": "Ada"}).greeting_of("host") == "Hello there."


def test_a_long_value_is_cut(small: str) -> None:
    call = bound(small, {"name": "x" * 100_000}, "{metadata.name}")
    assert call.greeting_of("host") == "x" * LONGEST_VALUE


def test_a_text_with_a_missing_value_raises(small: str) -> None:
    with pytest.raises(KeyError, match="reference"):
        bound(small, {}, "Hello.").text("Your reference is {reference}.")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_time_zone_is_looked_up_without_a_list_of_all(
    small: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the list takes as long as all other checks of a flow, and each call checks its flow
    monkeypatch.delattr("antiphon.agent_worker.flow.check.texts.available_timezones")
    assert load_flow(f"{small}time_zone: {zone}\n", CATALOG).time_zone == zone


@pytest.mark.parametrize(
    ("zone", "suggestion"),
    [
        ("Europe/Berln", "; did you mean 'Europe/Berlin'?"),
        ("Europe", ""),
        ("posix/Europe/Berlin", ""),
        ("../../etc/passwd", ""),
        ("Europe/Berlin/", ""),
    ],
)
def test_an_unknown_time_zone_is_an_error(small: str, zone: str, suggestion: str) -> None:
    with pytest.raises(InvalidFlow) as invalid:
        load_flow(f"{small}time_zone: {zone}\n", CATALOG)
    [problem] = invalid.value.problems
    assert (problem.place, problem.reason.startswith(f"unknown time zone {zone!r}")) == ("time_zone", True)
    assert suggestion.rstrip("?") in problem.reason

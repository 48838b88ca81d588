"""The people to whom a flow transfers, and the rules of agents that cannot follow them."""

import pytest

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import InvalidFlow, load_flow


def reasons(text: str) -> list[str]:
    try:
        load_flow(text, CATALOG, name="f")
    except InvalidFlow as error:
        return [f"{one.place}: {one.reason}" for one in error.problems]
    return []


@pytest.mark.parametrize("to", ["the desk", "http://example.org", "sip:a@b?Header=x", "tel:", '"12 34 x"'])
def test_a_person_who_cannot_be_dialled_is_an_error_of_the_file(small: str, to: str) -> None:
    (found,) = reasons(f"{small}transfers: {{desk: {{to: {to!r}}}}}\n")

    assert found.startswith("transfers.desk.to: ")
    assert "write +4930123456 or sip:name@host" in found


@pytest.mark.parametrize(
    "to", ["+4930123456", "tel:+49-30/123456", "0800 123 456", "sip:desk@example.com", "0301234"]
)
def test_a_person_who_can_be_dialled(small: str, to: str) -> None:
    assert reasons(f"{small}transfers: {{desk: {{to: {to}}}}}\n") == []


def test_a_number_of_the_session_is_not_known_yet(small: str) -> None:
    assert (
        reasons(f'{small}variables: {{metadata.desk: x}}\ntransfers: {{desk: {{to: "{{metadata.desk}}"}}}}\n')
        == []
    )

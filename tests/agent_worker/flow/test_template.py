"""Answers are filled in, and spelled where the flow says so."""

import pytest

from antiphon.agent_worker.flow.template import InvalidTemplate, fill, placeholders


def test_names_are_filled_in_and_spelled() -> None:
    assert (
        fill("{reference:spelled} for {party_size}", {"reference": "T42", "party_size": "two"})
        == "T 4 2 for two"
    )


@pytest.mark.parametrize("text", ["{", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:03}"])
def test_nothing_else_can_be_filled_in(text: str) -> None:
    with pytest.raises(InvalidTemplate):
        placeholders(text)

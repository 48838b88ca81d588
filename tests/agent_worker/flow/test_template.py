"""Templates of answers."""

import pytest

from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders, render


def test_placeholders_are_replaced_and_spelled() -> None:
    assert (
        render("{reference:spelled} for {party_size}", {"reference": "T42", "party_size": "two"})
        == "T 4 2 for two"
    )


@pytest.mark.parametrize("text", ["{", "{}", "{0}", "{a.}", "{.a}", "{a b}", "{a[0]}", "{a!r}", "{a:03}"])
def test_other_placeholders_raise(text: str) -> None:
    with pytest.raises(InvalidTemplate):
        placeholders(text)

"""Both forms of ack subject tell the same."""

import pytest

from antiphon.chassis.bus import ack_subject


@pytest.mark.parametrize(
    "text",
    [
        "$JS.ACK.SESSIONS.ingest-3.1.42.7.1700000000000000000.5",
        "$JS.ACK._.F2YoCvPh.SESSIONS.ingest-3.1.42.7.1700000000000000000.5",
        "$JS.ACK.hub.F2YoCvPh.SESSIONS.ingest-3.1.42.7.1700000000000000000.5.random",
    ],
)
def test_the_numbers_are_found_in_every_form(text: str) -> None:
    delivery = ack_subject.parse(text)

    assert (delivery.position, delivery.consumer_sequence) == (42, 7)
    assert (delivery.deliveries, delivery.pending) == (1, 5)
    assert delivery.published_at.timestamp() == 1_700_000_000


@pytest.mark.parametrize("text", ["", "$JS.ACK.SESSIONS.x", "$JS.ACK.a.b.c.d.e.f.g.h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|not an ack subject"):
        ack_subject.parse(text)

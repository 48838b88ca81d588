"""The tools of flows."""

from antiphon.agent_worker.flow.tools import TOOLS, TableBooking, book_table


async def test_repeated_call_is_the_same_booking() -> None:
    booking = TableBooking(party_size=2, day="tomorrow", time="19:00")
    first = await book_table(booking, "call_1")
    assert first == await book_table(booking, "call_1")
    assert first != await book_table(booking, "call_2")
    assert set(first) == set(TOOLS["book_table"].outputs)

"""A line carries one partition from the bus to the log, in order, each event once."""


async def test_a_call_gets_dense_sequences_in_the_order_it_was_told(publish, lines, event_log, story):
    told = story("a call")
    call = told.whole_call()
    await publish(call)
    lines.start(told.partition)
    await event_log.until(len(call))

    assert await event_log.events(told.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]

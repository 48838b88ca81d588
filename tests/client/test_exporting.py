"""An export across broken connections: every event once, none left out, and its end is recognised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.events import event

from antiphon.client import exporting as exporting_module
from antiphon.client.calls import Reply
from antiphon.client.errors import ApiError, ConnectionFailed, InvalidArgument, UnreadableResponse
from antiphon.client.exporting import Exporting, exporting

OPEN = Reply(200, {"content-type": "application/x-ndjson"}, b"")


def control(after: int, *, complete: bool = False) -> bytes:
    document = {
        "cursor": f"c{after}",
        "until": "end",
        "progress": after / 10,
        "complete": complete,
        "tenant": "default",
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def line(sequence: int) -> bytes:
    return json.dumps(event(sequence)).encode() + b"\n"


def whole(count: int, every: int) -> list[bytes]:
    """Return the lines of an export of events, with a control line after every few of them."""
    lines: list[bytes] = []
    for sequence in range(1, count + 1):
        lines.append(line(sequence))
        if sequence % every == 0 and sequence < count:
            lines.append(control(sequence))
    return [*lines, control(count, complete=True)]


def after_of(export: Exporting) -> int:
    params = dict(export.call().params)
    return int(params.get("after", "c0").removeprefix("c"))


def test_the_first_request_has_the_options() -> None:
    export = exporting(types=["turn.saved", "tool.started"], since="2026-01-02T00:00:00Z", without_pii=True)

    assert export.call().params == [
        ("type", "turn.saved"),
        ("type", "tool.started"),
        ("without_pii", "true"),
        ("since", "2026-01-02T00:00:00Z"),
    ]


def test_a_later_request_goes_on_to_the_same_end() -> None:
    export = exporting(types="turn.saved", since="2026-01-02T00:00:00Z")
    export.opened(OPEN)
    [batch] = export.received(line(1) + control(1) + line(2))
    export.broke(ConnectionFailed("cut"))

    assert export.call().params == [("type", "turn.saved"), ("after", "c1"), ("until", "end")]
    assert [each.sequence for each in batch.events] == [1]
    assert batch.tenant == "default"


@given(st.integers(0, 12), st.integers(1, 4), st.lists(st.integers(1, 4000), max_size=12), st.data())
def test_every_event_comes_once_whatever_is_cut(
    count: int, every: int, cuts: list[int], data: st.DataObject
) -> None:
    export = exporting(now=lambda: 0.0)
    got: list[int] = []
    while not export.ended:
        lines = whole(count, every)
        after = after_of(export)
        passed = lines.index(control(after)) + 1 if after else 0
        sent = b"".join(lines[passed:])
        sent = sent[: cuts.pop()] if cuts else sent
        export.opened(OPEN)
        size = data.draw(st.integers(1, 600))
        for start in range(0, len(sent), size):
            got += [e.sequence for b in export.received(sent[start : start + size]) for e in b.events]
        if export.reading:
            export.closed()
            export.pause()

    assert got == list(range(1, count + 1))


def test_the_end_of_the_answer_is_not_the_end_of_the_export() -> None:
    export = exporting()
    export.opened(OPEN)
    export.received(line(1) + control(1))
    export.closed()

    assert not export.ended
    assert export.pause() > 0


def test_it_gives_up_after_failures_only() -> None:
    now = 0.0
    export = exporting(give_up_seconds=10, now=lambda: now)
    export.broke(ConnectionFailed("first"))
    now = 11.0
    export.opened(OPEN)
    export.received(control(1))
    export.broke(ConnectionFailed("second"))
    assert export.pause() > 0

    now = 30.0
    with pytest.raises(ConnectionFailed, match="second"):
        export.pause()


def test_a_refusal_is_an_error_and_a_busy_server_is_asked_again() -> None:
    export = exporting()
    with pytest.raises(ApiError):
        export.refused(Reply(422, {}, b'{"title": "Invalid request"}'))
    export.refused(Reply(429, {"retry-after": "7"}, b'{"title": "Too many"}'))

    assert export.pause() >= 7
    assert not export.ended


def test_another_answer_is_not_taken_for_an_export() -> None:
    with pytest.raises(UnreadableResponse, match="not an export"):
        exporting().opened(Reply(200, {"content-type": "text/html"}, b""))


def test_a_server_that_sends_no_cursor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting_module, "MAX_BATCH_BYTES", 1000)
    export = exporting()
    export.opened(OPEN)

    with pytest.raises(UnreadableResponse, match="without a cursor"):
        export.received(b"".join(line(sequence) for sequence in range(1, 100)))


@pytest.mark.parametrize("damaged", [b'{"cursor":1}\n', b'{"cursor":"c1","until":"end"}\n'])
def test_a_damaged_control_line_is_refused(damaged: bytes) -> None:
    export = exporting()
    export.opened(OPEN)

    with pytest.raises(UnreadableResponse, match="control line"):
        export.received(damaged)


def test_a_time_needs_a_zone() -> None:
    from datetime import datetime

    with pytest.raises(InvalidArgument, match="time zone"):
        exporting(since=datetime(2026, 1, 2))  # noqa: DTZ001 - the mistake

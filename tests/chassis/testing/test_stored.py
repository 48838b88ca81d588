"""Subject filters in memory match as the server's do."""

import pytest
from tests.fixtures.clock import FixedClock
from tests.fixtures.ids import SequentialIds

from antiphon.chassis.testing.stored import matches
from antiphon.contracts.ids import new_session_id


@pytest.mark.parametrize(
    ("subject_filter", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*.c", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.b.>", "a.b.c", True),
        (">", "a", True),
        ("a.b.c", "a.b", False),
    ],
)
def test_a_filter_matches(subject_filter: str, subject: str, expected: bool) -> None:
    assert matches(subject_filter, subject) is expected


def test_a_fixed_clock_moves_when_it_is_told() -> None:
    clock = FixedClock()
    before = clock()

    clock.advance(1.5)

    assert (clock() - before).total_seconds() == 1.5


def test_sequential_ids_look_like_session_ids() -> None:
    ids = SequentialIds()
    first, second = ids(), ids()

    assert first < second
    assert len(first) == len(new_session_id(FixedClock()(), bytes(10)))

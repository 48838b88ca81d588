"""The partitions are shared by those that fold them: each once, and what is done never shrinks."""

import pytest

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.rebuild.shares import Shares


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 16])
def test_each_partition_is_in_one_share(processes: int) -> None:
    shares = Shares(processes, lambda _, __: None)
    taken = list(iter(shares.take, None))

    assert sorted(partition for share in taken for partition in share) == list(range(PARTITIONS))
    assert len(taken) >= min(PARTITIONS, 2 * processes)
    assert shares.take() is None


def test_the_part_that_is_done_is_that_of_all_shares() -> None:
    seen: list[tuple[int, float]] = []
    shares = Shares(2, lambda events, done: seen.append((events, done)))
    first, second = shares.take(), shares.take()
    assert first is not None
    assert second is not None
    one, other = shares.progress(first), shares.progress(second)
    one(10, 0.5)
    other(20, 1.0)
    one(30, 1.0)

    assert seen == [(10, 0.0625), (20, 0.1875), (30, 0.25)]

"""Which turns of a session were counted: ranges of numbers for each epoch, bounded in size."""

from collections.abc import Mapping, Sequence

MAX_EPOCHS = 64
MAX_RANGES = 200  # of one epoch; then the lowest numbers that are missing count as counted

Ranges = Sequence[Sequence[int]]  # [first, last], in order, with a gap between each two


def with_number(by_epoch: Mapping[str, Ranges], epoch: str, number: int) -> Mapping[str, Ranges]:
    """Return the ranges with one more number, or the same object if it is in them."""
    ranges = by_epoch.get(epoch, ())
    if any(first <= number <= last for first, last in ranges):
        return by_epoch
    joined = _joined(ranges, number)
    if len(joined) > MAX_RANGES:
        joined[:2] = [[joined[0][0], joined[1][1]]]
    grown = {**by_epoch, epoch: joined}
    return dict(list(grown.items())[-MAX_EPOCHS:])


def _joined(ranges: Ranges, number: int) -> list[list[int]]:
    joined: list[list[int]] = []
    for first, last in sorted([*map(list, ranges), [number, number]]):
        if joined and joined[-1][1] + 1 >= first:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined

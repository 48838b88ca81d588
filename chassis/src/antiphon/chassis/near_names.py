"""Whether a name is probably another one, misspelt."""

from itertools import takewhile


def nearly(given: str, name: str) -> bool:
    """Tell whether a letter differs, is missing, added or swapped with the next, or the end is missing."""
    if name.startswith(f"{given}_"):
        return True
    start = _same_letters(given, name)
    given, name = given[start:], name[start:]
    end = _same_letters(given[::-1], name[::-1])
    given, name = given[: len(given) - end], name[: len(name) - end]
    return max(len(given), len(name)) <= 1 or (len(given) == 2 and given == name[::-1])


def _same_letters(one: str, other: str) -> int:
    """Return how many letters two texts have in common at their starts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

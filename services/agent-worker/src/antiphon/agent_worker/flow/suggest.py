"""What a wrong name may have meant."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches

MOST = 12  # names that an error lists
LONGEST = 64  # characters of a name that is listed, or suggested
MOST_COMPARED = 100_000  # pairs of names in the check of a flow: it takes some microseconds for each

_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


@contextmanager
def few_suggestions() -> Iterator[None]:
    """Bound the time for suggestions: a flow that has very many wrong names gets no more of them."""
    token = _left.set([MOST_COMPARED])
    try:
        yield
    finally:
        _left.reset(token)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error of a name that is not defined: what it may have meant, and what there is."""
    names = list(known)
    return f"unknown {kind} {name!r}; defined: {listed(names)}{did_you_mean(name, names)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest name, or nothing."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that is most like it, None if none is."""
    if len(name) > LONGEST:
        return None
    left = _left.get()
    if left is not None and left[0] <= 0:
        return None
    short = [one for one in known if len(one) <= LONGEST]
    if left is not None:
        left[0] -= len(short)
    return next(iter(get_close_matches(name, short, n=1)), None)


def listed(names: Iterable[str]) -> str:
    """Return the names, or the first of many."""
    all_names = list(names)
    more = f" and {len(all_names) - MOST} more" if len(all_names) > MOST else ""
    shown = (name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in all_names[:MOST])
    return f"{', '.join(shown)}{more}" if all_names else "none"

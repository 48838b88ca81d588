"""The heads: the end of each partition's chain, to be kept where who can write the database cannot write."""

from pathlib import Path

import msgspec

from antiphon.contracts.subjects import PARTITIONS


class Head(msgspec.Struct, frozen=True):
    """The end of a partition's chain: after `position` it is `chain`, over `events` events.

    `chained_after` is the last position without a hash; both are None for a partition that has no chain yet.
    """

    partition: int
    position: int
    events: int
    chained_after: int | None
    chain: str | None  # hexadecimal


class InvalidAnchors(Exception):
    """The file does not have heads; the message says what to give."""


class _Anchors(msgspec.Struct):
    heads: list[Head]


def read_anchors(path: Path) -> dict[int, Head]:
    """Return the heads in a file that `verify --log --json` has printed, by partition.

    Raises InvalidAnchors.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Anchors)
    except OSError as error:
        raise InvalidAnchors(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidAnchors(
            f"{path} has no heads: give the output of `verify --log --json` ({error})."
        ) from error
    heads = {head.partition: head for head in found.heads}
    if len(found.heads) != PARTITIONS or sorted(heads) != list(range(PARTITIONS)):
        missing = sorted(set(range(PARTITIONS)).difference(heads))
        wrong = (
            f"no head of partitions {', '.join(map(str, missing))}"
            if missing
            else "other partitions too, or one twice"
        )
        raise InvalidAnchors(
            f"{path} has {wrong}: give the whole output of `verify --log --json`, which has one head of each "
            f"of the {PARTITIONS} partitions."
        )
    return heads

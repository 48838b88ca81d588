"""The fair share: how many partitions of a group each replica holds, and what it takes and gives up for that.

Every replica computes the same shares from the same members, without talking to the others.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Plan(NamedTuple):
    """What a replica does next: leases to try, and leases to give up."""

    take: list[int]
    give_up: list[int]


def share(group: str, members: Collection[int], member: int, partitions: int) -> int:
    """Return how many partitions a member of the group may hold; 0 if it is not one.

    The shares of all members differ by 1 at most, and their sum is `partitions`.
    """
    if member not in members:
        return 0
    each, more = divmod(partitions, len(members))
    first = sorted(members, key=lambda other: _rank(group, other))[:more]
    return each + (member in first)


def plan(
    group: str,
    member: int,
    *,
    share: int,
    held: Sequence[int],
    ending: Collection[int],
    free: Collection[int],
) -> Plan:
    """Return what to take and to give up, so that the member comes to hold its share.

    `held` are its partitions in the order in which it took them, without those of `ending`, which it gave up
    and still works on. `free` are the partitions that no replica holds.
    """
    surplus = len(held) - share
    if surplus > 0:
        return Plan([], list(held[-surplus:]))
    room = max(0, share - len(held) - len(ending))
    # Replicas try them in different orders, so that they seldom try the same.
    tried = sorted(free, key=lambda partition: _rank(f"{group}:{partition}", member))
    return Plan(tried[:room], [])


def _rank(text: str, member: int) -> bytes:
    # By hash, not by number: no replica gets the remainder of every group, and a replica that joins or leaves
    # does not change the order of the others.
    return hashlib.blake2b(f"{text} {member}".encode(), digest_size=8).digest()

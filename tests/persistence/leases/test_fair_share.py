"""The fair share: for any members, and through any sequence of joins, deaths and delays, it settles on ±1."""

from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.persistence.leases.fair_share import plan, share

PIDS = st.integers(1, 2**22)
MEMBERS = st.sets(PIDS, min_size=1, max_size=40)
PARTITIONS = st.integers(1, 32)
GROUPS = ["ingest", *(f"projection:{name}" for name in ("sessions", "turns", "tools", "usage", "daily"))]


@given(MEMBERS, PARTITIONS, st.sampled_from(GROUPS))
def test_the_shares_sum_up_and_differ_by_one_at_most(
    members: Collection[int], partitions: int, group: str
) -> None:
    shares = [share(group, members, member, partitions) for member in members]

    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1


def test_a_replica_that_is_not_a_member_has_no_share() -> None:
    assert share("ingest", [1, 2], 3, 16) == 0
    assert share("ingest", [], 3, 16) == 0


def test_the_only_member_holds_all() -> None:
    assert share("ingest", [7], 7, 16) == 16


def test_the_remainder_of_every_group_does_not_go_to_the_same_replica() -> None:
    members = range(1000, 1003)  # 16 = 6 + 5 + 5
    larger = {next(m for m in members if share(f"projection:{n}", members, m, 16) == 6) for n in range(20)}

    assert larger == set(members)


@given(st.data(), PARTITIONS)
def test_a_plan_stays_within_the_share(data: st.DataObject, partitions: int) -> None:
    all_of = st.permutations(range(partitions)).flatmap(
        lambda order: st.tuples(
            st.just(order), st.integers(0, partitions), st.integers(0, partitions), st.integers(0, partitions)
        )
    )
    order, first, second, third = data.draw(all_of)
    a, b, c = sorted((first, second, third))
    held, ending, free = order[:a], order[a:b], order[b:c]
    allowed = data.draw(st.integers(0, partitions))

    found = plan("ingest", 7, share=allowed, held=held, ending=ending, free=free)

    assert set(found.take) <= set(free)
    assert set(found.give_up) <= set(held)
    assert not (found.take and found.give_up)
    assert len(found.give_up) == max(0, len(held) - allowed), "exactly the surplus moves"
    room = max(0, allowed - len(held) - len(ending))
    assert len(found.take) == min(room, len(free))


@dataclass
class Replica:
    """A replica in the model: what it holds, and what it gave up and still works on."""

    held: list[int] = field(default_factory=list)
    ending: set[int] = field(default_factory=set)


class Model:
    """Replicas that share the locks of one group, each acting on what it saw, which may be old."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.replicas: dict[int, Replica] = {}
        self.seen: dict[int, tuple[set[int], set[int]]] = {}

    def step(self, what: str, number: int) -> None:
        """Let something happen, to the replica of a number."""
        if what == "join":
            self.replicas.setdefault(number, Replica())
            return
        if not self.replicas:
            return
        pid = sorted(self.replicas)[number % len(self.replicas)]
        if what == "die":
            del self.replicas[pid]
            self.seen.pop(pid, None)
        elif what == "look":
            self.seen[pid] = set(self.replicas), set(self.owners())
        elif what == "act" and pid in self.seen:
            self.act(pid, *self.seen[pid])
        elif what == "finish":
            self.finish(pid)

    def owners(self) -> dict[int, int]:
        """Return the holder of each lock."""
        owners: dict[int, int] = {}
        for pid, replica in self.replicas.items():
            for partition in (*replica.held, *replica.ending):
                assert partition not in owners, "a lock has one holder"
                owners[partition] = pid
        return owners

    def act(self, pid: int, seen_members: Collection[int], seen_owners: Collection[int]) -> bool:
        """Let a replica plan with what it saw, and do it; return whether it moved anything."""
        replica = self.replicas[pid]
        found = plan(
            "ingest",
            pid,
            share=share("ingest", seen_members, pid, self.partitions),
            held=replica.held,
            ending=replica.ending,
            free=set(range(self.partitions)) - set(seen_owners),
        )
        for partition in found.give_up:
            replica.held.remove(partition)
            replica.ending.add(partition)
        taken = [partition for partition in found.take if partition not in self.owners()]
        replica.held += taken
        return bool(found.give_up or taken)

    def finish(self, pid: int) -> bool:
        """Release what a replica gave up: its work has ended."""
        ending, self.replicas[pid].ending = self.replicas[pid].ending, set()
        return bool(ending)

    def settle(self) -> int:
        """Let every replica look and act until nothing moves; return the number of rounds."""
        for rounds in range(100):
            moved = [self.act(pid, self.replicas, self.owners()) for pid in self.replicas]
            moved += [self.finish(pid) for pid in self.replicas]
            if not any(moved):
                return rounds
        raise AssertionError("it does not settle")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), PIDS),
        st.tuples(st.just("die"), st.integers(0, 100)),
        st.tuples(st.just("look"), st.integers(0, 100)),
        st.tuples(st.just("act"), st.integers(0, 100)),
        st.tuples(st.just("finish"), st.integers(0, 100)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(PARTITIONS, STEPS)
def test_it_settles_on_the_fair_share_whatever_happened_before(
    partitions: int, steps: list[tuple[str, int]]
) -> None:
    model = Model(partitions)
    for what, number in steps:
        model.step(what, number)
    model.settle()

    if model.replicas:
        assert set(model.owners()) == set(range(partitions))
        for pid, replica in model.replicas.items():
            assert len(replica.held) == share("ingest", model.replicas, pid, partitions)
            assert not replica.ending


@given(MEMBERS, PARTITIONS, PIDS)
def test_a_join_moves_no_more_than_it_must(members: set[int], partitions: int, newcomer: int) -> None:
    model = Model(partitions)
    model.replicas = {pid: Replica() for pid in members - {newcomer}}
    model.settle()
    before = model.owners()
    shares = {pid: len(replica.held) for pid, replica in model.replicas.items()}
    model.replicas[newcomer] = Replica()
    model.settle()

    moved = sum(model.owners()[partition] != owner for partition, owner in before.items())
    grew = sum(max(0, len(replica.held) - shares.get(pid, 0)) for pid, replica in model.replicas.items())
    assert moved == (grew if before else 0)

"""What the services of a stack use while something runs: CPU seconds and the largest memory, by service.

Memory is the proportional share (PSS) of a service's processes: pages that several processes share, as those
that a fork server has loaded for all its jobs, are counted once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

MIB = 1 << 20
SAMPLE_SECONDS = 0.25


@dataclass(slots=True)
class Used:
    """What was used, by name."""

    peak_mib: dict[str, float] = field(default_factory=dict)
    _seconds: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # of each process

    def seconds(self, name: str) -> float:
        """Return the CPU seconds of a service, those of its processes that ended meanwhile included."""
        return sum(last - first for (owner, _), (first, last) in self._seconds.items() if owner == name)

    def look(self, leaders: Mapping[str, int], *, first: bool = False) -> None:
        """Note what the processes have used so far."""
        for name, pid in leaders.items():
            mib = 0.0
            for process in family(pid):
                try:
                    mib += process.memory_full_info().pss / MIB
                    times = process.cpu_times()
                except psutil.Error:
                    continue  # it has ended
                now = float(times.user + times.system)
                # a process that was not there at first has used all of it meanwhile
                began, _ = self._seconds.get((name, process.pid), (now if first else 0.0, now))
                self._seconds[name, process.pid] = (began, now)
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), mib)


@asynccontextmanager
async def watching(leaders: Mapping[str, int]) -> AsyncIterator[Used]:
    """Note what services use while the block runs: each the process of `leaders` and its children."""
    used = Used()
    used.look(leaders, first=True)

    async def look_again() -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            await asyncio.to_thread(used.look, leaders)

    looking = asyncio.create_task(look_again())
    try:
        yield used
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        used.look(leaders)


def family(pid: int) -> Iterator[psutil.Process]:
    """Yield a process and its descendants, those that exist."""
    try:
        leader = psutil.Process(pid)
        yield leader
        yield from leader.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def pss_mib(pid: int) -> float:
    """Return the memory of a process and its descendants, what they share with others in part."""
    used = Used()
    used.look({"": pid})
    return used.peak_mib[""]

"""Steps in the log that streams and exports read at the same time: a few, in which tenants alternate."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Steps:
    """At most `limit` steps at the same time, `of_tenant` of them of one tenant; a tenant's are in order."""

    def __init__(self, limit: int, of_tenant: int) -> None:
        self._free = limit
        self._of_tenant = of_tenant
        self._running: Counter[str] = Counter()
        # the tenant that has waited longest comes first, and of each its oldest waiter
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    @property
    def waiting(self) -> int:
        """How many wait for their step."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """Wait until a tenant may read a step, which the block of code does."""
        await self._take(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _take(self, tenant: str) -> None:
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, {})[admitted] = None
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():  # at the same moment
                self._give_back(tenant)
            elif admitted in self._waiting.get(tenant, ()):
                self._forget(tenant, admitted)
            raise

    def _admit(self) -> None:
        while self._free:
            ready = (tenant for tenant in self._waiting if self._running[tenant] < self._of_tenant)
            tenant = next(ready, None)
            if tenant is None:
                return
            admitted = next(iter(self._waiting[tenant]))
            self._forget(tenant, admitted)
            if admitted.cancelled():  # its task has not run since
                continue
            if tenant in self._waiting:
                self._waiting[tenant] = self._waiting.pop(tenant)  # behind the others
            self._free -= 1
            self._running[tenant] += 1
            admitted.set_result(None)

    def _forget(self, tenant: str, admitted: "asyncio.Future[None]") -> None:
        del self._waiting[tenant][admitted]
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        self._admit()

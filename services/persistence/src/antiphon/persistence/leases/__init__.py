"""Leases: which replica does which piece of work; each replica has a fair share.

A *group* is work in partitions: `ingest`, or `projection:<name>` (see `locks`). The lease of a partition is
an advisory lock of Postgres, and so is the membership of a replica in a group. All locks of a process are on
one connection (`connection.Leases`): when it ends, Postgres releases them all, and the process ends its work.
Leases are advisory, the epoch fences: each transaction checks the epoch of its partition, which excludes a
second writer. So work claims a new epoch each time that it is started.

How to use them:

    leases = Leases(dsn)                             # leases.run() in a BackgroundTask

    async def work(partition: int, ended: asyncio.Event) -> None:
        ...                                          # claim the epoch; work until `ended` is set

    await run_while_leased(leases, INGEST, work, readiness, stop)

`work` is called for each partition that this replica holds; the one loop of a view gets its partitions by
such calls (`ProjectionLoop.hold`). `ended` is set when the partition goes to another replica, the lease is
lost, or by `stop`; the work then has FINISH_SECONDS to finish its batch, and is cancelled. Work that raises
Fenced lets its lease go and is tried again after a backoff; any other error is raised.
`run_while_leased` joins the group and leaves it when `stop` is set, then waits until the locks are released.
A process need not join every group: the replicas that joined a group share it.
"""

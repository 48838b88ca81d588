"""Leases: which replica does which piece of work; each replica has a fair share.

A *group* is work in partitions: `ingest`, or `projection:<name>` (see `locks`). The lease of a partition is
an advisory lock of Postgres, and so is the membership of a replica in a group. All locks of a process are on
one connection (`connection.Leases`): when it ends, Postgres releases them all, and the process ends its work.
Leases are advisory, the epoch fences: each transaction checks the epoch of its partition, which excludes a
second writer. So work claims a new epoch each time that it is started.

How to use them:

    leases = Leases(dsn)                             # leases.run() in a BackgroundTask

    # 1. Work by partition: a call for each partition that is held, e.g. an ingest loop.
    async def work(partition: int, ended: asyncio.Event) -> None:
        ...                                          # claim the epoch; work until `ended` is set
    await run_while_leased(leases, INGEST, work, readiness, stop)

    # 2. One loop that works on a set of partitions, which grows and shrinks while it runs.
    owned = OwnedPartitions()
    group.create_task(run_while_leased(leases, projection_group("turns"), owned.own, readiness, stop))
    group.create_task(loop(owned, stop))

    async def loop(owned, stop):
        while not stop.is_set():
            partitions, new = owned.take()           # between two batches; lets go what is not in it
            with suppress(ShuttingDown):             # `changed` is set until `take` is called
                async with StopAwareWait(stop, owned.changed) as wait:
                    ...                              # claim the epochs of the new ones; work, with `wait`
        owned.close()                                # in `finally`

`run_while_leased` joins the group and leaves it when `stop` is set, then waits until the locks are released.
`ended` is set when the partition goes to another replica, when the lease is lost, or by `stop`; the work then
has FINISH_SECONDS to finish its batch, and is cancelled. Work that raises Fenced, or a loop that calls
`owned.fenced(error, partitions)`, lets its lease go and tries again after a backoff; `run_while_leased`
raises any other error. A process need not join every group: the replicas that joined a group share it.
"""

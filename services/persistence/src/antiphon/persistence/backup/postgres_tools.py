"""Run pg_dump and pg_restore: data goes through this process, so that they end when it is killed."""

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from antiphon.chassis.postgres_dsn import current_dsn
from antiphon.persistence.backup.manifest import BackupError

CHUNK_BYTES = 1 << 20
STALL_SECONDS = 600.0  # in which a tool writes nothing
INDEX_SECONDS = 6 * 3600.0  # for pg_restore to build indexes
ENDING_SECONDS = 10.0
ERROR_BYTES = 4096  # of what a tool says, the end is shown

T = TypeVar("T")

# Parameters of a DSN that libpq reads from the environment; others are settings of the server for services.
LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "database": "PGDATABASE",
    "passfile": "PGPASSFILE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


def libpq_environment(dsn: str) -> dict[str, str]:
    """Return the environment of a tool: the address, and the password, which others see in arguments."""
    address = urlsplit(current_dsn(dsn))
    login, _, hosts = address.netloc.rpartition("@")
    user, _, password = login.partition(":")
    found = {
        "PGHOST": ",".join(_split(host)[0] for host in hosts.split(",")),
        "PGPORT": ",".join(_split(host)[1] for host in hosts.split(",")),
        "PGUSER": unquote(user),
        "PGPASSWORD": unquote(password),
        "PGDATABASE": unquote(address.path.lstrip("/")),
    }
    for name, values in parse_qs(address.query, keep_blank_values=True).items():
        if name in LIBPQ:
            found[LIBPQ[name]] = values[-1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return (
        environment
        | {name: value for name, value in found.items() if value}
        | {"PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "persistence backup", "LC_ALL": "C"}
    )


def _split(host: str) -> tuple[str, str]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    return name.strip("[]"), port


def find_tool(name: str, folder: Path | None) -> Path:
    """Return the path of a tool.

    Raises BackupError.
    """
    found = shutil.which(name, path=None if folder is None else str(folder))
    if found is None:
        where = "PATH" if folder is None else str(folder)
        raise BackupError(
            f"{name} is not in {where}: install the client tools of Postgres (postgresql-client), name their "
            "folder with ANTIPHON_POSTGRES_BIN, or leave out this part with --only buckets,stream and use "
            "the backups of your Postgres."
        )
    return Path(found)


async def tool_version(tool: Path) -> str:
    """Return what a tool says of its version, as "18.1"."""
    chunks: list[bytes] = []
    await read_output([str(tool), "--version"], dict(os.environ), chunks.append)
    words = b"".join(chunks).decode().split()
    return next((word for word in words if word[:1].isdigit()), "unknown")


async def read_output(
    command: list[str], environment: dict[str, str], write: Callable[[bytes], object]
) -> None:
    """Pass what a tool writes on.

    Raises BackupError with what it says when it fails, and what `write` raises.
    """
    async with _running(command, environment, stdin=DEVNULL, stdout=PIPE) as (process, said):
        assert process.stdout is not None
        while chunk := await _in_time(process.stdout.read(CHUNK_BYTES), command, STALL_SECONDS):
            write(chunk)
        await _finish(process, said, command, STALL_SECONDS)


async def feed(
    command: list[str], environment: dict[str, str], chunks: Iterable[bytes], on_sent: Callable[[int], object]
) -> None:
    """Give a tool its input; one that gets only a part of it undoes its work.

    Raises BackupError with what it says when it fails.
    """
    async with _running(command, environment, stdin=PIPE, stdout=DEVNULL) as (process, said):
        assert process.stdin is not None
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
                await _in_time(process.stdin.drain(), command, INDEX_SECONDS)
                on_sent(len(chunk))
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended, and says why
        await _finish(process, said, command, INDEX_SECONDS)


@asynccontextmanager
async def _running(
    command: list[str], environment: dict[str, str], *, stdin: int, stdout: int
) -> AsyncIterator[tuple[Process, "asyncio.Task[bytes]"]]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=stdin, stdout=stdout, stderr=PIPE
    )
    assert process.stderr is not None
    said = asyncio.create_task(_end_of(process.stderr), name=f"errors of {Path(command[0]).name}")
    try:
        yield process, said
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), ENDING_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        said.cancel()
        await asyncio.gather(said, return_exceptions=True)


async def _end_of(stream: asyncio.StreamReader) -> bytes:
    text = b""
    while chunk := await stream.read(ERROR_BYTES):
        text = (text + chunk)[-ERROR_BYTES:]
    return text


async def _in_time(work: Awaitable[T], command: list[str], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise BackupError(f"{Path(command[0]).name} did nothing for {seconds:g} s, and was ended.") from error


async def _finish(process: Process, said: "asyncio.Task[bytes]", command: list[str], seconds: float) -> None:
    code = await _in_time(process.wait(), command, seconds)
    if code != 0:
        words = (await said).decode(errors="replace").strip()
        raise BackupError(f"{Path(command[0]).name} failed with code {code}:\n{words}")

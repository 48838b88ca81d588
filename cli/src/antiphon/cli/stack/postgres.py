import os
import secrets
import signal
import subprocess
from pathlib import Path
from subprocess import Popen

from antiphon.cli.errors import StackError
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import disk, postgres_files, process
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.process import Command

NAME = "antiphon"  # of the superuser and of the database
FAST_SHUTDOWN = (signal.SIGINT,)  # disconnect the clients, write a checkpoint, exit
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class Postgres:
    """A Postgres 18 with its own folder, bound to loopback; the password is stored next to the data."""

    def __init__(self, directory: Path, *, port: int | None = None, output: Path | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.output = output or directory / "postgres.log"
        self.data = directory / "data"
        self.process: Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The DSN of the database, password included."""
        return self.dsn_of(NAME)

    def dsn_of(self, database: str) -> str:
        """Return the DSN of another database of this server."""
        return f"postgresql://{NAME}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> Command:
        """Create the data folder if needed, remove a stale lock file, and return the command to run."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        user = postgres_files.server_user()
        programs = postgres_files.programs_for(user)
        if not (self.data / "PG_VERSION").exists():
            postgres_files.initialise(self.data, programs, user, name=NAME, password=self._password())
        postgres_files.clear_stale_lock(self.data)
        chosen = {"port": str(self.port), "max_wal_size": f"{disk.wal_bytes(self.directory) // disk.MIB}MB"}
        settings = [f"--{key}={value}" for key, value in {**SETTINGS, **chosen}.items()]
        return Command(
            argv=(str(programs / "postgres"), "-D", postgres_files.data_argument(self.data, user), *settings),
            environment=postgres_files.environment(),
            directory=self.data,
            user=user,
            stop_signals=FAST_SHUTDOWN,
            stop_seconds=20,
            orphan_signal=signal.SIGINT,
        )

    def ready(self) -> bool:
        """Return whether the database responds to a query; create it if it is missing."""
        if self._query(NAME, "select 1"):
            return True
        return self._query("postgres", f"create database {NAME}") and self._query(NAME, "select 1")

    def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Start the server and wait until the database responds."""
        command = self.prepare()
        self.process = process.spawn(command, self.output)
        process.wait_until_ready(
            "Postgres", self.process, self.ready, self.output, timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Stop the server gracefully."""
        if self.process:
            process.stop(self.process, FAST_SHUTDOWN, timeout_seconds=20)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.process:
            process.kill(self.process)

    def _query(self, database: str, statement: str) -> bool:
        psql = postgres_files.INSTALLED / "bin" / "psql"
        result = subprocess.run(
            [psql, "-XqAt", "-c", statement],
            env={
                **postgres_files.environment(),
                "PGHOST": LOOPBACK,
                "PGPORT": str(self.port),
                "PGUSER": NAME,
                "PGDATABASE": database,
                "PGPASSWORD": self._password(),
                "PGCONNECT_TIMEOUT": "5",
            },
            capture_output=True,
            timeout=30,
            check=False,
        )
        return result.returncode == 0

    def _password(self) -> str:
        path = self.directory / "password"
        if not path.exists():
            if self.data.exists():
                raise StackError(
                    f"{path} is missing: the database in {self.data} cannot be opened without it"
                )
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text()

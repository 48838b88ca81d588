import os
import shutil
import signal
import sys
from pathlib import Path
from subprocess import Popen

from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import disk, nats_probe, process
from antiphon.cli.stack.nats_users import NatsUsers, move_to_account
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.process import Command

RESTART_BYTES = 64 << 20  # of free disk, with which a server that could not write is restarted

CONFIG = """\
# written by antiphon at every start; changes are lost
listen: "{host}:{port}"
server_name: antiphon-{port}
max_payload: 1MB
jetstream {{
  store_dir: store
  # an acknowledged event has reached the disk
  sync_interval: always
{limit}}}
# the flow-control acknowledgements of version 2 stall pull consumers of this client
feature_flags {{ js_ack_fc_v2: false }}
"""


class NatsServer:
    """A nats-server with JetStream and its own folder, bound to loopback; without users, anyone may connect.

    `max_store_bytes` limits what its streams may reserve; without it, the server takes three quarters of
    the free disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        output: Path | None = None,
        users: NatsUsers | None = None,
        max_store_bytes: int | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.output = output or directory / "nats.log"
        self.users = users
        self.max_store_bytes = max_store_bytes
        self.process: Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients, without a login."""
        return f"nats://{LOOPBACK}:{self.port}"

    def prepare(self) -> Command:
        """Write the configuration, with mode 0600, and return the command of the server."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.directory / "nats.conf"
        limit = "" if self.max_store_bytes is None else f"  max_file_store: {self.max_store_bytes}\n"
        text = CONFIG.format(host=LOOPBACK, port=self.port, limit=limit)
        if self.users is not None:
            text += self.users.config()
            move_to_account(self.directory / "store")
        # relative paths: its parser does not read every name of a folder
        write_private(config, text)
        return Command((_program(), "-c", config.name), dict(os.environ), self.directory)

    def fault(self) -> str | None:
        """Return why JetStream is not ready, or None."""
        try:
            fault = nats_probe.fault(self.port, self.users.supervisor if self.users else None)
        except (OSError, ValueError):
            return nats_probe.NO_ANSWER
        if fault is None or not fault.startswith(nats_probe.WRITE_FAULT):
            return fault
        free = shutil.disk_usage(self.directory).free
        if free >= RESTART_BYTES:
            return fault
        return f"{fault}; it is restarted once {disk.size(RESTART_BYTES)} are free ({disk.size(free)} now)"

    def restart_cures(self, fault: str) -> bool:
        """Return whether a restart ends a fault: a stream was not written, and now there is space."""
        if not fault.startswith(nats_probe.WRITE_FAULT):
            return False
        return shutil.disk_usage(self.directory).free >= RESTART_BYTES

    def ready(self) -> bool:
        """Return whether JetStream is ready."""
        return self.fault() is None

    def start(self, *, timeout_seconds: float = 20.0) -> None:
        """Start the server and wait until JetStream is ready."""
        command = self.prepare()
        self.process = process.spawn(command, self.output)
        process.wait_until_ready(
            "NATS", self.process, self.ready, self.output, timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Stop the server gracefully."""
        if self.process:
            process.stop(self.process, [signal.SIGTERM], timeout_seconds=10)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.process:
            process.kill(self.process)


def _program() -> str:
    # the wheel installs it beside the interpreter, which may not be on PATH
    program = Path(sys.prefix) / "bin" / "nats-server"
    if not program.exists():
        raise StackError(f"{program} is missing: make up installs it")
    return str(program)

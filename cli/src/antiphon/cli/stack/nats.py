import os
import signal
import socket
import sys
from pathlib import Path
from subprocess import Popen

from antiphon.cli.errors import StackError
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack import process
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.process import Command

CONFIG = """\
# written by antiphon at every start; changes are lost
listen: "{host}:{port}"
server_name: antiphon-{port}
max_payload: 1MB
jetstream {{
  store_dir: store
  # an acknowledged event has reached the disk
  sync_interval: always
}}
# the flow-control acknowledgements of version 2 stall pull consumers of this client
feature_flags {{ js_ack_fc_v2: false }}
"""


class NatsServer:
    """A nats-server with JetStream and its own folder, bound to loopback."""

    def __init__(self, directory: Path, *, port: int | None = None, output: Path | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.output = output or directory / "nats.log"
        self.process: Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"nats://{LOOPBACK}:{self.port}"

    def prepare(self) -> Command:
        """Write the configuration and return the command of the server."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.directory / "nats.conf"
        # relative paths: its parser does not read every name of a folder
        config.write_text(CONFIG.format(host=LOOPBACK, port=self.port))
        return Command((_program(), "-c", config.name), dict(os.environ), self.directory)

    def ready(self) -> bool:
        """Return whether JetStream responds to a request."""
        try:
            return _jetstream_responds(self.port)
        except OSError:
            return False

    def start(self, *, timeout_seconds: float = 20.0) -> None:
        """Start the server and wait until JetStream responds."""
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
        raise StackError(f"{program} is missing: make up installs it, or pip install 'antiphon-cli[stack]'")
    return str(program)


def _jetstream_responds(port: int) -> bool:
    """Send a request over a plain socket, so that only chassis.bus depends on the NATS client."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=1.0) as connection,
        connection.makefile("rb") as lines,
    ):
        lines.readline()  # INFO
        inbox = b"_INBOX.antiphon.ready"
        connection.sendall(
            b'CONNECT {"verbose":false,"no_responders":true,"headers":true}\r\n'
            b"SUB %s 1\r\nPUB $JS.API.INFO %s 0\r\n\r\n" % (inbox, inbox)
        )
        head = lines.readline()
        # HMSG means "no responders": JetStream is not up yet
        return head.startswith(b"MSG ") and b'"error"' not in lines.readline()

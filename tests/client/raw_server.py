"""A server of raw bytes, in threads: what no HTTP server would send."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket], None]


class RawServer:
    """Its address, and the heads of the requests that it got."""

    def __init__(self, listening: socket.socket) -> None:
        self.port: int = listening.getsockname()[1]
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket, answer: Answer) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65_536)
                head += part
                if not part:
                    break
            self.requests.append(head)
            answer(connection)


@contextmanager
def raw_server(answer: Answer) -> Iterator[RawServer]:
    """Run a server that reads the head of a request, answers, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawServer(listening)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=server.serve, args=(connection, answer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)


def answering(raw: bytes) -> Answer:
    """Return an answer that is always the same."""
    return lambda connection: connection.sendall(raw)

"""The health check of an image: whether the service answers on its own /health/live, or on another path.

    python -I -S health.py VARIABLE PORT [PATH]      VARIABLE may name another port

It is copied into the image and imports as little as it can: an engine runs it every few seconds.
"""

import os
import socket
import sys

SECONDS = 4.0
REQUEST = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def answers(port: int, path: str) -> bool:
    """Return whether the service on this port of the container answers with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(REQUEST.format(path).encode())
            answer = b""
            while b"\r\n" not in answer and (part := connection.recv(256)):
                answer += part
    except OSError as error:
        print(f"nothing answers on port {port}: {error}")
        return False
    status = answer.split(b"\r\n", 1)[0]
    print(status.decode("ascii", "replace"))
    return status.split()[1:2] == [b"200"]


if __name__ == "__main__":
    variable, default, *path = sys.argv[1:]
    sys.exit(0 if answers(int(os.environ.get(variable) or default), *(path or ["/health/live"])) else 1)

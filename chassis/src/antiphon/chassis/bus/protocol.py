"""The client protocol: subjects that a server accepts, and a parser that takes any subject.

nats-py takes a vertical tab or form feed in a subject, which nats-server delivers, for the end of the
subject, and drops the connection: again and again when the message is stored.
"""

import json

from nats.errors import ProtocolError
from nats.protocol import parser

from antiphon.chassis.bus.errors import InvalidSubject

AWAITING_CONTROL_LINE = parser.AWAITING_CONTROL_LINE
AWAITING_MSG_PAYLOAD = parser.AWAITING_MSG_PAYLOAD
LINE_END = b"\r\n"
LONGEST_LINE = 1 << 20  # bytes; a server's list of its cluster is the longest line that it sends

LONGEST_SUBJECT = 2048  # bytes; the server ends the connection of a client whose line is over 4096


def check_subject(subject: str) -> None:
    """Check a subject before it is sent: the server ends the whole connection for a wrong one.

    Raises InvalidSubject.
    """
    if (
        not subject.isprintable()  # line ends, tabs, surrogates
        or " " in subject
        or ".." in subject
        or subject[:1] in ("", ".")
        or subject[-1] == "."
        or len(subject) > LONGEST_SUBJECT
        or (not subject.isascii() and len(subject.encode()) > LONGEST_SUBJECT)
    ):
        raise InvalidSubject(
            f"{subject[:200]!r} is not a subject: tokens of printable characters without spaces, "
            f"separated by dots, {LONGEST_SUBJECT} bytes at most"
        )


class Parser(parser.Parser):
    """The parser of what a server sends; only spaces separate the fields of a message's first line."""

    async def parse(self, data: bytes = b"") -> None:
        """Parse received bytes and call the client.

        Raises ProtocolError, after which the client connects again.
        """
        buffer = self.buf
        buffer.extend(data)
        while buffer:
            if self.state == AWAITING_CONTROL_LINE:
                end = buffer.find(LINE_END)
                if end < 0:
                    if len(buffer) > LONGEST_LINE:
                        raise ProtocolError("nats: a line without an end")
                    return
                line = bytes(buffer[:end])
                del buffer[: end + 2]
                if line.startswith((b"MSG ", b"HMSG ")):
                    self._on_message_line(line)
                else:
                    await self._on_line(line)
            elif len(buffer) < self.needed + 2:
                return
            else:
                head, size = self.header_needed, self.needed
                headers, payload = bytes(buffer[:head]), bytes(buffer[head:size])
                del buffer[: size + 2]
                self.state = AWAITING_CONTROL_LINE
                arguments = self.msg_arg
                await self.nc._process_msg(
                    arguments["sid"], arguments["subject"], arguments["reply"], payload, headers
                )

    async def _on_line(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            await self.nc._process_ping()
        elif line.startswith(b"PONG"):
            await self.nc._process_pong()
        elif line.startswith(b"-ERR"):
            await self.nc._process_err(line[4:].strip().decode("utf-8", "replace"))
        elif line.startswith(b"INFO "):
            try:
                info = json.loads(line[5:])
            except ValueError as error:
                raise ProtocolError("nats: malformed INFO") from error
            await self.nc._process_info(info)
        elif not line.startswith(b"+OK"):
            raise ProtocolError("nats: unknown protocol")

    def _on_message_line(self, line: bytes) -> None:
        # MSG <subject> <sid> [reply] <bytes>, HMSG <subject> <sid> [reply] <bytes of headers> <bytes>
        try:
            verb, subject, sid, *middle, size = line.split(b" ")
            head = middle.pop() if verb == b"HMSG" else b"0"
            reply = middle.pop() if middle else b""
            self.msg_arg = {"subject": subject, "sid": int(sid), "reply": reply}
            self.header_needed, self.needed = int(head), int(size)
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed MSG") from error
        self.state = AWAITING_MSG_PAYLOAD

"""Check the DSN of Postgres: what asyncpg would refuse, or read in another way, is refused at start.

A DSN in a file is passed on as the address of the file, `file:///run/secrets/dsn`, and read at each connect.
"""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from antiphon.chassis.secret_files import SUFFIX, read_secret

DSN = "ANTIPHON_POSTGRES_DSN"
SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
FILE_SCHEME = "file:"
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")

ESCAPE = "in a password, write # as %23, / as %2F, ? as %3F, @ as %40 and : as %3A"


class UnusableDsnFile(OSError):
    """The file with the DSN was replaced by one that holds none: it is read again at the next connect."""


def address_of(path: Path | str) -> str:
    """Return the address of a file with a DSN, which is used in place of the DSN."""
    return Path(path).absolute().as_uri()


def current_dsn(dsn: str) -> str:
    """Return the DSN; for the address of a file, what it holds now, with the parameters added to the address.

    Raises UnusableDsnFile.
    """
    if not dsn.startswith(FILE_SCHEME):
        return dsn
    address, _, more = dsn.partition("?")
    try:
        found = check_dsn(read_secret(f"{DSN}{SUFFIX}", unquote(urlsplit(address).path)))
    except ValueError as error:
        text = str(error)
        raise UnusableDsnFile(text if text.startswith(DSN) else f"the file of {DSN}{SUFFIX} {text}") from None
    return f"{found}{'&' if '?' in found else '?'}{more}" if more else found


def check_dsn(value: str) -> str:
    """Return the DSN if it is valid, or the address of a file that holds a valid one.

    Raises ValueError, which does not contain it: it may hold a password, also where none belongs.
    """
    if value.startswith(FILE_SCHEME):
        check_dsn(read_secret(f"{DSN}{SUFFIX}", unquote(urlsplit(value).path)))
        return value
    if not value.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in SCHEMES)}")
    try:
        parts = urlsplit(value)
        user, at, hosts = parts.netloc.rpartition("@")
        valid = not parts.fragment and "@" not in user and all(map(_is_host, hosts.split(",")))
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else {}
    except ValueError:
        valid = False
    if not valid or "#" in value or (not at and "@" in parts.path):
        raise ValueError(
            f"must be postgresql://user:password@host:port/database?parameter=value; {ESCAPE}"
        ) from None
    _check_options({name: given[-1] for name, given in options.items()})
    return value


def _is_host(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not colon or (host.startswith("[") and host.endswith("]")):
        return True  # no port, or an IPv6 address without one
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        return False
    return port.isascii() and port.isdigit() and 0 < int(port) < 2**16


def _check_options(options: dict[str, str]) -> None:
    for name, allowed in (("sslmode", SSL_MODES), ("target_session_attrs", SESSION_ATTRS)):
        if name in options and options[name] not in allowed:
            raise ValueError(f"has a wrong {name}: allowed are {', '.join(allowed)}")
    for name in FILES:
        if options.get(name) and not Path(unquote(options[name])).is_file():
            raise ValueError(f"names a file in {name} that does not exist")

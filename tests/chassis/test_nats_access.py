"""Several URLs, users, tokens, credentials and TLS, on real servers; no secret is ever shown."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.fixtures.nats_operator import Operator
from tests.fixtures.nats_servers import Certificates, ConfiguredServer, kill_all

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.nats_access import NatsAccess, check_urls
from antiphon.chassis.settings import NatsSettings, load
from antiphon.cli.stack.ports import free_port
from antiphon.recorder import RecorderSettings

SECRET = "pa/ss,word"

Launch = Callable[[str], ConfiguredServer]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    servers: list[ConfiguredServer] = []

    def start(more: str) -> ConfiguredServer:
        server = ConfiguredServer(tmp_path / "nats", more)
        server.launch()
        servers.append(server)
        return server

    yield start
    kill_all(servers)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def _works(server: ConfiguredServer, access: NatsAccess | str) -> None:
    bus = await server.connect(access)
    await bus.ensure()
    await bus.ready()
    await bus.close()


async def _refused(access: NatsAccess | str, reason: str) -> None:
    with pytest.raises(BusUnavailable, match=reason) as refusal:
        await Bus.connect(access, connect_timeout_seconds=2.0)
    assert SECRET not in str(refusal.value)


async def test_a_user_has_a_password(launch: Launch) -> None:
    server = launch(f'authorization {{ user: ann, password: "{SECRET}" }}\n')
    host = server.url.partition("//")[2]

    await _works(server, NatsAccess(url=server.url, user="ann", password=SECRET))
    await _works(server, f"nats://ann:pa%2Fss%2Cword@{host}")
    await _works(server, NatsAccess(url=f"nats://ann:wrong@{host}", user="ann", password=SECRET))
    await _refused(NatsAccess(url=server.url, user="ann", password="wrong"), "(?i)authorization")
    await _refused(server.url, "(?i)authorization")


async def test_a_url_may_hold_a_token(launch: Launch) -> None:
    server = launch('authorization { token: "tok" }\n')
    await _works(server, f"nats://tok@{server.url.partition('//')[2]}")


async def test_credentials_of_an_operator(launch: Launch, tmp_path: Path) -> None:
    operator = Operator()
    server = launch(operator.server_config())
    creds = operator.write_creds(tmp_path / "user.creds")

    await _works(server, NatsAccess(url=server.url, creds=creds))
    await _refused(
        NatsAccess(url=server.url, creds=Operator().write_creds(tmp_path / "other")), "(?i)authorization"
    )


async def test_tls_with_an_authority_of_our_own(launch: Launch, certificates: Certificates) -> None:
    server = launch(certificates.server_config())
    secure = server.url.replace("nats:", "tls:")

    await _works(server, NatsAccess(url=secure, ca=certificates.ca))
    await _works(server, NatsAccess(url=server.url, ca=certificates.ca))
    await _refused(secure, "(?i)certificate")


async def test_a_client_certificate(launch: Launch, certificates: Certificates) -> None:
    server = launch(certificates.server_config(verify=True))
    cert, key = certificates.folder / "client.pem", certificates.folder / "client.key"

    await _works(server, NatsAccess(url=server.url, ca=certificates.ca, cert=cert, key=key))
    await _refused(NatsAccess(url=server.url, ca=certificates.ca), "no NATS server answered")


async def test_connecting_without_a_client_certificate_ends_by_its_deadline(
    launch: Launch, certificates: Certificates
) -> None:
    server = launch(certificates.server_config(verify=True))
    cert, key = certificates.folder / "client.pem", certificates.folder / "client.key"
    await _works(server, NatsAccess(url=server.url, ca=certificates.ca, cert=cert, key=key))
    access = NatsAccess(url=server.url, ca=certificates.ca)
    attempts = [
        asyncio.create_task(Bus.connect(access, connect_timeout_seconds=1.0 + number * 0.113))
        for number in range(12)
    ]

    _, hanging = await asyncio.wait(attempts, timeout=60)

    for attempt in hanging:
        attempt.cancel()
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert not hanging
    assert {type(result) for result in results} == {BusUnavailable}


async def test_a_server_without_tls_gets_no_password(launch: Launch, certificates: Certificates) -> None:
    server = launch("")
    await _works(server, server.url)
    access = NatsAccess(url=server.url, ca=certificates.ca, user="ann", password=SECRET)
    await _refused(access, "does not offer TLS")


async def test_the_next_url_is_used_when_a_server_is_down(launch: Launch) -> None:
    server = launch("")
    await _works(server, f"nats://127.0.0.1:{free_port()}, {server.url}")


@pytest.mark.parametrize(
    "url",
    ["", " , ", "http://a", "nats://", "nats://a,ws://b", "nats://a:0x1", "a:4222", f"http://u:{SECRET}@a"],
)
def test_a_wrong_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="must") as refusal:
        check_urls(url)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ANTIPHON_NATS_CA": "/none"}, "ANTIPHON_NATS_CA"),
        ({"ANTIPHON_NATS_CA": __file__}, "ANTIPHON_NATS_CA is .*no certificate"),
        ({"ANTIPHON_NATS_CERT": __file__}, "ANTIPHON_NATS_CERT is .*not a certificate"),
        ({"ANTIPHON_NATS_CREDS": __file__}, "ANTIPHON_NATS_CREDS"),
        ({"ANTIPHON_NATS_KEY": __file__}, "ANTIPHON_NATS_CERT"),
        ({"ANTIPHON_NATS_PASSWORD": SECRET}, "ANTIPHON_NATS_USER"),
        ({"ANTIPHON_NATS_URL": f"nats://a:{SECRET}@"}, "ANTIPHON_NATS_URL"),
        ({"ANTIPHON_NATS_URL": f"xats://{SECRET}@b"}, "ANTIPHON_NATS_URL"),
    ],
)
def test_a_wrong_setting_is_named_by_services_and_recorder(
    variables: dict[str, str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(ValueError, match=named) as refusal:
        RecorderSettings.from_env()
    with pytest.raises(SystemExit):
        load(NatsSettings)

    printed = capsys.readouterr().err
    assert re.search(named, printed)
    assert SECRET not in printed + str(refusal.value)


def test_a_key_with_a_password_is_refused_without_asking_for_it(certificates: Certificates) -> None:
    cert = certificates.folder / "client.pem"
    locked = certificates.lock_key("client", SECRET)

    with pytest.raises(ValueError, match="without a password"):
        NatsAccess(cert=cert, key=locked)
    with pytest.raises(ValueError, match="ANTIPHON_NATS_KEY"):
        NatsAccess(cert=cert, key=certificates.folder / "ca.key")


@pytest.mark.parametrize("setting", ["creds", "ca", "cert", "key"])
def test_a_pipe_or_device_in_place_of_a_file_is_refused_and_not_waited_for(
    setting: str, tmp_path: Path, certificates: Certificates
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        settings = {"cert": certificates.folder / "client.pem", setting: path}
        with pytest.raises(ValueError, match=f"ANTIPHON_NATS_{setting.upper()} is .*no such file"):
            NatsAccess(**settings)  # type: ignore[arg-type]


def test_services_and_recorder_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    cert, key = certificates.folder / "client.pem", certificates.folder / "client.key"
    creds = Operator().write_creds(tmp_path / "user.creds")
    for variable, value in {
        "ANTIPHON_NATS_URL": "nats://a:4222,nats://b:4222",
        "ANTIPHON_NATS_CREDS": str(creds),
        "ANTIPHON_NATS_USER": "ann",
        "ANTIPHON_NATS_PASSWORD": SECRET,
        "ANTIPHON_NATS_CA": str(certificates.ca),
        "ANTIPHON_NATS_CERT": str(cert),
        "ANTIPHON_NATS_KEY": str(key),
    }.items():
        monkeypatch.setenv(variable, value)

    access = NatsAccess.from_env()

    assert load(NatsSettings).nats == RecorderSettings.from_env().nats == access
    assert (access.servers, access.creds) == (["nats://a:4222", "nats://b:4222"], creds)
    assert access.key == key
    for shown in (access, load(NatsSettings), RecorderSettings.from_env()):
        assert SECRET not in repr(shown)
    monkeypatch.setenv("ANTIPHON_NATS_URL", f"nats://ann:{quote(SECRET, safe='')}@a")
    for shown in (NatsAccess.from_env(), load(NatsSettings), RecorderSettings.from_env()):
        assert "ss%2C" not in repr(shown)


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({}, "_INBOX"),
        ({"url": "nats://token@h:4222"}, "_INBOX"),
        ({"url": "nats://agent-worker:secret@h:4222"}, "_INBOX.agent-worker"),
        ({"user": "session-api", "password": "secret"}, "_INBOX.session-api"),
        ({"user": "a.b", "password": "secret"}, "_INBOX"),
        ({"user": ">", "password": "secret"}, "_INBOX"),
    ],
)
def test_answers_come_to_subjects_of_the_user(settings: dict[str, str], prefix: str) -> None:
    assert NatsAccess(**settings).inbox_prefix == prefix  # type: ignore[arg-type]

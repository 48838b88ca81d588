"""Transfers to a person: numbers, LiveKit's SIP service (a double of it), and what the caller hears."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api, rtc
from tests.agent_worker.sip_double import sip_double
from tests.agent_worker.told_model import conversation

from antiphon.agent_worker.call import TransferFailed
from antiphon.agent_worker.transfers import SipTelephone, destination
from antiphon.contracts.events.agent import AgentTransferred
from antiphon.contracts.events.session import CloseReason

FLOW = """
variables: {metadata.number: "+49 30 123456"}
transfers:
  desk: {to: "{metadata.number}", say: One moment., on_failure: Nobody is there.}
  chief: {to: "sip:chief@example.com", when: "from {metadata.number} {{only}}"}
agents:
  host: {instructions: Help., greeting: Hello., transfers: [desk, chief]}
script:
  phrases: {desk: the desk please, chief: the chief please}
  rules:
    - {hear: desk, say: Of course., transfer: desk}
    - {hear: chief, say: The chief it is., transfer: chief}
"""
PHONE = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
BROWSER = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD


class Operator:
    """A telephone that transfers, or says why not."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.numbers: list[str] = []

    async def transfer(self, to: str, /) -> None:
        """Keep the number, or fail."""
        self.numbers.append(to)
        if self.error is not None:
            raise TransferFailed(self.error)


def telephone(client: api.LiveKitAPI, kind: int = PHONE) -> SipTelephone:
    caller = SimpleNamespace(identity="sip_+4917", kind=kind)
    session: Any = SimpleNamespace(room_io=SimpleNamespace(linked_participant=caller))
    room: Any = SimpleNamespace(name="ses_1")
    return SipTelephone(session, room, lambda: client.sip)


async def test_the_model_reads_when_to_transfer_without_braces() -> None:
    async with conversation(FLOW) as talk:
        await talk.say("hello")
        chief = "Transfer the caller to chief, by telephone: from +49 30 123456 {only}"
        assert talk.model.described["transfer_to_chief"] == chief


@pytest.mark.parametrize(
    ("written", "dialled"),
    [
        ("+49 30 123456", "tel:+4930123456"),
        ("tel:(030) 12-34/56", "tel:030123456"),
        ("110", "tel:110"),
        ("sip:desk@example.com", "sip:desk@example.com"),
        ("sips:desk@[::1]:5061;transport=tls", "sips:desk@[::1]:5061;transport=tls"),
    ],
)
def test_numbers_and_addresses_are_accepted(written: str, dialled: str) -> None:
    assert destination(written) == dialled


@pytest.mark.parametrize(
    "written",
    [
        "",
        "my mother",
        "tel:",
        "sip:a@b?Replaces=call",
        "sip:a@b\r\nContact: <sip:evil@c>",
        "sip:a@b>",
        '"x" <sip:a@b>',
        "+4930\r\nX: y",
        "http://example.com",
        "sip:a b@c",
        "sip:a@b;method=INVITE",
    ],
)
def test_what_could_carry_a_header_is_refused(written: str) -> None:
    with pytest.raises(TransferFailed, match="is no number and no SIP address"):
        destination(written)


@given(st.text(max_size=60))
def test_a_destination_is_one_line_without_headers(text: str) -> None:
    for written in (text, f"sip:{text}", f"tel:{text}", f"sip:a@{text}"):
        try:
            dialled = destination(written)
        except TransferFailed:
            continue
        assert dialled.isascii()
        assert dialled.isprintable()
        assert not set(dialled) & set(' ?<>"\r\n')


async def test_livekit_is_asked_to_refer_the_caller() -> None:
    async with sip_double() as (double, client):
        double.answer.transfer_id = "ST_1"
        double.answer.status = api.SIPTransferStatus.STS_TRANSFER_SUCCESSFUL
        await telephone(client).transfer("tel:+4930")
        (request,), (grants,) = double.requests, double.grants
        assert (request.participant_identity, request.room_name) == ("sip_+4917", "ses_1")
        assert (request.transfer_to, request.ringing_timeout.seconds) == ("tel:+4930", 30)
        assert grants["sip"]["call"] is True  # type: ignore[index]


async def test_an_answer_without_a_body_is_a_success_as_servers_of_today_send_it() -> None:
    async with sip_double() as (_, client):
        await telephone(client).transfer("tel:+4930")


BUSY = {"sip_status_code": "486", "sip_status": "Busy Here"}
RINGING = {"sip_transfer_reason": "STR_RINGING_TIMEOUT"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ((503, {"code": "unavailable", "msg": "busy", "meta": BUSY}), "486 Busy Here"),
        ((503, {"code": "unavailable", "msg": "x", "meta": RINGING}), "STR_RINGING_TIMEOUT"),
        ((404, {"code": "not_found", "msg": "no such participant"}), "not_found: no such participant"),
        ((401, {"code": "unauthenticated", "msg": "permissions denied"}), "permissions denied"),
    ],
    ids=["busy", "ringing", "gone", "forbidden"],
)
async def test_an_error_of_livekit_is_the_reason(error: tuple[int, dict[str, object]], reason: str) -> None:
    async with sip_double() as (double, client):
        double.error = error
        with pytest.raises(TransferFailed, match=reason):
            await telephone(client).transfer("tel:+4930")


async def test_a_transfer_that_did_not_complete_failed() -> None:
    async with sip_double() as (double, client):
        double.answer.transfer_id = "ST_1"
        double.answer.status = api.SIPTransferStatus.STS_TRANSFER_FAILED
        double.answer.sip_status.status = "Decline"
        with pytest.raises(TransferFailed, match="Decline"):
            await telephone(client).transfer("tel:+4930")


async def test_a_server_that_is_gone_is_a_reason() -> None:
    async with sip_double() as (_, client):
        pass
    async with api.LiveKitAPI("http://127.0.0.1:9", "devkey", "x" * 32) as client:
        with pytest.raises(TransferFailed, match="cannot be reached"):
            await telephone(client).transfer("tel:+4930")


async def test_a_caller_in_a_browser_is_not_transferred() -> None:
    async with sip_double() as (double, client):
        with pytest.raises(TransferFailed, match="not on the telephone"):
            await telephone(client, BROWSER).transfer("tel:+4930")
        assert double.requests == []


async def test_the_model_transfers_the_caller_and_the_call_ends() -> None:
    operator = Operator()
    async with conversation(FLOW, telephone=operator) as talk:
        await talk.say('transfer_to_desk({"reason": "a complaint"})')
        await talk.is_closed.wait()
        assert operator.numbers == ["tel:+4930123456"]
        assert "One moment." in talk.shown
        assert talk.record.ends == [CloseReason.TRANSFERRED]
        assert talk.record.events == [
            AgentTransferred(person="desk", status="done", to="tel:+4930123456", reason="tool: a complaint")
        ]


async def test_a_transfer_that_fails_is_said_and_the_call_goes_on() -> None:
    async with conversation(FLOW, telephone=Operator("nobody answered")) as talk:
        await talk.say("the desk please")
        await talk.shows("Nobody is there.")
        assert talk.shown[-2:] == ["Of course.", "Nobody is there."]
        (event,) = talk.record.events
        assert isinstance(event, AgentTransferred)
        assert (event.status, event.detail, event.reason) == ("failed", "nobody answered", "rule: desk")
        assert await talk.say("hello") == ["You said: hello"]


async def test_a_model_is_told_why_a_web_caller_was_not_transferred() -> None:
    async with conversation(FLOW) as talk:
        answers = await talk.say("the chief please")
        assert answers[0] == "The chief it is."
        assert "only telephone calls can be transferred" in answers[-1]
        assert talk.record.ends == []

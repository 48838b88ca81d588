"""Each of LiveKit's webhooks is an event of its own; none is thrown away."""

from collections.abc import Callable

import pytest

from antiphon.contracts.events.livekit import LiveKitOther
from antiphon.webhook_ingest.events import as_event
from antiphon.webhook_ingest.webhook import parse

NAMES = [
    "room_started",
    "room_finished",
    "participant_joined",
    "participant_left",
    "participant_connection_aborted",
    "track_published",
    "track_unpublished",
    "egress_started",
    "egress_updated",
    "egress_ended",
    "ingress_started",
    "ingress_ended",
    "agent_job_pending",
    "agent_job_started",
    "agent_job_ended",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_webhook_becomes_the_event_of_its_name(name: str, webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook(name)))

    assert f"livekit.{name}" == event.TYPE


def test_an_unknown_webhook_is_kept_as_other(webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook("room_renamed")))

    assert isinstance(event, LiveKitOther)
    assert event.name == "room_renamed"


def test_a_webhook_named_other_is_not_taken_for_the_catalogue_s_own(webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook("other")))

    assert isinstance(event, LiveKitOther)
    assert event.name == "other"


def test_who_and_which_track_can_be_read_without_the_payload(
    webhook: Callable[..., bytes], session_id: str
) -> None:
    body = webhook(
        "track_published",
        room={"sid": "RM_1", "name": session_id},
        participant={"sid": "PA_1", "identity": "caller"},
        track={"sid": "TR_1", "type": "AUDIO"},
    )

    event = as_event(*parse(body))

    assert (event.room, event.room_sid) == (session_id, "RM_1")
    assert (event.participant_identity, event.participant_sid) == ("caller", "PA_1")
    assert event.track_sid == "TR_1"
    assert event.payload["track"] == {"sid": "TR_1"}

"""Record any LiveKit agent."""

from antiphon.recorder.admission import SessionEnded
from antiphon.recorder.record import record, recording_of
from antiphon.recorder.recording import Recording
from antiphon.recorder.settings import RecorderSettings

__all__ = ["RecorderSettings", "Recording", "SessionEnded", "record", "recording_of"]

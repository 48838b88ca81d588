"""Record any LiveKit agent."""

from antiphon.recorder.record import record, recording_of
from antiphon.recorder.recording import Recording
from antiphon.recorder.settings import RecorderSettings

__all__ = ["RecorderSettings", "Recording", "record", "recording_of"]

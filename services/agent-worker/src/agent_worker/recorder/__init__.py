"""The whole record of any LiveKit agent."""

from agent_worker.recorder.record import record, recording_of
from agent_worker.recorder.recording import Recording
from agent_worker.recorder.settings import RecorderSettings

__all__ = ["RecorderSettings", "Recording", "record", "recording_of"]

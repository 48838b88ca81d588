"""Check how a flow takes turns: what its model of speech needs."""

from collections.abc import Iterator

from antiphon.agent_worker.flow.check.catalog import Fault
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path

DETECTION: Path = ("turns", "detection")

# of `inference.TurnDetector`, the version that runs here
LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "nl", "pt", "tr", "zh")


def check_turns(flow: Flow) -> Iterator[Fault]:
    """Yield what is wrong with the turns of a flow."""
    if flow.turns.detection == "stt" and flow.voice.realtime is not None and flow.voice.stt is None:
        yield DETECTION, "a realtime model has no recogniser: leave `detection` out, or write vad or manual"
    if flow.turns.detection != "semantic":
        return
    language = flow.language.partition("-")[0]
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        yield DETECTION, f"semantic knows {known}, not {flow.language!r}: write vad or stt"
    if flow.voice.realtime is not None and flow.voice.vad is None:
        yield DETECTION, "semantic needs speech detection: add `vad: silero` to `voice`"

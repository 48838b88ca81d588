"""The cases of the benchmark `turns`: a strategy and the parts that hear, think and speak, as flow files."""

from dataclasses import dataclass

from tests.doubles.deepgram_flux import DeepgramFlux
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import Double
from tests.journeys.turns.flows import TURNS, flow_of

SECRET = "ANTIPHON_SECRET_DOUBLE"
OFFLINE = "offline"
NOVA = "Nova + OpenAI"
FLUX = "Flux + OpenAI"
SHORT, WHOLE = "okay", "thank you good bye"  # the model of `semantic` takes the second for the end
FLOW = """
id: {id}
name: Turns
description: A flow for measuring how turns are taken.
turns: {turns}
voice:
  stt: {{use: {stt}, base_url: "{url}{path}", api_key: "{{secret.DOUBLE}}"}}
  llm: {{use: openai, base_url: "{url}/v1", api_key: "{{secret.DOUBLE}}"}}
  tts: {{use: openai, base_url: "{url}/v1", api_key: "{{secret.DOUBLE}}"}}
agents:
  host:
    instructions: You answer the telephone.
    greeting: Hello.
"""
STT = {NOVA: ("deepgram", "/v1/listen"), FLUX: ("deepgram-flux", "/v2/listen")}


@dataclass(frozen=True, slots=True)
class Case:
    """A strategy, and the parts of both agents."""

    strategy: str
    parts: str

    @property
    def name(self) -> str:
        """Return the name in the table."""
        return f"{self.strategy}, {self.parts}"

    @property
    def flow_id(self) -> str:
        """Return the id of its flow."""
        return f"turns-{self.strategy}" if self.parts == OFFLINE else f"turns-{self.strategy}-{self._stt[0]}"

    @property
    def said(self) -> str:
        """Return what the caller says."""
        return WHOLE if self.strategy == "semantic" else SHORT

    def flow(self, url: str) -> str:
        """Return the flow file; `url` is where the doubles are."""
        if self.parts == OFFLINE:
            return flow_of(self.strategy)
        stt, path = self._stt
        return FLOW.format(id=self.flow_id, turns=TURNS[self.strategy], stt=stt, url=url, path=path)

    @property
    def _stt(self) -> tuple[str, str]:
        return STT[self.parts]


STRATEGIES = ("vad", "stt", "semantic", "manual")
CASES = (
    *(Case(strategy, parts) for parts in (OFFLINE, NOVA) for strategy in STRATEGIES),
    Case("stt", FLUX),
)


def doubles() -> list[Double]:
    """Return the doubles, which hear and answer the same again and again."""
    nova, flux, chat = DeepgramNova(), DeepgramFlux(), OpenAIChat()
    nova.otherwise = flux.otherwise = "Okay."
    chat.answers.otherwise = say("Okay.")
    return [nova, flux, chat, OpenAITts()]

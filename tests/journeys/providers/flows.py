"""Flows whose providers are doubles on loopback. They get no key: a flow names none."""

FLOW = """
id: providers-{name}
name: Providers
description: A flow for trying what happens when a provider fails.
voice:
  apology: Sorry, this line is broken.
{voice}
agents:
  host: {{instructions: You answer the telephone., greeting: Hello there.}}
"""
APOLOGY = "Sorry, this line is broken."
GREETING = "Hello there."

PIPELINE = """
  vad: silero
  stt: {{use: deepgram, base_url: "{first}/v1/listen", endpointing_ms: 300{stt}}}
  llm: {{use: openai, base_url: "{first}/v1"{llm}}}
  tts: {{use: deepgram, base_url: "{first}/v1/speak"{tts}}}
"""
FALLBACKS = {
    "stt": '{{use: deepgram, base_url: "{second}/v1/listen", endpointing_ms: 300}}',
    "llm": '{{use: openai, base_url: "{second}/v1"}}',
    "tts": '{{use: openai, base_url: "{second}/v1"}}',
}
REALTIME = """
  realtime:
    use: openai
    base_url: "{first}/v1"
    fallbacks: [{{use: openai, base_url: "{second}/v1"}}]
"""


def pipeline(name: str, first: str, second: str | None = None) -> str:
    """Return a flow that hears, thinks and speaks with three providers; `second` serves the fallbacks."""
    more = {
        kind: f", fallbacks: [{text.format(second=second)}]" if second else ""
        for kind, text in FALLBACKS.items()
    }
    return FLOW.format(name=name, voice=PIPELINE.format(first=first, **more))


def realtime(name: str, first: str, second: str) -> str:
    """Return a flow with a realtime model and its fallback."""
    return FLOW.format(name=name, voice=REALTIME.format(first=first, second=second))


DESK = """
id: providers-{name}
name: Providers
description: A desk with a tool and two agents, for calling each provider.
turns: {{detection: {detection}}}
voice: {voice}
tools:
  book_table:
    python: "antiphon.agent_worker.tools.booking:book_table"
agents:
  host:
    instructions: You book tables.
    greeting: Hello there.
    tools: [book_table]
    hand_offs: [manager]
  manager:
    instructions: You are the manager.
    greeting: I am the manager.
"""


def desk(name: str, url: str, voice: str, detection: str = "vad") -> str:
    """Return a flow with a tool and a hand-off; URL in its voice is the address of the doubles."""
    return DESK.format(name=name, voice=voice.replace("URL", url), detection=detection)

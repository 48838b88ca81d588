"""Flows with the offline voice that differ only in how turns are taken."""

FLOW = """
id: turns-{name}
name: Turns
description: A flow for trying how turns are taken.
turns: {turns}
agents:
  host:
    instructions: You answer the telephone.
    greeting: Hello.
script:
  fallback: Pardon?
  phrases:
    begin: ["i would like to book"]
    rest: ["a table for two"]
    whole: ["i would like to book a table for two"]
    story: ["tell me a story"]
    tale: ["tell me a long story"]
    stop: ["stop please"]
    okay: ["okay"]
    bye: ["thank you good bye"]
  rules:
    - {{hear: begin, say: What would you like to book?}}
    - {{hear: rest, say: For two.}}
    - {{hear: whole, say: "Good, a table for two."}}
    - hear: story
      say: "{story}"
    - hear: tale
      say: "{tale}"
    - {{hear: stop, say: I have stopped.}}
    - {{hear: okay, say: Okay.}}
    - {{hear: bye, say: Good bye.}}
"""

STORY = "Once upon a time there was a king in a castle on a hill, and he could see all of his land."
TALE = " ".join([STORY] * 3)  # also on a busy machine, words come before its end

STRATEGIES = ("vad", "stt", "semantic", "manual")
TURNS = {strategy: f"{{detection: {strategy}}}" for strategy in STRATEGIES}
ENDPOINTING = {"semantic": "endpointing: {min_seconds: 1.5, max_seconds: 4}, "}
INTERRUPTIONS = {
    "any": "{resume_after_seconds: 0.6}",
    "two-words": "{min_words: 2}",
    "none": "false",
}


def flow_of(strategy: str) -> str:
    """Return the source of the flow `turns-STRATEGY`, with the defaults."""
    return FLOW.format(name=strategy, turns=TURNS[strategy], story=STORY, tale=TALE)


def interrupted_flow(strategy: str, interruption: str) -> str:
    """Return the source of the flow `turns-STRATEGY-INTERRUPTION`."""
    endpointing = ENDPOINTING.get(strategy, "")
    turns = f"{{detection: {strategy}, {endpointing}interruption: {INTERRUPTIONS[interruption]}}}"
    return FLOW.format(name=f"{strategy}-{interruption}", turns=turns, story=STORY, tale=TALE)

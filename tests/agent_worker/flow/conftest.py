from collections.abc import Callable

import pytest

SMALL = """\
id: small
name: Small
description: The smallest flow with one of everything.
language: en
voice: {vad: silero, stt: offline, llm: offline, tts: offline}
entry: host
silence: {after_seconds: 5, say: "Hello?", at_most: 2}
tools:
  book_table: {python: "antiphon.agent_worker.tools.booking:book_table", outputs: [reference]}
agents:
  host:
    instructions: Book tables.
    greeting: Good evening.
    script:
      rules:
        - hear: chief
          say: One moment.
          hand_off: chief
  chief:
    instructions: Be the chief.
    greeting: I am the chief.
script:
  fallback: I did not catch that.
  slots:
    party_size: {two: 2, three: 3}
    day: [today, tomorrow]
    time: {seven: "19:00"}
  phrases:
    book: "a table for {party_size} {day} at {time}"
    yes: yes please
    chief: may i speak to the chief
  rules:
    - hear: book
      needs: [party_size, day, time]
      say: For {party_size}?
      asks: confirm
    - hear: yes
      after: confirm
      needs: [party_size, day, time]
      call: book_table
      say: Booked as {reference}.
      on_failure: It did not work.
      forget: [party_size]
"""


@pytest.fixture
def small() -> str:
    return SMALL


@pytest.fixture
def line_of() -> Callable[[str, str], int]:
    """Return the number, from 1, of the first line that contains the words."""

    def find(text: str, words: str) -> int:
        return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)

    return find

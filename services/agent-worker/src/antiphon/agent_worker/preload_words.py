"""Imported once by LiveKit's fork server, so that job processes share the words of the offline recogniser."""

from antiphon.agent_worker.providers.sphinx import known_words

WORDS = known_words()  # 130,000

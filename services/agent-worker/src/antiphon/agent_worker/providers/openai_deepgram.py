"""The providers of LiveKit's plugins for OpenAI and Deepgram, and for what speaks their protocols."""

import json
from dataclasses import replace

from antiphon.agent_worker.providers.entry import ProviderEntry
from antiphon.agent_worker.providers.signature import OPTIONS

_OPENAI = "OPENAI_API_KEY"
_DEEPGRAM = "DEEPGRAM_API_KEY"
_OBJECTS = frozenset({"client", "http_session", "vad", "conn_options", "timeout", "word_tokenizer"})
_DEPRECATED = frozenset({"keyterms"})
_CHAT_VOICE = """\
voice:
  stt: deepgram
  llm:
    use: openai
    model: gpt-4.1-mini
    temperature: 0.3
    timeout_seconds: 6
    fallbacks:
      # any server with this API: Ollama, vLLM, LM Studio. It gets no key, unless you name one.
      - {use: openai, base_url: "http://127.0.0.1:11434/v1", model: llama3.2}
  tts: openai
"""
_OPENAI_VOICE = """\
voice:
  stt: {use: openai, model: gpt-4o-mini-transcribe}
  llm: {use: openai, model: gpt-4.1-mini, temperature: 0.3}
  tts: {use: openai, model: gpt-4o-mini-tts, voice: ash}
"""
_DEEPGRAM_VOICE = """\
voice:
  stt: {use: deepgram, model: nova-3, fallbacks: [openai]}
  llm: {use: openai, model: gpt-4.1-mini}
  tts: {use: deepgram, model: aura-2-andromeda-en, fallbacks: [openai]}
"""

PLUGINS = (
    ProviderEntry(
        "llm",
        "openai",
        "livekit.plugins.openai:LLM",
        "OpenAI's chat completions, and every server that has them: Ollama, vLLM, LM Studio, Azure.",
        _CHAT_VOICE,
        key=_OPENAI,
        preload="livekit.plugins.openai",
        reserved=_OBJECTS,
    ),
    ProviderEntry(
        "llm",
        "openai-responses",
        "livekit.plugins.openai:responses.LLM",
        "OpenAI's responses API.",
        "voice:\n  stt: deepgram\n  llm: {use: openai-responses, model: gpt-4.1}\n  tts: openai\n",
        key=_OPENAI,
        preload="livekit.plugins.openai",
        reserved=_OBJECTS,
    ),
    ProviderEntry(
        "stt",
        "openai",
        "livekit.plugins.openai:STT",
        "OpenAI's transcription, after each sentence; in a stream with `use_realtime: true`.",
        _OPENAI_VOICE,
        key=_OPENAI,
        preload="livekit.plugins.openai",
        reserved=_OBJECTS,
        language="short",
    ),
    ProviderEntry(
        "stt",
        "deepgram",
        "livekit.plugins.deepgram:STT",
        "Deepgram Nova: a stream with words as they are spoken.",
        _DEEPGRAM_VOICE,
        key=_DEEPGRAM,
        preload="livekit.plugins.deepgram",
        reserved=_OBJECTS | _DEPRECATED,
        language="full",
    ),
    ProviderEntry(
        "stt",
        "deepgram-flux",
        "livekit.plugins.deepgram:STTv2",
        "Deepgram Flux: it also says when the caller has finished (`turns: {detection: stt}`).",
        "voice:\n  stt: {use: deepgram-flux, eot_threshold: 0.7}\n  llm: openai\n  tts: deepgram\n"
        "turns: {detection: stt}\n",
        key=_DEEPGRAM,
        preload="livekit.plugins.deepgram",
        reserved=_OBJECTS | _DEPRECATED,
    ),
    ProviderEntry(
        "tts",
        "openai",
        "livekit.plugins.openai:TTS",
        "OpenAI's speech, sentence by sentence, and every server that has it.",
        _OPENAI_VOICE,
        key=_OPENAI,
        preload="livekit.plugins.openai",
        reserved=_OBJECTS,
    ),
    ProviderEntry(
        "tts",
        "deepgram",
        "livekit.plugins.deepgram:TTS",
        "Deepgram Aura, in a stream.",
        _DEEPGRAM_VOICE,
        key=_DEEPGRAM,
        preload="livekit.plugins.deepgram",
        reserved=_OBJECTS,
    ),
    ProviderEntry(
        "realtime",
        "openai",
        "livekit.plugins.openai:realtime.RealtimeModel",
        "OpenAI's realtime API: the model hears and speaks itself.",
        "voice:\n  realtime: {use: openai, model: gpt-realtime, voice: marin}\n",
        key=_OPENAI,
        preload="livekit.plugins.openai",
        secrets=frozenset({"entra_token"}),
        reserved=_OBJECTS | {"temperature"},
    ),
)


def plugin_entries() -> tuple[ProviderEntry, ...]:
    """Return the entries with their options, as options.json has them."""
    options = json.loads(OPTIONS.read_text(encoding="utf-8"))
    return tuple(replace(entry, options=options[entry.place]) for entry in PLUGINS)

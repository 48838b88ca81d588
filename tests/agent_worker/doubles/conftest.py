"""The doubles that most tests use, served on one port."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import serve


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def chat() -> OpenAIChat:
    return OpenAIChat()


@pytest.fixture
def speech() -> OpenAITts:
    return OpenAITts()


@pytest.fixture
def nova() -> DeepgramNova:
    return DeepgramNova()


@pytest.fixture
async def url(chat: OpenAIChat, speech: OpenAITts, nova: DeepgramNova) -> AsyncIterator[str]:
    async with serve(chat, speech, nova) as address:
        yield address

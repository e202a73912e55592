"""A provider for pipelines that run in virtual time, and what tests of them need."""

import asyncio
from collections import Counter

from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from course_lib.lab.virtual_provider import VirtualProvider
from course_lib.rag import RagPipeline, RagSettings
from course_lib.service import Behaviour, Latency

PATHS = {"retrieve": "/search", "rerank": "/rerank", "generate": "/v1/chat/completions"}


def seconds(**by_stage):
    """Behaviours of endpoints with a constant latency each."""
    return {
        PATHS[stage]: Behaviour(latency=Latency.constant(value))
        for stage, value in by_stage.items()
    }


class VirtualClient:
    """The methods of `ServiceClient`, answered by the real engine in virtual time.

    Attributes:
        asked: How often each method was called.
        prompts: Prompts of the chat, with the length allowed.
        empty: Questions for which nothing is found.
        broken: Questions whose search is refused as wrong.
    """

    def __init__(self, *, pieces=4, piece=0.1, empty=(), **behaviour):
        self.provider = VirtualProvider(**behaviour)
        self.asked = Counter()
        self.prompts = []
        self.empty = set(empty)
        self.closed_streams = 0
        self._pieces, self._piece = pieces, piece

    async def search(self, query, *, k):
        self.asked["search"] += 1
        await self.provider.search(query)
        return [] if query in self.empty else [passage(number, query) for number in range(k)]

    async def rerank(self, query, documents, *, top_n):
        self.asked["rerank"] += 1
        texts = [each.page_content for each in documents]
        await self.provider.rerank(query, texts)
        return list(reversed(documents))[:top_n]

    async def embed(self, texts, *, model):
        self.asked["embed"] += 1
        await self.provider.embed(texts)
        return [[1.0, float(len(text))] for text in texts]

    async def chat(self, prompt, *, max_tokens, model):
        self.asked["chat"] += 1
        self.prompts.append((prompt, max_tokens))
        await self.provider.chat(prompt, tokens=10)
        used = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        return AIMessage(f"answer to {asked_in(prompt)}", usage_metadata=used)

    async def stream_chat(self, prompt, *, max_tokens, model):
        self.asked["stream"] += 1
        await self.provider.chat(prompt, tokens=10)
        try:
            for number in range(self._pieces):
                await asyncio.sleep(self._piece)
                yield f"{number} "
        finally:
            self.closed_streams += 1


def passage(number, query):
    """A passage that was found."""
    about = {"title": f"Title {number}", "score": float(-number)}
    return Document(id=f"p{number}", page_content=f"Passage {number} on {query}", metadata=about)


def asked_in(prompt):
    """The question in a prompt."""
    return prompt.rpartition("Question: ")[2]


def pipeline_of(client, *, settings=None, **options):
    """A pipeline that asks this client for everything."""
    return RagPipeline(client, chat="lean", settings=settings or RagSettings(), **options)

"""What LangChain asks of chat models and embeddings holds for OpenAI's against the provider.

What the provider does not do by its documentation (tools, structured output, JSON mode, media) is said
by the suites' own switches.
"""

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from openai import DefaultAsyncHttpxClient

from course_lib.rag.chat import _chat_openai

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def http_client(runner):
    """An HTTP client of the module's own loop: the one that all models share outlives that loop."""
    client = DefaultAsyncHttpxClient()
    yield client
    runner.run(client.aclose())


@pytest.fixture(autouse=True, scope="class")
def access(request, shared_provider, http_client):
    """Where the provider is and how it is reached, for the suites' properties."""
    request.cls.access = {
        "model": "any",
        "base_url": f"{shared_provider.url}/v1",
        "api_key": "none",
        "http_async_client": http_client,
    }


class ChatSuite(ChatModelIntegrationTests):
    """LangChain's suite for chat models."""

    has_tool_calling = False
    has_tool_choice = False
    has_structured_output = False
    supports_model_override = (
        False  # one model answers, whatever name is asked for, and says its own
    )

    @property
    def chat_model_params(self):
        return {**self.access, "stream_usage": True}


class TestChatOpenAI(ChatSuite):
    """`ChatOpenAI` as everybody uses it."""

    chat_model_class = ChatOpenAI


class TestPipelinesChatOpenAI(ChatSuite):
    """`ChatOpenAI` as the pipeline uses it, with errors of the one tree."""

    chat_model_class = property(lambda self: _chat_openai())


class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    """LangChain's suite for embeddings."""

    embeddings_class = OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        return {**self.access, "check_embedding_ctx_length": False}

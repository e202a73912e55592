"""What LangChain asks of vector stores and of their retrievers holds for the matrix and for faiss."""

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever
from langchain_tests.integration_tests import (
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)

from course_lib.rag import FaissVectorStore, MatrixVectorStore

pytestmark = pytest.mark.nightly


class Suite(VectorStoreIntegrationTests):
    """LangChain's suite, for a store that searches off the event loop, and one that does not."""

    kind = MatrixVectorStore

    @pytest.fixture(params=[0, 1_000_000], ids=["threads", "inline"])
    def vectorstore(self, request):
        return self.kind(self.get_embeddings(), inline_up_to=request.param)


class TestMatrixVectorStore(Suite):
    """One matrix."""


class TestFaissVectorStore(Suite):
    """faiss."""

    @property
    def kind(self):
        pytest.importorskip("faiss", reason="faiss-cpu is in the extra `scale`")
        return FaissVectorStore


def retriever(*, kind, k=2):
    """What `store.as_retriever` makes, with the number of passages where the suite looks for it."""
    store = kind(VectorStoreIntegrationTests.get_embeddings())
    store.add_documents([Document(f"passage {number}") for number in range(5)])
    return store.as_retriever(search_kwargs={"k": k})


class RetrieverSuite(RetrieversIntegrationTests):
    """LangChain's suite; `retriever` stands in for a constructor with a `k`."""

    retriever_constructor = staticmethod(retriever)
    retriever_query_example = "passage 3"


class TestMatrixRetriever(RetrieverSuite):
    """The matrix's retriever."""

    @property
    def retriever_constructor_params(self):
        return {"kind": MatrixVectorStore}


class TestFaissRetriever(RetrieverSuite):
    """faiss's retriever."""

    @property
    def retriever_constructor_params(self):
        pytest.importorskip("faiss", reason="faiss-cpu is in the extra `scale`")
        return {"kind": FaissVectorStore}


def test_retrievers_are_langchains_own():
    """Whoever knows LangChain's `VectorStoreRetriever` knows these."""
    assert type(retriever(kind=MatrixVectorStore)) is VectorStoreRetriever

"""The capstone: retrieval-augmented generation, composed from the five scenarios.

Retrieval: `MatrixVectorStore` and `FaissVectorStore` hold vectors and search them.
"""

from course_lib.rag.faiss_vectors import FaissVectorStore
from course_lib.rag.matrix import MatrixVectorStore
from course_lib.rag.vector_file import VectorFileError

__all__ = ["FaissVectorStore", "MatrixVectorStore", "VectorFileError"]

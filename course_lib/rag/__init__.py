"""The capstone: retrieval-augmented generation, composed from the five scenarios.

Retrieval: `load_folder` and `load_docstrings` make documents, `open_index` embeds them (whole, or
by their `name_and_summary`) and keeps their vectors on disk, `MatrixVectorStore` and
`FaissVectorStore` search them. Quality: `evaluate` measures a retriever on `Question`s,
`answer_quality` and `cites_rightly` measure answers.

Pipeline: `RagPipeline` answers questions, each with a `RagAnswer`; `naive_rag` is what it is
compared with.
"""

from course_lib.extras import needs

with needs("rag"):
    from course_lib.rag.answer import Failure, RagAnswer, Source, StageTiming
    from course_lib.rag.docstrings import load_docstrings, name_and_summary
    from course_lib.rag.evaluation import RagQuality, evaluate_rag, quality_of
    from course_lib.rag.faiss_vectors import FaissVectorStore
    from course_lib.rag.index import open_index
    from course_lib.rag.loading import load_folder
    from course_lib.rag.matrix import MatrixVectorStore
    from course_lib.rag.naive import naive_rag
    from course_lib.rag.pipeline import RagPipeline
    from course_lib.rag.quality import (
        AnswerQuality,
        Quality,
        answer_quality,
        cites_rightly,
        evaluate,
    )
    from course_lib.rag.questions import Question, read_questions
    from course_lib.rag.settings import RagSettings
    from course_lib.rag.vector_file import VectorFileError

__all__ = [
    "AnswerQuality",
    "Failure",
    "FaissVectorStore",
    "MatrixVectorStore",
    "Quality",
    "Question",
    "RagAnswer",
    "RagPipeline",
    "RagQuality",
    "RagSettings",
    "Source",
    "StageTiming",
    "VectorFileError",
    "answer_quality",
    "cites_rightly",
    "evaluate",
    "evaluate_rag",
    "load_docstrings",
    "load_folder",
    "naive_rag",
    "name_and_summary",
    "open_index",
    "quality_of",
    "read_questions",
]

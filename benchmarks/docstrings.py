"""The docstrings of the whole standard library: indexed by the course's provider, and asked.

Embeddings come over HTTP, as from any provider with OpenAI's wire format. The model is small and
runs on this machine; a few thousand passages take it minutes.
"""

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings

from course_lib import service
from course_lib.lab.table import Table
from course_lib.rag import MatrixVectorStore, Question, evaluate, load_docstrings, open_index

K = 5
DEPTH = 10  # results of a search, for nDCG@10
LEAST_PASSAGES, LEAST_RIGHT = 3_000, 10  # of the passages, and of questions with a right source
# None is left out for being found badly: a small model does not find them all.
QUESTIONS = (
    Question("run several coroutines at once and collect all their results", ("asyncio.gather",)),
    Question(
        "give up waiting for a coroutine after some seconds",
        ("asyncio.wait_for", "asyncio.timeout"),
    ),
    Question("find the n biggest elements of a data set", ("heapq.nlargest",)),
    Question(
        "remember the results of a function so that it is not computed again",
        ("functools.lru_cache", "functools.cache"),
    ),
    Question(
        "which elements occur most often, and how many times",
        ("collections.Counter.most_common", "collections.Counter"),
    ),
    Question("turn a dictionary into the query string of a URL", ("urllib.parse.urlencode",)),
    Question("copy a folder with everything in it", ("shutil.copytree",)),
    Question("split a command line into words like a shell", ("shlex.split",)),
    Question("the middle value of some numbers", ("statistics.median",)),
    Question(
        "compare two texts line by line and show what changed",
        ("difflib.unified_diff", "difflib.ndiff", "difflib.Differ", "difflib.context_diff"),
    ),
    Question(
        "run a blocking function in another thread without stopping the event loop",
        ("asyncio.to_thread",),
    ),
    Question("remove the indentation that all lines have in common", ("textwrap.dedent",)),
    Question(
        "make a temporary directory that is deleted afterwards", ("tempfile.TemporaryDirectory",)
    ),
    Question("draw several random elements without repeats", ("random.Random.sample",)),
    Question("parse JSON text into a Python object", ("json.loads",)),
    Question(
        "the square root of the average squared deviation",
        ("statistics.stdev", "statistics.pstdev"),
    ),
    Question(
        "let at most ten coroutines into a block at the same time",
        ("asyncio.Semaphore", "asyncio.BoundedSemaphore"),
    ),
    Question("handle each future as soon as it is finished", ("concurrent.futures.as_completed",)),
    Question("turn a generator function into a context manager", ("contextlib.contextmanager",)),
    Question("ignore certain exceptions in a block of code", ("contextlib.suppress",)),
    Question(
        "keep the name and the docstring of a function when it is wrapped by a decorator",
        ("functools.wraps", "functools.update_wrapper"),
    ),
    Question(
        "start another program and read what it prints",
        ("subprocess.check_output", "subprocess.run", "subprocess.getoutput"),
    ),
    Question(
        "add an item to a sorted list so that it stays sorted",
        ("bisect.insort_right", "bisect.insort_left"),
    ),
    Question("replace a function with a fake one during a test", ("unittest.mock.patch",)),
    Question("make text safe to put into an HTML page", ("html.escape",)),
    Question("go through all files in a folder and its subfolders", ("os.walk", "os.fwalk")),
    Question("pack a folder into a zip file", ("shutil.make_archive",)),
    Question(
        "parse a date in ISO format",
        ("datetime.datetime.fromisoformat", "datetime.date.fromisoformat"),
    ),
    Question("how many days does a month have", ("calendar.monthrange",)),
    Question(
        "start a new log file when the old one is too large",
        ("logging.handlers.RotatingFileHandler",),
    ),
    Question(
        "content type of a file by its extension",
        ("mimetypes.guess_type", "mimetypes.MimeTypes.guess_type"),
    ),
    Question("check whether a string is a valid IP address", ("ipaddress.ip_address",)),
    Question("safely evaluate a string with a Python literal", ("ast.literal_eval",)),
    Question(
        "get the traceback of an exception as a string",
        ("traceback.format_exc", "traceback.format_exception"),
    ),
    Question("copy an object with all objects inside it", ("copy.deepcopy",)),
    Question("put tasks in an order that respects dependencies", ("graphlib.TopologicalSorter",)),
    Question("ask for a password without showing it", ("getpass.unix_getpass",)),
    Question(
        "measure how long a small piece of code takes",
        ("timeit", "timeit.timeit", "timeit.Timer.timeit", "timeit.Timer"),
    ),
    Question(
        "generate a random token for a password reset link",
        ("secrets.token_urlsafe", "secrets.token_hex", "secrets"),
    ),
    Question("find where a command is installed", ("shutil.which",)),
)


def embeddings(provider: service.Provider) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        base_url=f"{provider.url}/v1",
        api_key="unused",
        check_embedding_ctx_length=False,
        max_retries=0,
    )


def show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,}", end="", file=sys.stderr, flush=True)


async def opened(
    documents: list[Document], embedding: OpenAIEmbeddings, folder: Path
) -> tuple[MatrixVectorStore, float]:
    """Return the index, and the seconds that it took."""
    start = time.perf_counter()
    store = await open_index(
        documents, embedding, folder, model_name="provider", batch_size=32, progress=show
    )
    return store, time.perf_counter() - start


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def asked(store: MatrixVectorStore) -> int:
    """Print what is found for each question; return how many have a right source among the first."""
    rows, right = [], 0
    for question in QUESTIONS:
        found = [str(each.id) for each in await store.asimilarity_search(question.text, k=K)]
        ranks = [rank for rank, name in enumerate(found, 1) if name in question.relevant]
        right += bool(ranks)
        rows.append([question.text, found[0], str(ranks[0]) if ranks else "-"])
    print(Table(["question", "first found", "rank of a right one"], rows))
    return right


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


async def run(provider: service.Provider, folder: Path) -> None:
    start = time.perf_counter()
    documents = load_docstrings(sys.stdlib_module_names)
    loaded = time.perf_counter() - start
    size = sum(len(each.page_content) for each in documents)
    print(f"{len(documents):,} passages of {size / 1e6:.1f} MB, read in {loaded:.1f} s")
    embedding = embeddings(provider)
    store, seconds = await opened(documents, embedding, folder)
    kept = bytes_in(folder)
    rate = len(documents) / seconds
    print(f"embedded in {seconds:.0f} s ({rate:.0f} a second), {kept / 1e6:.1f} MB on disk")
    _, seconds = await opened(documents, embedding, folder)
    print(f"opened again in {seconds:.2f} s, without embedding anything\n")
    right = await asked(store)
    retriever = store.as_retriever(search_kwargs={"k": DEPTH})
    quality = await evaluate(retriever, QUESTIONS, k=K)
    print(f"\nrecall@5 {quality.recall:.2f}, MRR {quality.mrr:.2f}, nDCG@10 {quality.ndcg:.2f}\n")
    say(f"{len(documents):,} passages: thousands", len(documents) >= LEAST_PASSAGES)
    say(f"{right} of {len(QUESTIONS)} questions find a right source", right >= LEAST_RIGHT)


def main() -> None:
    with service.running(latency=None) as provider, TemporaryDirectory() as folder:
        asyncio.run(run(provider, Path(folder)))

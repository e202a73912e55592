"""What a card says after a pass: other ways that are right, with their price, and what is not seen.

A new exercise brings an entry of its own: one way or two that a learner may not have taken, each
with what it gains and what it costs, and one sentence on what its check cannot see.
"""

from dataclasses import dataclass

__all__ = ["OFFERS", "Offer"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What stands on the card of an exercise that is passed.

    Attributes:
        ways: Other ways to solve it, each with its trade-off: one or two.
        unseen: What the check cannot see.
    """

    ways: tuple[str, ...]
    unseen: str


OFFERS: dict[str, Offer] = {
    "1.1": Offer(
        (
            "An `asyncio.TaskGroup` in each question cancels the other reads when one fails; `gather` lets them run on.",
            "A chain of two steps with `abatch` gives tracing and `max_concurrency`; pages of one question must then be read by a step of their own.",
        ),
        "how many calls at once the provider would bear: this report starts all of them.",
    ),
    "1.2": Offer(
        (
            (
                "`yarl.URL(url).with_query(q=query)` encodes once and can be passed on; it is one more "
                "name to know."
            ),
            (
                "`ClientSession(raise_for_status=True)` looks at the status for all calls, so that none "
                "forgets it; who needs the body of an error has to catch it."
            ),
        ),
        "how long your call waits for a provider that never answers: it has no timeout of its own.",
    ),
    "1.3": Offer(
        (
            "Workers on a queue hold `limit` tasks instead of one for each query; they need more lines.",
            (
                "`gather(..., return_exceptions=True)` needs no `except`; it keeps a `CancelledError` as a "
                "result, too."
            ),
        ),
        "a call that goes on in a thread after its timeout: only what awaits can be cancelled.",
    ),
    "1.4": Offer(
        (
            "Return a pair of question and answer from each call, and nothing can get out of step; it takes one more function.",
            "`asyncio.TaskGroup` ends everything at the first error; that is right where half an answer is worth nothing.",
        ),
        "whether somebody should be told of the questions that are missing: here they are left out in silence.",
    ),
    "2.1": Offer(
        (
            (
                "A queue of futures and one timer serves callers without a lock; who is cancelled has to "
                "be taken out of it."
            ),
            (
                "GCRA keeps one number, the time at which the next token is due, and no count of tokens; "
                "leaving the line is harder there."
            ),
        ),
        "other processes: each of them would have a full bucket of its own.",
    ),
    "2.2": Offer(
        (
            "A `while` loop with an attempt counter says the same; the last attempt needs a branch.",
            (
                "`limited` with a `Gate` holds all callers back after one refusal, which saves refused "
                "calls; a single patient call knows nothing of the others."
            ),
        ),
        "what a hundred callers do at once: all of them wake at the same `retry_after`, unless each "
        "adds a little of its own.",
    ),
    "2.3": Offer(
        (
            (
                "A smaller cut (a quarter in place of a half) wastes less room, and needs more rounds to "
                "leave an overload."
            ),
            (
                "Latency as the signal (a gradient) slows down before anything is refused; it needs a "
                "base line that is known to be good."
            ),
        ),
        "whether two callers share a provider fairly: that shows over many rounds only.",
    ),
    "2.4": Offer(
        (
            "A `deque` from which old entries are taken off needs less memory and time; it holds only what is still inside the window.",
            "A token bucket keeps two numbers in place of a list; right after a pause it lets a whole burst in, and goes on at its rate.",
        ),
        "what the list costs after a day: it keeps every time that it ever let in, unless you drop the old ones.",
    ),
    "3.1": Offer(
        (
            (
                "`asyncio.wait(..., return_when=FIRST_COMPLETED)` needs no workers; with a large limit it "
                "looks at every task each time."
            ),
            (
                "A semaphore that is taken before the next query is read keeps one task for each call in "
                "flight; the error has to be passed on by hand."
            ),
        ),
        "how long your window holds an answer that came early: all of them stay until the end.",
    ),
    "3.2": Offer(
        (
            (
                "Waiting a few milliseconds for company makes batches larger at a low load; everybody "
                "pays for it with that wait."
            ),
            (
                "Several loops on one queue keep several batches in flight; then results may end in "
                "another order."
            ),
        ),
        "how long the queue grows: without a `maxsize`, callers who come too fast are not held back.",
    ),
    "3.3": Offer(
        (
            (
                "Both halves at once (`gather`) end sooner; they need two calls in flight, and an error of "
                "nobody's fault leaves one of them to be cancelled."
            ),
            (
                "One call for each item after the first failure is simpler, and cheaper when many items "
                "are bad; with one bad item among many it is dearer."
            ),
        ),
        "a batch that fails only together, without any bad item: then halving finds nobody.",
    ),
    "3.4": Offer(
        (
            "`range(0, len(texts), size)` and slices are shorter; they need a sequence, and no iterator will do.",
            "`itertools.batched` (Python 3.12) says it in a word; it gives tuples in place of lists.",
        ),
        "whether the batches may run side by side: here one waits for the other.",
    ),
    "4.1": Offer(
        (
            (
                "A digest (`hashlib.sha256`) of that text makes keys short and hides questions; a key can "
                "no longer be read by a person."
            ),
            (
                "A `default=` that knows your own types writes them down, too; each must have one text "
                "for equal values."
            ),
        ),
        "whether another version of your function should have another key: put its version into "
        "the name when its answers change.",
    ),
    "4.2": Offer(
        (
            "An `OrderedDict` with `move_to_end` says what is meant; a plain dict is a little faster.",
            (
                "`AsyncCache` adds one computation for all who ask at once, jitter, and counts; it is a "
                "part you have not written yourself."
            ),
        ),
        "two callers who ask for one key at the same time: both compute (4.3 mends that).",
    ),
    "4.3": Offer(
        (
            (
                "A future that the task fills needs no `shield`; errors and the end of the task have to "
                "be copied into it."
            ),
            (
                "Counting those who wait lets the last one who leaves cancel the computation; nothing "
                "runs for nobody then, and a retry begins anew."
            ),
        ),
        "another process: there the same key is computed once more.",
    ),
    "4.4": Offer(
        (
            "A key as text with its parts written by `json.dumps` can be kept outside the process; it is made anew for each call.",
            "A dict for each user keeps people apart, whatever the key; it has to be made and cleared for each of them.",
        ),
        "how much is kept, and for how long: nothing is ever thrown away here.",
    ),
    "5.1": Offer(
        (
            (
                "A context manager round the call can be used for a block as well as for a function; it "
                "has to look at the exception it is given."
            ),
            "A LangChain callback needs no change to the call; it sees only what runs as a Runnable.",
        ),
        "what `record` costs: it runs between the end of the call and its caller.",
    ),
    "5.2": Offer(
        (
            "`collections.Counter` adds histograms with `update`; it keeps a bound whose count is 0.",
            "`itertools.accumulate` over the sorted bounds with `bisect` is faster for many percentiles of one state; it has to be made anew after each count.",
        ),
        "how far the true percentile is from the bound: it is known no closer than the width of a bucket.",
    ),
    "5.3": Offer(
        (
            "Work it out by hand as seconds over places: that shows by how much a step falls behind; somebody has to know the places.",
            "Simulate each step with twice its places: that shows the gain itself; it takes a run for each step.",
        ),
        "bursts: a step that keeps up on average may still make people wait.",
    ),
    "5.4": Offer(
        (
            "asyncio's debug mode names slow callbacks without a monitor; it slows all of the loop down.",
            "A sampling profiler sees the line as well as the step; it does not know which question was waiting.",
        ),
        "a step that blocks now and then: it has to happen while you look.",
    ),
    "6.1": Offer(
        (
            (
                "A Runnable of its own for each stage gives tracing and streaming; errors have to be "
                "carried through the chain."
            ),
            (
                "One `try` round the whole loop is shorter; the name of the stage has to be kept outside "
                "of it."
            ),
        ),
        "whether an answer is any good: a stage that returns nonsense has not failed.",
    ),
    "6.2": Offer(
        (
            (
                'A semaphore and a time "closed until" are about twenty lines without a library; slots '
                "cannot be changed while in use."
            ),
            (
                "A gate that finds its own level (`adaptive`) needs no guess at `slots`; it pays for that "
                "with some refused calls."
            ),
        ),
        "how fair your gate is over a long time, and what it does under several processes.",
    ),
    "6.3": Offer(
        (
            (
                "By hand, a dict of tasks with the time of each is about fifteen lines; what is old stays "
                "in memory until somebody asks for it."
            ),
            (
                "Meaning as the key (`SemanticCache`) answers other wordings, too; now and then it gives a "
                "wrong answer."
            ),
        ),
        "how much memory it takes: a thousand kept results may be large ones.",
    ),
    "6.4": Offer(
        (
            (
                "`asyncio.wait_for` for each stage is shorter; its time is in seconds from now, so that "
                "the rest of the budget has to be worked out each time."
            ),
            (
                "A second, cheaper model in place of what is left out gives a fuller answer; it needs "
                "some of the budget kept back for it."
            ),
        ),
        "a stage that blocks the loop: no timeout reaches it, since nothing else runs.",
    ),
    "6.5": Offer(
        (
            (
                "More slots for the reranker shorten its line, and let more calls hang; fewer, and more "
                "questions go without it."
            ),
            (
                "One cache round the whole pipeline costs fewer lines; a failed answer must not be kept, "
                "and a stage that two questions share is called twice."
            ),
        ),
        "another load: your budgets hold for this one, so measure again with your own questions.",
    ),
}
"""By the exercise's number."""

"""How fast a language model's server writes: a model of its timing, not of its text."""

from dataclasses import dataclass
from typing import Self

from course_lib.service.values import Value, require_number, require_whole

__all__ = ["Generation", "TokenLimit"]

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Generation(Value):
    """Time to first token, tokens a second, and how both suffer when several answers are written.

    Alone, an answer of n tokens takes `first_token + (n - 1) / tokens_per_second` seconds. A server
    that decodes m answers together does `1 + gain * (m - 1)` times the work of one, at most
    `batch` of them together; all answers under way share that work equally (processor sharing).
    So with `gain=0` it serves no more under load than alone, with `gain=1` and no bound on
    `batch` nobody notices the others.

    Attributes:
        first_token: Seconds to the first token of an answer that is alone, at least 0: reading the
            prompt.
        tokens_per_second: Tokens a second of an answer that is alone, above 0.
        gain: Work that each further answer adds, as a share of the first one's; from 0 to 1.
        batch: Answers decoded together, at most; more of them add nothing. None for any number.
    """

    first_token: float
    tokens_per_second: float
    gain: float = 1.0
    batch: int | None = None

    def __post_init__(self) -> None:
        require_number("first_token", self.first_token)
        require_number("tokens_per_second", self.tokens_per_second, above=0)
        require_number("gain", self.gain, most=1)
        if self.batch is not None:
            require_whole("batch", self.batch, least=1)

    @classmethod
    def local_cpu(cls) -> Self:
        """A small model on two cores of a laptop, with continuous batching.

        Fitted to llama.cpp with a model of 270 million parameters: 74 tokens/s for one client;
        1.22, 1.74 and 2.61 answers/s for 1, 4 and 8 clients that ask without a pause. With answers
        of 50 tokens the model gives 1.23, 1.82 and 2.60. Beyond 8 it was not measured: there
        `batch` stops the gain.
        """
        return cls(first_token=0.15, tokens_per_second=74, gain=0.16, batch=8)

    @classmethod
    def hosted(cls) -> Self:
        """A provider across the network: it adds machines as the load grows, and limits instead.

        Figures to an order of magnitude, not those of any one provider.
        """
        return cls(first_token=0.4, tokens_per_second=80)

    def speed(self, answers: int) -> float:
        """Return the speed of each answer as a share of its speed alone.

        Args:
            answers: Answers under way at once, at least 1.
        """
        together = answers if self.batch is None else min(answers, self.batch)
        return (1 + self.gain * (together - 1)) / answers

    def work(self, tokens: int) -> float:
        """Return the seconds that so many tokens take when their answer is alone."""
        return self.first_token + (tokens - 1) / self.tokens_per_second if tokens > 0 else 0.0

    def written(self, work: float) -> int:
        """Return the tokens that are there after so many seconds alone."""
        late = work - self.first_token
        return 0 if late < 0 else int(late * self.tokens_per_second) + 1


@dataclass(frozen=True, slots=True)
class TokenLimit(Value):
    """A limit on tokens: in any t minutes at most `tokens_per_minute * (1 + t)` of them.

    A token bucket that holds one minute's worth. A request is let in when there is room for its
    prompt and the longest answer that it allows; what it does not use is given back.

    Attributes:
        tokens_per_minute: Tokens of prompts and answers together, at least 1.
    """

    tokens_per_minute: int

    def __post_init__(self) -> None:
        require_whole("tokens_per_minute", self.tokens_per_minute, least=1)

    @property
    def rate(self) -> float:
        """Tokens a second in the long run."""
        return self.tokens_per_minute / MINUTE

    @property
    def burst(self) -> int:
        """Tokens let in at once after a pause."""
        return self.tokens_per_minute

"""What a provider can answer when it does not answer.

    ServiceError
    ├── RateLimited    429: too many requests; `retry_after` says when to come back
    ├── Unavailable    5xx, refused or broken connection: trying again may help
    ├── BadRequest     other 4xx: trying again will not help
    └── TimedOut       no answer within the time allowed (also a `TimeoutError`)

Clients raise these and nothing else, so that callers need not know which HTTP library is beneath.
Messages name the method, the path and the status; never a header, so never a key.
"""

from typing import Final

__all__ = ["BadRequest", "RateLimited", "ServiceError", "TimedOut", "Unavailable"]


class ServiceError(Exception):
    """A call to the provider failed; the subclass says how."""


class RateLimited(ServiceError):  # noqa: N818
    """The provider refused the call because of its rate limit (429).

    Attributes:
        status_code: 429, as errors of other clients carry it.
        retry_after: Seconds to wait before the next attempt; 0.0 if the provider did not say.
    """

    status_code: Final = 429

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ServiceError):  # noqa: N818 - the names of the tree are the vocabulary of the field
    """The provider failed (5xx), or the connection to it did; trying again may help."""


class BadRequest(ServiceError):  # noqa: N818
    """The provider will not answer this request as it stands (4xx); trying again will not help."""


class TimedOut(ServiceError, TimeoutError):  # noqa: N818
    """No answer came within the time allowed for one attempt."""

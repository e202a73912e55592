# %% [markdown]
# # One provider for all
#
# Twenty minutes: the whole room asks one provider, first each for themselves, then together.
#
# ## What you'll do
#
# - ask as fast as you can, all at once, and watch what is left of the provider's work
# - put a gate in front, each of you one of your own
# - agree on one limit for the room, and see goodput rise to the bound
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebook 2 | helpful | [Concurrency and rate limits](../../notebooks/02_rate_limiting.ipynb) |
# | A room | helpful | address and code stand on the board; without one this notebook makes up twenty learners |
# | Time | 20 minutes | a run of all cells takes seconds |

# %%
import asyncio
import time

from course_lib import lab
from course_lib.async_batch import ServiceClient
from course_lib.errors import ServiceError
from course_lib.rate_limiting import Gate, TokenBucket
from course_lib.room import Alone

# %% [markdown]
# Fill in what the board shows; leave the address empty to try it alone. The address that `lab.join` returns holds your seat's key: give it to nobody.

# %%
URL, CODE, NAME = "", "", "Ada"
WORKED_AT_ONCE, SECONDS_EACH = 8, 0.05  # the provider's slots, and its work on one question
PATIENCE = 1.0  # seconds after which nobody needs the answer any more
SECONDS = 4.0  # of asking, in each part

room = None if URL else Alone(20)
mine = [lab.join(URL, CODE, name=NAME)] if URL else room.providers
here = len(mine)  # in a room: how many the board counts
bound = WORKED_AT_ONCE / SECONDS_EACH
print(f"{len(mine)} seats of mine; the provider can answer {bound:.0f} questions a second")

# %% [markdown]
# ## 1 · As fast as you can (5 minutes)
#
# Thirty questions in flight at a time, and each that fails is asked again at once. **Predict**: the provider is busy all the time. What share of its work reaches somebody who still waits for it? Watch the board: blue is an answer, red a refusal (429), amber somebody who gave up.


# %%
async def ask(client, gate, until):
    good = 0
    while time.monotonic() < until:
        try:
            async with gate.slot():
                await client.search("What does a gate do?", k=1)
            good += 1
        except ServiceError:
            pass  # and again at once
    return good


async def seat(address, gate):
    async with ServiceClient(address, max_connections=30, timeout=PATIENCE) as client:
        until = time.monotonic() + SECONDS
        return sum(await asyncio.gather(*(ask(client, gate, until) for _ in range(30))))


async def everybody(make_gate):
    began = time.monotonic()
    good = await asyncio.gather(*(seat(address, make_gate()) for address in mine))
    return sum(good) / (time.monotonic() - began)


# %%
storm = await everybody(lambda: Gate(concurrency=30))  # as many as ask: no gate at all
print(f"goodput of my seats: {storm:.0f}/s")

# %% [markdown]
# The provider takes one after the other from its queue. In front stand those who have waited longest, so those who are about to give up: it begins work that nobody fetches. The queue is full, and most of what comes is refused.
#
# ## 2 · A gate each (5 minutes)
#
# Ten at once instead of thirty, everybody by themselves.

# %%
gated = await everybody(lambda: Gate(concurrency=10))
print(f"goodput of my seats: {gated:.0f}/s")

# %% [markdown]
# Nobody is greedy any more, and yet: a gate knows its own calls only. With many seats, ten each are still more than the provider answers within anybody's patience.
#
# ## 3 · One limit for the room (10 minutes)
#
# Say the bound aloud, count who is here, divide. In a room, set `here` to what the board counts.

# %%
rate = 0.95 * bound / here
shared = await everybody(
    lambda: Gate(concurrency=2, bucket=TokenBucket(rate=rate, capacity=1)),
)
print(
    f"goodput of my seats: {shared:.0f}/s, my share of the bound: {bound * len(mine) / here:.0f}/s"
)

# %% [markdown]
# ## Talk about it
#
# - Who decides on the limit where no board counts the seats? (`Aimd` in notebook 2 finds it without a word.)
# - What becomes of the room if one of you goes back to part 1? Try it.
# - Who should refuse first: the provider, the room's limit for each seat, or your own gate?

# %%
if room is not None:
    assert shared > storm, "together is more than everybody for themselves"
    room.close()
lab.leave()

"""For a workshop: the room, with its board, and what learners' notebooks say to it.

    python -m course_lib room        the room, on the instructor's machine
    lab.join(url, code, name="…")    a learner's notebook joins it

It is the one part of the course that may listen beyond this machine, so it is off until it is
started, and nothing of it is loaded before. docs/instructor/security.md says what it guards against.
"""

from course_lib.room import grade as grade
from course_lib.room import readiness as readiness
from course_lib.room.alone import Alone as Alone
from course_lib.room.client import RoomError as RoomError
from course_lib.room.client import Seat as Seat
from course_lib.room.command import main as main
from course_lib.room.live import LivePage as LivePage

__all__: list[str] = []

"""A room in a child process, and plain HTTP to ask it."""

import http.client
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Running:
    """A room: its process, port, code and the instructor's key."""

    process: subprocess.Popen
    port: int
    code: str
    key: str

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def board(self):
        return f"{self.url}/board#{self.key}"

    def ask(self, path, body=None, *, token="", method="", **headers):
        """(status, headers, text) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
        try:
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read().decode()
        finally:
            connection.close()

    def join(self, name="Ada", **fields):
        """The seat and the token of a new learner."""
        status, _, text = self.ask("/api/join", {"code": self.code, "name": name, **fields})
        assert status == 200, text
        answer = json.loads(text)
        return answer["seat"], answer["token"]

    def watched(self):
        """The first state that a board gets."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/api/watch", headers={"Authorization": f"Bearer {self.key}"})
        answer = connection.getresponse()
        assert answer.status == 200
        data = first_two(iter(answer.readline, b""))
        answer.close()
        connection.close()
        return data[1]


def first_two(lines):
    """The data of the first two events."""
    found = []
    for line in lines:
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:]))
            if len(found) == 2:
                return found
    raise AssertionError("the stream ended")


def result(exercise="1.1", *, passed=False, diagnosis="peak-in-flight", attempts=1, **more):
    """What a learner's kernel sends after a check."""
    return {"exercise": exercise, "passed": passed, "diagnosis": diagnosis, "attempts": attempts,
            "hints": 0, "minutes": 1, **more}  # fmt: skip


@contextmanager
def running_room(file, *flags):
    """A room of its own process; it is killed at the end."""
    command = [sys.executable, "-m", "course_lib", "room", "--port=0", f"--file={file}", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        while (line := process.stdout.readline()) and "lab.join" not in line:
            said += line
        said += line
        port, key = re.search(r":(\d+)/board#(\S+)", said).groups()
        code = re.search(r', "(\S+)", name', said)[1]
        yield Running(process, int(port), code, key)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

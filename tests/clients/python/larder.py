"""Larders of this suite's own, what their access logs say, and a wire between them and a client that can break.

Knows the server by its command line, its log and what comes over the wire; never looks into its store but through
`larder ls`.
"""

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.parse
from dataclasses import dataclass

PATIENCE = 60  # seconds that nothing may take, however slow the machine
USERS = {"ci": "built-by-ci", "__token__": "t0ken-of-ci", "admin": "yanks-things"}


@dataclass(frozen=True)
class Request:
    """A line of the access log."""

    method: str
    path: str
    status: int
    outcome: str
    sent: int

    @property
    def file(self):
        return urllib.parse.unquote(self.path.rsplit("/", 1)[-1])


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


def store_arguments():
    """The store under test."""
    arguments = ["--store", os.environ["LARDER_TEST_STORE"]]
    if endpoint := os.environ.get("LARDER_TEST_ENDPOINT"):
        arguments += ["--s3-endpoint", endpoint, "--s3-region", "us-east-1"]
    return arguments


def environment(work):
    """Nothing of ours reaches a Larder but what it needs."""
    kept = ("PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {"HOME": str(work), "RUST_BACKTRACE": "1"} | {name: os.environ[name] for name in kept if name in os.environ}


class Larder:
    """A Larder over the store under test. Its log is read as it is written, and kept in a file too."""

    _marks = itertools.count()

    def __init__(self, work, name, *arguments):
        work.mkdir(exist_ok=True)
        self.work, self.log = work, work / f"{name}.log"
        users = work / "users"
        users.write_text("".join(f"{user}:{_sha(password)}\n" for user, password in USERS.items()))
        command = [os.environ["LARDER_TEST_BIN"], "serve", "--listen", "127.0.0.1:0", "--log-format", "json"]
        command += [*store_arguments(), "--users", str(users), *arguments]
        self.process = subprocess.Popen(
            command, env=environment(work), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._lines, self._told = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.address = self._await(0, lambda line: "listen" in line)["listen"]
        except BaseException:
            # Nobody else knows of it.
            self.process.kill()
            self.process.wait()
            raise

    def _read(self):
        with self.log.open("w") as log:
            for text in self.process.stderr:
                log.write(text)
                log.flush()
                with self._told:
                    self._lines.append(json.loads(text) if text.startswith("{") else {"message": text})
                    self._told.notify_all()
        with self._told:
            self._lines.append({"message": "", "ended": True})
            self._told.notify_all()

    def _await(self, since, wanted):
        """The first line from the one numbered `since` on that is wanted."""

        def found():
            lines = self._lines[since:]
            return next((line for line in lines if wanted(line) or "ended" in line), None)

        with self._told:
            line = self._told.wait_for(found, PATIENCE)
        assert line and "ended" not in line, f"not in Larder's log:\n{self.log.read_text()[-4000:]}"
        return line

    # --- addresses --------------------------------------------------------------------------

    def url(self, path="/", user=None, address=None):
        credentials = f"{user}:{USERS[user]}@" if user else ""
        return f"http://{credentials}{address or self.address}{path}"

    # --- asking -----------------------------------------------------------------------------

    def ask(self, method, path, body=None, headers=None, user=None):
        headers = dict(headers or {})
        if user:
            pair = f"{user}:{USERS[user]}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, answer.headers, answer.read())

    def files(self, project, index="/simple/"):
        """A project's page, by file; None where there is none."""
        accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
        answer = self.ask("GET", f"{index}{project}/", headers=accept)
        assert answer.status in (200, 404), answer
        return {file["filename"]: file for file in answer.json()["files"]} if answer.status == 200 else None

    def yank(self, project, file, reason):
        answer = self.ask("PUT", f"/simple/{project}/{file}/yank", reason.encode(), user="admin")
        assert answer.status == 200, answer

    def stored(self, prefix):
        """The keys below a prefix, as `larder ls` lists them."""
        command = [os.environ["LARDER_TEST_BIN"], "ls", "--json", "--recursive", *store_arguments(), prefix]
        done = subprocess.run(
            command, env=environment(self.work), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        # 1: nothing is there.
        assert done.returncode in (0, 1), done.stderr
        return [json.loads(line)["key"] for line in done.stdout.splitlines()]

    # --- the log ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self):
        """A list that holds, behind the block, what was asked for within it, in order."""
        seen = []
        start = self._mark()
        yield seen
        end = self._mark()
        lines = [line for line in self._lines[start + 1 : end] if line.get("message") == "request"]
        fields = ("method", "path", "status", "outcome", "sent_bytes")
        seen += [Request(*(line[field] for field in fields)) for line in lines]

    def _mark(self):
        """Asks for something that nobody else asks for; where it is in the log all that was before is there too."""
        since, path = len(self._lines), f"/simple/mark-{next(self._marks)}/"
        self.ask("GET", path)
        return self._lines.index(self._await(since, lambda line: line.get("path") == path), since)

    @contextlib.contextmanager
    def ending(self, method, path):
        """Leaves the block when such a request has ended since it was entered."""
        since = len(self._lines)
        yield
        self._await(since, lambda line: (line.get("method"), line.get("path")) == (method, path))

    def peak(self):
        """The most memory that it has ever had, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            words = next(line for line in status if line.startswith("VmHWM")).split()
        return int(words[1]) * 1024

    def stop(self):
        """Ends it as an operator would. That it drains and exits with 0 is part of the test."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert status == 0, f"Larder ended with {status}:\n{self.log.read_text()[-4000:]}"


def _sha(password):
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()


class Wire:
    """A way to a server that breaks: the first connection on which so many bytes went in one direction is cut there,
    or, with `hold`, carries no more of them until its client goes.

    What comes after it goes through untouched. `broken` is set once it has happened.
    """

    def __init__(self, address, *, up=None, down=None, hold=False):
        host, port = address.rsplit(":", 1)
        self._target, self._limits, self._hold = (host, int(port)), {"up": up, "down": down}, hold
        self.broken, self._lock = threading.Event(), threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Wakes the thread that accepts, which closing alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for way, one, other in (("up", near, far), ("down", far, near)):
                    threading.Thread(target=self._carry, args=(way, one, other), daemon=True).start()

    def _carry(self, way, one, other):
        with contextlib.suppress(OSError):
            if self._until_broken(way, one, other):
                # An end in one direction is carried on; the other may have more to say.
                other.shutdown(socket.SHUT_WR)
                return
            while self._hold and one.recv(65536):
                pass
        for side in (one, other):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _until_broken(self, way, one, other):
        """Carries bytes to their end, or until it is time to break, and is false then."""
        carried, limit = 0, self._limits[way]
        while data := one.recv(16384):
            carried += len(data)
            other.sendall(data)
            if limit is not None and carried >= limit and self._first():
                return False
        return True

    def _first(self):
        with self._lock:
            first = not self.broken.is_set()
            self.broken.set()
            return first

"""The tools that people use, each as its own documentation has it run: who publishes, and who installs.

Each runs at a desk: a home, a working directory and an environment of its own, from which no other index can be
reached. Nothing that the tools say is hidden: what a user would get to see is what is asserted on.
"""

import os
import re
import subprocess
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from larder import USERS

PLACES = dict(entry.split("=", 1) for entry in os.environ["LARDER_TEST_TOOLS"].split(";"))
PIPS = ("pip", "pip-23", "pip-20")
INSTALLERS = (*PIPS, "uv", "poetry")
PUBLISHERS = ("twine", "twine-5", "uv", "poetry", "flit", "hatch")
SECONDS = 120  # that no tool may take, however slow the machine


@dataclass(frozen=True)
class Done:
    """How a tool ended, and all that its user saw of it."""

    status: int
    said: str

    def says(self, *words):
        """Whether it said these words, wherever its lines were broken."""
        plain = re.sub(r"[\s│╭╮╰╯─|]+", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said)).lower()
        return all(word.lower() in plain for word in words)


def interpreter(tool):
    """A tool's interpreter. A tool that is missing is a skip at a desk, and a failure in CI."""
    if tool not in PLACES:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"{tool} is not installed")
    return f"{PLACES[tool]}/bin/python"


class Desk:
    """One user's place of work. A second run at it finds the caches that the first has left."""

    def __init__(self, work):
        self.work, self.home, self._places = work, work / "home", 0
        self.home.mkdir(parents=True)

    def place(self):
        """A new, empty directory."""
        self._places += 1
        place = self.work / f"place-{self._places}"
        place.mkdir()
        return place

    def start(self, command, cwd=None, **variables):
        # Whatever is not on this machine is behind a proxy that does not exist.
        nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}
        environment = nowhere | {
            "no_proxy": "127.0.0.1",
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "COLUMNS": "400",
            "PIP_CONFIG_FILE": "/dev/null",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "POETRY_VIRTUALENVS_CREATE": "false",
            "POETRY_VIRTUALENVS_IN_PROJECT": "true",
            "POETRY_VIRTUALENVS_OPTIONS_NO_PIP": "true",
            "UV_PYTHON_DOWNLOADS": "never",
            "SOURCE_DATE_EPOCH": "1580601600",
        }
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd or self.work,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, command, cwd=None, fine=True, **variables):
        """Runs a tool to its end; `fine`: whether that has to be a success, None where it is not asked."""
        process = self.start(command, cwd, **variables)
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        done = Done(process.returncode, said)
        assert fine is None or fine == (done.status == 0), f"{command}: status {done.status}\n{said}"
        return done


def module(tool, *arguments):
    """A tool of Python's, by its interpreter."""
    name = re.sub(r"-\d+$", "", tool)
    if name == "uv":
        return [Path(interpreter("uv")).with_name("uv"), *arguments]
    return [interpreter(tool), "-m", name, *arguments]


# --- publishing -----------------------------------------------------------------------------


def publish(
    desk, tool, larder, files, *, path="/legacy/", user="ci", password=None, address=None, options=(), fine=True
):
    """Uploads distributions as they are: flit, which only uploads what it has built, has `publish_by_flit`."""
    url, password = larder.url(path, address=address), password or USERS[user]
    paths = [file.path for file in files]
    if tool in ("twine", "twine-5"):
        # Without --verbose, as people run it, it shows the status line and nothing of the body.
        how = ("--non-interactive", "--disable-progress-bar")
        return desk.run(
            module(tool, "upload", *how, "--repository-url", url, "-u", user, "-p", password, *options, *paths),
            fine=fine,
        )
    if tool == "uv":
        variables = {"UV_PUBLISH_USERNAME": user, "UV_PUBLISH_PASSWORD": password}
        return desk.run(module(tool, "publish", "--publish-url", url, *options, *paths), fine=fine, **variables)
    if tool == "hatch":
        variables = {"HATCH_INDEX_USER": user, "HATCH_INDEX_AUTH": password}
        return desk.run(module(tool, "publish", "--no-prompt", "--repo", url, *options, *paths), fine=fine, **variables)
    if tool == "poetry":
        # It uploads what its project's `dist` has of its version.
        place = desk.place()
        (place / "pyproject.toml").write_text(
            f'[project]\nname = "{files[0].project}"\nversion = "{files[0].version}"\nrequires-python = ">=3.8"\n'
        )
        variables = {
            "POETRY_REPOSITORIES_LARDER_URL": url,
            "POETRY_HTTP_BASIC_LARDER_USERNAME": user,
            "POETRY_HTTP_BASIC_LARDER_PASSWORD": password,
        }
        how = ("--no-interaction", "--repository", "larder", "--dist-dir", files[0].path.parent)
        return desk.run(module(tool, "publish", *how, *options), place, fine=fine, **variables)
    raise AssertionError(tool)


def publish_by_flit(desk, larder, project, version, text, *, path="/legacy/", user="ci", password=None, fine=True):
    """A module, built and uploaded in one go."""
    place = desk.place()
    name = project.replace("-", "_")
    (place / f"{name}.py").write_text(f'"""Made for a test."""\n__version__ = "{version}"\n{text}\n')
    (place / "pyproject.toml").write_text(
        textwrap.dedent(
            f"""\
            [build-system]
            requires = ["flit_core >=3.2,<5"]
            build-backend = "flit_core.buildapi"
            [project]
            name = "{project}"
            dynamic = ["version", "description"]
            requires-python = ">=3.8"
            """
        )
    )
    variables = {
        "FLIT_INDEX_URL": larder.url(path),
        "FLIT_USERNAME": user,
        "FLIT_PASSWORD": password or USERS[user],
    }
    return desk.run(module("flit", "publish", "--no-use-vcs"), place, fine=fine, **variables)


# --- installing -----------------------------------------------------------------------------


def installed(site):
    """What a directory of packages holds, by normalised name."""
    infos = [re.fullmatch(r"(.+)-([^-]+)\.dist-info", path.name) for path in Path(site).glob("*.dist-info")]
    return {re.sub(r"[-_.]+", "-", found[1]).lower(): found[2] for found in infos if found}


@dataclass(frozen=True)
class Installed:
    """What came of an installation."""

    done: Done
    site: Path

    @property
    def packages(self):
        return installed(self.site)


def pip_options(index, extra=()):
    # pip only caches pages that came over TLS or from a host that it was told to trust.
    host = re.sub(r"^http://(?:[^@/]*@)?([^/]+)/.*$", r"\1", index)
    return ["--index-url", index, "--trusted-host", host, *(f"--extra-index-url={url}" for url in extra)]


def install(desk, tool, index, *requirements, options=(), extra=(), fine=True, **variables):
    """Installs requirements from this index, and no other, into a new place."""
    place = desk.place()
    if tool in PIPS:
        target = ("--target", place / "site", *pip_options(index, extra))
        done = desk.run(module(tool, "install", *target, *options, *requirements), fine=fine, **variables)
        return Installed(done, place / "site")
    if tool == "uv":
        where = ("--python", interpreter("uv"), "--target", place / "site", "--default-index", index)
        where += tuple(f"--index={url}" for url in extra)
        done = desk.run(module(tool, "pip", "install", *where, *options, *requirements), fine=fine, **variables)
        return Installed(done, place / "site")
    if tool == "poetry":
        poetry_project(place, index, requirements)
        how = ("--no-interaction", "--no-root", *options)
        # Only here it needs an environment: its own is not to be installed into.
        variables = {"POETRY_VIRTUALENVS_CREATE": "true", **variables}
        done = desk.run(module(tool, "install", *how), place, fine=fine, **variables)
        return Installed(done, next(place.glob(".venv/lib/python*/site-packages"), place))
    raise AssertionError(tool)


def poetry_project(place, index, requirements):
    """A project that needs these, and whose only source is this index."""
    (place / "pyproject.toml").write_text(
        textwrap.dedent(
            f"""\
            [project]
            name = "consumer"
            version = "1.0"
            requires-python = ">=3.8"
            dependencies = {list(requirements)!r}
            [tool.poetry]
            package-mode = false
            [[tool.poetry.source]]
            name = "larder"
            url = "{index}"
            priority = "primary"
            """
        )
    )


def resolve(desk, tool, index, *requirements, options=()):
    """Finds out what these requirements come to, and installs nothing."""
    place = desk.place()
    if tool in PIPS:
        return desk.run(
            module(tool, "install", "--dry-run", "--ignore-installed", *pip_options(index), *options, *requirements)
        )
    if tool == "uv":
        (place / "requirements.in").write_text("\n".join(requirements))
        where = ("--python", interpreter("uv"), "--default-index", index)
        return desk.run(module(tool, "pip", "compile", *where, "requirements.in"), place)
    if tool == "poetry":
        poetry_project(place, index, requirements)
        done = desk.run(module(tool, "lock", "--no-interaction"), place)
        return Done(done.status, done.said + (place / "poetry.lock").read_text())
    raise AssertionError(tool)


def is_whole(path):
    """Whether a wheel's members all have the checksums that it says."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None

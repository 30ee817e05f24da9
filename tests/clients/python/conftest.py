"""What every test of the wheel cache with real tools is given."""

import os
import re
import signal
from pathlib import Path

import pytest

from larder import Larder
from tools import Desk

# The script ends us so: what we have started must end too.
signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to end", 143))


@pytest.fixture(scope="session")
def work():
    return Path(os.environ["LARDER_TEST_WORK"])


def _served(work, name, *arguments):
    larder = Larder(work / "larder", name, *arguments)
    try:
        yield larder
    finally:
        larder.stop()


@pytest.fixture(scope="session")
def larder(work):
    """A Larder that everybody may read and only users may write to."""
    yield from _served(work, "open", "--anonymous", "read")


@pytest.fixture(scope="session")
def private(work):
    """A second one over the same store, which nobody may read without a password."""
    yield from _served(work, "private")


@pytest.fixture
def project(request):
    """A name that no other test uses."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")


@pytest.fixture
def desk(work, project):
    return Desk(work / project)


@pytest.fixture
def dist(desk):
    """Where distributions are made."""
    return desk.place()

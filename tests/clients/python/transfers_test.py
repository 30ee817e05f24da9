"""Files that travel: in pieces, again after a break, and large ones."""

import pytest

import distributions
from larder import Larder, Wire
from tools import install, is_whole, module, pip_options, publish, resolve

MIB = 1 << 20
LARGE = 300  # MiB
MOST = 64 * MIB  # that a Larder with a small budget may have of memory, whatever goes through it
MOST_BY_DEFAULT = 128 * MIB


def wheels(seen):
    return [(request.method, request.status) for request in seen if request.path.endswith(".whl")]


@pytest.mark.parametrize("tool", ["pip", "uv", "poetry"])
def test_a_download_that_breaks_goes_on(larder, desk, dist, project, tool):
    wheel = distributions.wheel(dist, project, ballast=6)
    publish(desk, "twine", larder, [wheel])
    options = {"pip": ("--resume-retries", "3")}.get(tool, ())
    with Wire(larder.address, down=2 * MIB) as wire, larder.watched() as seen:
        index = larder.url("/simple/", address=wire.address)
        got = install(desk, tool, index, project, options=options, POETRY_REQUESTS_MAX_RETRIES="3")
        assert wire.broken.is_set()
    assert got.packages == {project: "1.0"}
    assert (next(got.site.glob("*.bin"))).stat().st_size == 6 * MIB
    asked = [request for request in wheels(seen) if request[0] == "GET"]
    assert asked[0] == ("GET", 200)
    # uv begins anew; the others have the rest sent, and no byte of it twice.
    assert asked[1] == ("GET", 200 if tool == "uv" else 206), asked


def test_pip_reads_the_end_of_a_wheel_by_its_address(larder, desk, dist, project):
    wheel = distributions.wheel(dist, project, ballast=6)
    publish(desk, "twine", larder, [wheel])
    address = larder.url(larder.files(project)[wheel.name]["url"].removeprefix("../.."))
    with larder.watched() as seen:
        resolve(desk, "pip", larder.url("/simple/"), f"{project} @ {address}", options=("--use-feature=fast-deps",))
    assert ("HEAD", 200) in wheels(seen) and ("GET", 206) in wheels(seen), seen


def test_fast_deps_reads_the_end_of_a_wheel(larder, desk, dist, project):
    """pip 20.3 does not know of metadata beside wheels, and reads them out of the wheel by ranges."""
    wheel = distributions.wheel(dist, project, ballast=6)
    publish(desk, "twine", larder, [wheel])
    # Of two that will not go together it downloads neither, so that what it reads is all that it reads.
    needy = distributions.wheel(dist, f"{project}-needy", requires=[project, f"{project}-nowhere"])
    publish(desk, "twine", larder, [needy])
    with larder.watched() as seen:
        done = install(
            desk, "pip-20", larder.url("/simple/"), needy.project, options=("--use-feature=fast-deps",), fine=False
        ).done
    assert done.says(f"no matching distribution found for {project}-nowhere"), done.said
    assert ("HEAD", 200) in wheels(seen) and ("GET", 206) in wheels(seen), seen
    assert ("GET", 200) not in wheels(seen), seen


def test_uv_reads_the_end_of_a_wheel_by_its_address(larder, desk, dist, project):
    """An address has no page that would tell of metadata beside it."""
    wheel = distributions.wheel(dist, project, ballast=6, requires=[f"{project}-needed"])
    publish(desk, "twine", larder, [wheel, distributions.wheel(dist, f"{project}-needed")])
    address = larder.url(larder.files(project)[wheel.name]["url"].removeprefix("../.."))
    with larder.watched() as seen:
        done = resolve(desk, "uv", larder.url("/simple/"), f"{project} @ {address}")
    assert done.says(f"{project}-needed==1.0"), done.said
    assert ("HEAD", 200) in wheels(seen) and ("GET", 206) in wheels(seen), seen
    assert ("GET", 200) not in wheels(seen), seen
    assert sum(request.sent for request in seen) < MIB, seen


def test_a_large_wheel_in_little_memory(work, desk, dist, project):
    # What it may hold of all bodies together; over a bucket the four parts that are under way want more.
    larder = Larder(work / "larder", "large", "--anonymous", "read", "--max-inflight-bytes", "16MiB")
    try:
        wheel = distributions.wheel(dist, project, ballast=LARGE)
        assert wheel.path.stat().st_size > LARGE * MIB
        publish(desk, "twine", larder, [wheel])
        after_upload = larder.peak()
        place = desk.place()
        # Without a cache: pip would write it twice.
        options = ("--no-deps", "--no-cache-dir", "--progress-bar", "off", *pip_options(larder.url("/simple/")))
        desk.run(module("pip", "download", *options, project), place)
        got = place / wheel.name
        assert got.stat().st_size == wheel.path.stat().st_size and is_whole(got)
        after_download = larder.peak()
    finally:
        larder.stop()
    print(f"VmHWM after {LARGE} MiB up: {after_upload >> 20} MiB, and down: {after_download >> 20} MiB")
    assert after_download < MOST


def test_a_large_wheel_by_uv(larder, desk, dist, project):
    """Up and down once more, by a tool that sends and reads in its own way."""
    wheel = distributions.wheel(dist, project, ballast=64)
    publish(desk, "uv", larder, [wheel])
    got = install(desk, "uv", larder.url("/simple/"), project)
    assert next(got.site.glob("*.bin")).stat().st_size == 64 * MIB
    assert larder.peak() < MOST_BY_DEFAULT

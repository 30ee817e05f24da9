"""Each installer finds what there is, as soon as it is there, and reads no more of it than it needs."""

import re

import pytest

import distributions
from tools import INSTALLERS, PIPS, install, interpreter, module, pip_options, publish, resolve

# Those that know of metadata beside wheels.
LIGHT = ("pip", "pip-23", "uv", "poetry")


def pages(seen, project):
    return [request.status for request in seen if request.path == f"/simple/{project}/"]


def files(seen, end):
    """What was asked for below /files/, in order, of names that end so: the wheels, or their metadata."""
    return [request for request in seen if "/files/" in request.path and request.path.endswith(end)]


@pytest.mark.parametrize("tool", INSTALLERS)
def test_installed(larder, desk, dist, project, tool):
    """By names as people spell them, with what it needs: a source archive is built, what fits no Python passed over."""
    made = [
        distributions.wheel(dist, project, "1.0", requires=["Foo.Bar_baz >=1", f"{project}-source"]),
        distributions.wheel(dist, project, "2.0", python=">=4"),
        distributions.sdist(dist, f"{project}-source", "0.1"),
    ]
    publish(desk, "uv", larder, made)
    # Old tools wrote file names as the project was spelled, and some still do. All tests share it.
    publish(desk, "twine", larder, [distributions.wheel(dist, "Foo.Bar_baz", "1.0", spelled="Foo.Bar_baz")])
    publish(desk, "twine", larder, [distributions.wheel(dist, "Foo.Bar_baz", "1.1")])
    spelled = project.replace("-", ".").title()
    with larder.watched() as seen:
        got = install(desk, tool, larder.url("/simple/"), spelled)
    assert got.packages == {project: "1.0", "foo-bar-baz": "1.1", f"{project}-source": "0.1"}
    assert {request.status for request in seen if request.path == "/simple/foo-bar-baz/"} == {200}
    again = install(desk, tool, larder.url("/simple/"), "foo_bar.BAZ==1.0")
    assert again.packages == {"foo-bar-baz": "1.0"}


@pytest.mark.parametrize("tool", INSTALLERS)
def test_a_version_with_a_plus(larder, desk, dist, project, tool):
    wheel = distributions.wheel(dist, project, "1.0+cu121.linux")
    publish(desk, "twine", larder, [wheel])
    got = install(desk, tool, larder.url("/simple/"), f"{project}==1.0+cu121.linux")
    assert got.packages == {project: "1.0+cu121.linux"}


@pytest.mark.parametrize("tool", INSTALLERS)
def test_with_a_password(larder, private, desk, dist, project, tool):
    """Page, metadata and file, of an index that answers nobody without one."""
    publish(desk, "twine", larder, [distributions.wheel(dist, project)])
    with private.watched() as seen:
        got = install(desk, tool, private.url("/simple/", user="__token__"), project)
    assert got.packages == {project: "1.0"}
    assert pages(seen, project)[-1] == 200 and files(seen, ".whl")
    refused = install(desk, tool, private.url("/simple/"), project, fine=False)
    assert refused.packages == {}


@pytest.mark.parametrize("tool", [*PIPS, "uv"])
def test_require_hashes(larder, desk, dist, project, tool):
    wheel = distributions.wheel(dist, project, requires=[f"{project}-x"])
    needed = distributions.wheel(dist, f"{project}-x")
    publish(desk, "twine", larder, [wheel, needed])
    wanted = dist / "requirements.txt"

    def pinned(first):
        wanted.write_text(
            f"{project}==1.0 --hash=sha256:{first}\n{needed.project}==1.0 --hash=sha256:{needed.sha256}\n"
        )
        return ("--require-hashes", "-r", wanted)

    got = install(desk, tool, larder.url("/simple/"), options=pinned(wheel.sha256))
    assert got.packages == {project: "1.0", needed.project: "1.0"}
    refused = install(desk, tool, larder.url("/simple/"), options=pinned("0" * 64), fine=False)
    assert refused.done.says("hash"), refused.done.said
    assert refused.packages == {}


@pytest.mark.parametrize("tool", LIGHT)
def test_resolving_reads_metadata_and_no_wheels(larder, desk, dist, project, tool):
    chain = [project, f"{project}-b", f"{project}-c"]
    for name, needed in zip(chain, [*chain[1:], None], strict=True):
        requires = [needed] if needed else []
        wheels = [distributions.wheel(dist, name, version, requires=requires) for version in ("1.0", "1.1")]
        publish(desk, "twine", larder, wheels)
    with larder.watched() as seen:
        done = resolve(desk, tool, larder.url("/simple/"), f"{project}<1.1")
    # "name-1.0", "name==1.0" and `name = "name"⏎version = "1.0"` are how they put it.
    for name, version in zip(chain, ("1.0", "1.1", "1.1"), strict=True):
        assert re.search(rf'{name}(-|==|"\s+version = "){re.escape(version)}', done.said), done.said
    wheels, sidecars = files(seen, ".whl"), files(seen, ".whl.metadata")
    assert len(sidecars) == 3 and {request.status for request in sidecars} == {200}, sidecars
    if tool == "pip-23":
        # It fetches what it would install, but only once it knows all of it.
        assert seen.index(wheels[0]) > seen.index(sidecars[-1]), seen
    else:
        assert not wheels, wheels


@pytest.mark.parametrize("tool", INSTALLERS)
def test_a_fresh_release_is_seen_at_once(larder, desk, dist, project, tool):
    """By a client that has the page in its cache, and is told that it still holds while it does."""
    index = larder.url("/simple/")
    publish(desk, "twine", larder, [distributions.wheel(dist, project, "1.0")])
    assert install(desk, tool, index, project).packages == {project: "1.0"}
    with larder.watched() as seen:
        assert install(desk, tool, index, project).packages == {project: "1.0"}
    if tool == "pip-20":
        # It keeps nothing that came without TLS, whatever host it was told to trust.
        assert set(pages(seen, project)) == {200}, seen
    else:
        assert set(pages(seen, project)) == {304}, seen
        # Nor are files asked for again: what an address leads to never changes.
        assert not files(seen, ".whl") and not files(seen, ".metadata"), seen

    publish(desk, "twine", larder, [distributions.wheel(dist, project, "1.1")])
    with larder.watched() as seen:
        assert install(desk, tool, index, project).packages == {project: "1.1"}
    assert 200 in pages(seen, project), seen


@pytest.mark.parametrize("tool", INSTALLERS)
def test_yanked(larder, desk, dist, project, tool):
    index = larder.url("/simple/")
    made = [distributions.wheel(dist, project, version) for version in ("1.0", "1.1")]
    publish(desk, "twine", larder, made)
    larder.yank(project, made[1].name, "breaks on leap days")
    assert install(desk, tool, index, project).packages == {project: "1.0"}
    pinned = install(desk, tool, index, f"{project}==1.1")
    assert pinned.packages == {project: "1.1"}
    assert pinned.done.says("yanked", "breaks on leap days"), pinned.done.said


def test_uv_locks_and_syncs(larder, desk, dist, project):
    needed = distributions.wheel(dist, f"{project}-x")
    both = [make(dist, project, requires=[needed.project]) for make in (distributions.wheel, distributions.sdist)]
    publish(desk, "twine", larder, [needed, *both])
    place, index = desk.place(), larder.url("/simple/")
    (place / "pyproject.toml").write_text(
        f'[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.8"\ndependencies = ["{project}"]\n'
        f'[[tool.uv.index]]\nname = "larder"\nurl = "{index}"\ndefault = true\n'
    )
    python = ("--python", interpreter("uv"))
    with larder.watched() as seen:
        desk.run(module("uv", "lock", *python), place)
    assert not files(seen, ".whl"), seen
    lock = (place / "uv.lock").read_text()
    made = larder.files(project) | larder.files(needed.project)
    for name, file in made.items():
        assert name in lock and file["hashes"]["sha256"] in lock, lock
        # What the page says of a file is what is locked.
        assert f"size = {file['size']}" in lock, lock

    desk.run(module("uv", "sync", "--locked", *python), place)
    sites = list(place.glob(".venv/lib/python*/site-packages/*.dist-info"))
    assert sorted(site.name for site in sites) == sorted(
        f"{name.replace('-', '_')}-1.0.dist-info" for name in (project, needed.project)
    )
    # The lock holds; nothing is fetched to find that out on a machine that has all of it.
    with larder.watched() as seen:
        desk.run(module("uv", "lock", "--check", *python), place)
    assert not files(seen, ".whl"), seen


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_only_what_was_there_by_a_date(larder, desk, dist, project, tool):
    """Upload times are on the page: without them these options fail."""
    publish(desk, "twine", larder, [distributions.wheel(dist, project)])
    option = {"pip": "--uploaded-prior-to", "uv": "--exclude-newer"}[tool]
    index = larder.url("/simple/")
    assert install(desk, tool, index, project, options=(option, "2999-01-01T00:00:00Z")).packages == {project: "1.0"}
    assert install(desk, tool, index, project, options=(option, "2020-01-01T00:00:00Z"), fine=False).packages == {}


@pytest.mark.parametrize("tool", PIPS)
def test_what_is_not_there(larder, desk, project, tool):
    """A name that nobody has uploaded is said to be missing, not to be an error of the server's."""
    command = module(tool, "download", "--no-deps", *pip_options(larder.url("/simple/")), project)
    done = desk.run(command, desk.place(), fine=False)
    assert done.says(f"no matching distribution found for {project}"), done.said

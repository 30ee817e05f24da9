"""Each publisher uploads, once and again; what is refused is refused to each, and each one's user is told why."""

import pytest

import distributions
from larder import PATIENCE, USERS, Wire
from tools import INSTALLERS, PUBLISHERS, install, module, publish, publish_by_flit

# Who sends by itself again what broke off. The others say that it did, and leave it to their users.
AGAIN = {"uv"}

# The next installer for each publisher, so that every tool reads what another has written.
PAIRS = list(zip(PUBLISHERS, (*INSTALLERS, "pip"), strict=True))


def statuses(seen):
    return [request.status for request in seen if request.method == "POST"]


def built(desk, tool, project, text):
    """A wheel and a source archive, by the tool's own build where it has one."""
    place = desk.place()
    if tool not in ("poetry", "hatch"):
        made = distributions.wheel, distributions.sdist
        return [make(place, project, module=text) for make in made]
    name = project.replace("-", "_")
    backends = {"poetry": ("poetry-core", "poetry.core.masonry.api"), "hatch": ("hatchling", "hatchling.build")}
    needs, backend = backends[tool]
    (place / f"{name}.py").write_text(text)
    (place / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{needs}"]\nbuild-backend = "{backend}"\n'
        f'[project]\nname = "{project}"\nversion = "1.0"\nrequires-python = ">=3.8"\n'
        # Where the first version of the archive was left is not a part of the second.
        '[tool.hatch.build.targets.sdist]\nonly-include = ["*.py"]\n'.replace("*.py", f"{name}.py")
    )
    call = {"poetry": module("poetry", "build"), "hatch": [*module("hatch")[:1], "-m", "hatchling", "build"]}[tool]
    desk.run(call, place)
    files = sorted((place / "dist").iterdir(), reverse=True)
    assert sorted(file.suffix for file in files) == [".gz", ".whl"], files
    return [distributions.Distribution(file, project, "1.0") for file in files]


def uploader(desk, tool, larder, project):
    """A call that uploads version 1.0 with this text in its module."""

    def upload(text, **how):
        if tool == "flit":
            return publish_by_flit(desk, larder, project, "1.0", text, **how)
        return publish(desk, tool, larder, built(desk, tool, project, text), **how)

    return upload


@pytest.mark.parametrize(("tool", "reader"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_uploaded(larder, desk, project, tool, reader):
    upload = uploader(desk, tool, larder, project)
    with larder.watched() as seen:
        upload("COLOUR = 'red'")
    assert statuses(seen) == [200, 200]
    page = larder.files(project)
    assert sorted(name.rsplit(".", 1)[-1] for name in page) == ["gz", "whl"]

    # The same again is a success.
    with larder.watched() as seen:
        upload("COLOUR = 'red'")
    assert statuses(seen) == [200, 200]
    assert larder.files(project) == page

    # Another file under the same name is not; and nothing of it is kept.
    with larder.watched() as seen:
        refused = upload("COLOUR = 'blue'", fine=None)
    assert refused.says("already exists"), refused.said
    assert refused.status != 0
    assert set(statuses(seen)) == {400}, seen
    assert larder.files(project) == page

    # What was uploaded is what is installed.
    got = install(desk, reader, larder.url("/simple/"), project)
    assert got.packages == {project: "1.0"}
    assert "red" in next(got.site.glob(f"{project.replace('-', '_')}.py")).read_text()


@pytest.mark.parametrize("tool", PUBLISHERS)
def test_wrong_password(larder, desk, project, tool):
    done = uploader(desk, tool, larder, project)("", password="wrong", fine=False)
    assert done.says("401") or done.says("unauthorized") or done.says("credentials"), done.said
    assert larder.files(project) is None
    assert larder.stored(f"wheels/shared/{project}") == []


@pytest.mark.parametrize("tool", ["twine", "uv"])
def test_a_token_instead_of_a_user(larder, desk, dist, project, tool):
    publish(desk, tool, larder, [distributions.wheel(dist, project)], user="__token__")
    assert len(larder.files(project)) == 1


def test_uv_looks_at_the_page_first(larder, desk, dist, project):
    """With --check-url it passes over what is there, and sees by the digest on the page what is not the same."""
    check = ("--check-url", larder.url("/simple/"))
    wheel = distributions.wheel(dist, project)
    publish(desk, "uv", larder, [wheel], options=check)
    with larder.watched() as seen:
        again = publish(desk, "uv", larder, [wheel], options=check)
    assert again.says("already exists") and not statuses(seen), (again, seen)
    other = distributions.wheel(dist, project, module="OTHER = 1\n")
    refused = publish(desk, "uv", larder, [other], options=check, fine=False)
    assert refused.says(wheel.name), refused.said
    assert larder.files(project)[wheel.name]["hashes"]["sha256"] != other.sha256


@pytest.mark.parametrize("tool", ["twine-5", "poetry"])
def test_skip_existing(larder, desk, dist, project, tool):
    """The words of the refusal are those that these tools look for. (twine 7 knows the flag for PyPI only.)"""
    publish(desk, tool, larder, [distributions.wheel(dist, project)])
    other = distributions.wheel(dist, project, module="OTHER = 1\n")
    with larder.watched() as seen:
        done = publish(desk, tool, larder, [other], options=("--skip-existing",))
    assert done.says("skipping"), done.said
    assert statuses(seen) == [400]


@pytest.mark.parametrize("tool", [tool for tool in PUBLISHERS if tool != "flit"])
def test_a_wheel_for_one_environment(larder, desk, dist, project, tool):
    """flit builds none. The shared index refuses it to everybody else, and says where it belongs."""
    wheel = distributions.wheel(dist, project, tag="py3-none-linux_x86_64")
    refused = publish(desk, tool, larder, [wheel], fine=False)
    assert refused.says("/built/"), refused.said
    assert larder.files(project) is None

    environment = "/built/debian12-x86_64"
    publish(desk, tool, larder, [wheel], path=f"{environment}/legacy/")
    assert larder.files(project) is None
    assert list(larder.files(project, f"{environment}/simple/")) == [wheel.name]


@pytest.mark.parametrize("tool", ["pip", "pip-20", "uv"])
def test_two_indexes_at_once(larder, desk, dist, project, tool):
    """What was built for an environment is installed beside what is for everybody."""
    shared = distributions.wheel(dist, f"{project}-shared", requires=[f"{project}-built"])
    built_one = distributions.wheel(dist, f"{project}-built", tag="py3-none-linux_x86_64")
    environment = f"/built/{project}"
    publish(desk, "twine", larder, [shared])
    publish(desk, "twine", larder, [built_one], path=f"{environment}/legacy/")
    extra = [larder.url(f"{environment}/simple/")]
    got = install(desk, tool, larder.url("/simple/"), shared.project, extra=extra)
    assert got.packages == {shared.project: "1.0", built_one.project: "1.0"}


@pytest.mark.parametrize("tool", ["twine", "twine-5", "uv", "poetry", "hatch"])
def test_an_upload_that_dies_leaves_nothing(larder, desk, dist, project, tool):
    """The wire breaks after the first MiB; then the same file goes up."""
    wheel = distributions.wheel(dist, project, ballast=4)
    with Wire(larder.address, up=1 << 20) as wire:
        # Until the server has noticed, and has cleaned up.
        with larder.ending("POST", "/legacy/"):
            publish(desk, tool, larder, [wheel], address=wire.address, fine=tool in AGAIN)
        assert wire.broken.is_set()
    if tool not in AGAIN:
        assert larder.files(project) is None
        assert larder.stored(f"wheels/shared/{project}") == []
        publish(desk, tool, larder, [wheel])
    assert larder.files(project)[wheel.name]["hashes"]["sha256"] == wheel.sha256


def test_a_publisher_that_is_killed_leaves_nothing(larder, desk, dist, project):
    wheel = distributions.wheel(dist, project, ballast=4)
    with Wire(larder.address, up=1 << 20, hold=True) as wire:
        url = larder.url("/legacy/", address=wire.address)
        how = ("--non-interactive", "--repository-url", url, "-u", "ci", "-p", USERS["ci"])
        process = desk.start(module("twine", "upload", *how, wheel.path))
        with larder.ending("POST", "/legacy/"), process.stdout:
            assert wire.broken.wait(PATIENCE)
            process.kill()
            assert process.wait() < 0
    assert larder.files(project) is None
    assert larder.stored(f"wheels/shared/{project}") == []
    publish(desk, "twine", larder, [wheel])
    assert larder.files(project)[wheel.name]["size"] == wheel.path.stat().st_size

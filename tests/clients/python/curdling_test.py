"""Curdling's protocol, its client's requests replayed as they are documented: no `curd` is needed, which only ran on
Python 2."""

import hashlib
import json
import re
import uuid

import pytest

import distributions
from tools import install, publish


def put(larder, name, body, *, field=None, filename=None, user="ci", more=()):
    """As the client uploads: one file, whose field and file name are both the file's name."""
    edge = uuid.uuid4().hex
    parts = [(field or name, filename or name, body), *more]
    form = b"".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode() + data + b"\r\n"
        for field, filename, data in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    return larder.ask("PUT", f"/p/{name}", form + f"--{edge}--\r\n".encode(), headers, user)


@pytest.fixture
def shelf(larder, dist, project):
    """A wheel and source archives of three versions, uploaded as the client does."""
    made = [
        distributions.sdist(dist, project, "0.9"),
        distributions.sdist(dist, project, "0.10"),
        distributions.wheel(dist, project, "0.10"),
        distributions.sdist(dist, project, "1.0"),
    ]
    for file in made:
        answer = put(larder, file.name, file.bytes)
        assert (answer.status, answer.body) == (200, b"ok"), answer
    return made


def test_the_packages(larder, shelf, project):
    home = larder.ask("GET", "/")
    assert home.status == 200 and home.headers.get_content_type() == "text/html"
    assert project in home.body.decode()
    for path in ("/api/", "/api"):
        answer = larder.ask("GET", path)
        if answer.status in (301, 302, 307, 308):
            answer = larder.ask("GET", answer.headers["Location"])
        assert answer.status == 200 and project in answer.json(), path


def test_a_package(larder, shelf, project):
    old, source, wheel, newest = shelf
    for asked in (project, project.replace("-", "_").title()):
        answer = larder.ask("GET", f"/api/{asked}")
        assert answer.status == 200
        releases = {release["version"]: release for release in answer.json()}
        assert set(releases) == {"0.9", "0.10", "1.0"}
        for release in releases.values():
            assert set(release) == {"name", "version", "urls"}
            # The client looks for the name that it asked for.
            assert release["name"] == asked
            for url in release["urls"]:
                assert re.fullmatch(r"http://[^/]+/p/[^/?#]+", url["url"]) and set(url) == {"url", "sha256"}
        # It takes the first address, and tells by its end what a file is: the wheel has to be the first.
        names = [url["url"].rsplit("/", 1)[-1] for url in releases["0.10"]["urls"]]
        assert names == [wheel.name, source.name]
        assert [url["sha256"] for url in releases["0.10"]["urls"]] == [wheel.sha256, source.sha256]


def test_an_unknown_package(larder):
    answer = larder.ask("GET", "/api/nobody-has-this")
    assert answer.status == 404 and answer.json() == {"status": "error"}


def test_files(larder, shelf):
    for file in shelf:
        answer = larder.ask("GET", f"/p/{file.name}")
        assert answer.status == 200 and answer.body == file.bytes
        assert hashlib.sha256(answer.body).hexdigest() == file.sha256
        assert "Location" not in answer.headers
        head = larder.ask("HEAD", f"/p/{file.name}")
        assert head.status == 200 and int(head.headers["Content-Length"]) == len(file.bytes)
    for absent in ("nobody_has_this-1.0-py3-none-any.whl", "README"):
        assert larder.ask("GET", f"/p/{absent}").status == 404, absent


def test_uploads(larder, shelf, dist, project):
    wheel = shelf[2]
    # Again: a success, and listed once.
    assert put(larder, wheel.name, wheel.bytes).body == b"ok"
    listed = [url["url"] for release in larder.ask("GET", f"/api/{project}").json() for url in release["urls"]]
    assert len(listed) == len(set(listed)) == len(shelf)
    # Other bytes under its name.
    other = distributions.wheel(dist, project, "0.10", module="OTHER = 1\n").bytes
    answer = put(larder, wheel.name, other)
    assert answer.status == 409 and b"already exists" in answer.body
    assert larder.ask("GET", f"/p/{wheel.name}").body != other


def test_bad_uploads(larder, dist, project):
    wheel = distributions.wheel(dist, project)
    bad = [
        put(larder, "README", b"read me"),
        put(larder, f"{project}.exe", wheel.bytes),
        put(larder, "other_name-1.0-py3-none-any.whl", wheel.bytes),
        put(larder, wheel.name, b"no archive"),
        put(larder, wheel.name, wheel.bytes[:-30]),
        put(larder, wheel.name, wheel.bytes, more=[("second", "second", b"x")]),
        larder.ask("PUT", f"/p/{wheel.name}", b"", {"Content-Type": "multipart/form-data; boundary=x"}, "ci"),
        larder.ask("PUT", f"/p/{wheel.name}", wheel.bytes, {"Content-Type": "application/octet-stream"}, "ci"),
    ]
    assert [answer.status for answer in bad] == [400] * len(bad), [(answer.status, answer.body) for answer in bad]
    assert larder.ask("GET", f"/p/{wheel.name}").status == 404
    assert larder.ask("GET", f"/api/{project}").status == 404
    assert larder.stored(f"wheels/shared/{project}") == []
    assert put(larder, wheel.name, wheel.bytes).status == 200


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("", 3),
        ("==0.10", 2),
        ("0.10", None),
        ("%3E=0.1,%3C1", 2),
        ("%3E=0.1,%3C0.10", 0),
        ("!=1.0", 2),
        ("%3C=0.9", 0),
        (";whl", 2),
        (";~whl", 3),
        ("==0.10;~whl", 1),
        ("==0.10;gz", 1),
    ],
)
def test_searches(larder, dist, project, query, at):
    # The name of the test is long and holds what was asked: a short one will do.
    name = "searched"
    made = [distributions.sdist(dist, name, version) for version in ("0.9", "0.10", "1.0")]
    made.insert(2, distributions.wheel(dist, name, "0.10"))
    for file in made:
        assert put(larder, file.name, file.bytes).status == 200
    answer = larder.ask("GET", f"/s/{name}{query}")
    if at is None:
        # "searched0.10" is another name.
        assert answer.status == 404 and answer.body.startswith(b"package not found")
        return
    assert answer.status == 200 and answer.body == made[at].bytes
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith("attachment") and made[at].name in disposition


@pytest.mark.parametrize("query", ["nobody-has-this", "nobody-has-this==7"])
def test_searches_that_find_nothing(larder, query):
    answer = larder.ask("GET", f"/s/{query}")
    assert answer.status == 404 and answer.body.startswith(b"package not found")


@pytest.mark.parametrize("query", ["foo==", "foo~=1", "foo%20==1", "foo;whl;gz", "=="])
def test_searches_that_do_not_parse(larder, query):
    answer = larder.ask("GET", f"/s/{query}")
    assert answer.status == 400 and answer.body.startswith(b"your query is wrong"), answer


def test_everything_wants_a_password_where_one_is_set(larder, private, shelf, project):
    file = f"/p/{shelf[0].name}"
    calls = [("GET", path) for path in ("/", "/api", "/api/", f"/api/{project}", file, f"/s/{project}")]
    for method, path in [*calls, ("PUT", file)]:
        answer = private.ask(method, path)
        assert answer.status == 401, (method, path)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Login Required"', (method, path)
    for method, path in calls:
        assert private.ask(method, path, user="ci").status in (200, 301, 302, 307, 308), path
    assert put(private, shelf[0].name, shelf[0].bytes).status == 200
    assert put(private, shelf[0].name, shelf[0].bytes, user=None).status == 401


def test_the_first_machine_warms_the_others(larder, desk, dist, project):
    """What a client does for one requirement, from the miss to the next machine's hit."""
    assert larder.ask("GET", f"/api/{project}").status == 404
    wheel = distributions.wheel(dist, project)
    assert put(larder, wheel.name, wheel.bytes).body == b"ok"
    found = json.loads(larder.ask("GET", f"/api/{project}").body)
    address = found[0]["urls"][0]["url"]
    assert address == larder.url(f"/p/{wheel.name}")
    assert larder.ask("GET", address.removeprefix(larder.url(""))).body == wheel.bytes
    # The same file, to the tools of today; and the other way round.
    assert install(desk, "uv", larder.url("/simple/"), project).packages == {project: "1.0"}
    newer = distributions.wheel(dist, project, "1.1")
    publish(desk, "twine", larder, [newer])
    answer = larder.ask("GET", f"/s/{project}")
    assert answer.status == 200 and answer.body == newer.bytes

"""Please's RPC cache, as a gRPC client that is not ours sees it.

`scripts/rpc-clients` starts a Larder, makes the stubs out of the project's own `rpc_cache.proto` and runs this file. It
talks to the address in LARDER_TEST_RPC and to nothing else: what it knows of the server is what came over the wire.
Each test has entries of its own, so that they may run in any order; the one that deletes everything is the last.
"""

import base64
import contextlib
import email
import email.policy
import hashlib
import http.client
import os
import random
import socket
import statistics
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import rpc_cache_pb2 as pb
import rpc_cache_pb2_grpc as stubs
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ADDRESS = os.environ["LARDER_TEST_RPC"]
SERVICE = "proto.rpc_cache.RpcCache"
MIB = 1 << 20
LIMIT = 200 * MIB  # --max-message-size, where nothing is said
PATIENCE = 60  # seconds that no call may take, however slow the machine
STRESS = float(os.environ.get("LARDER_TEST_RPC_SECONDS", "5"))
IDENTITY_ONLY = ("grpc.compression_enabled_algorithms_bitset", 1)


# --- talking to it --------------------------------------------------------------------------


def connect(address=ADDRESS, *options):
    """A channel with a connection of its own, and no limits of its own."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    own = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(address, options=[*unlimited, *own, *options])


class Entry:
    """One key of one target, and what one client does with it."""

    def __init__(self, channel, package="src/core", target="core", key=None):
        self.stub = stubs.RpcCacheStub(channel)
        self.package, self.target, self.key = package, target, key or os.urandom(20)

    def on(self, channel):
        return Entry(channel, self.package, self.target, self.key)

    def artifact(self, file, body=b"", symlink=""):
        return pb.Artifact(package=self.package, target=self.target, file=file, body=body, symlink=symlink)

    def request(self, files, links=None):
        artifacts = [self.artifact(file, body) for file, body in files.items()]
        artifacts += [self.artifact(file, symlink=to) for file, to in (links or {}).items()]
        return pb.StoreRequest(artifacts=artifacts, os="linux", arch="amd64", hash=self.key, hostname="ci-7")

    def store(self, files, links=None, **how):
        answer = self.stub.Store(self.request(files, links), **{"timeout": PATIENCE, **how})
        assert answer.success

    def wish(self, *files):
        artifacts = [self.artifact(file) for file in files]
        return pb.RetrieveRequest(artifacts=artifacts, os="linux", arch="amd64", hash=self.key)

    def retrieve(self, *files, **how):
        return self.stub.Retrieve(self.wish(*files), **{"timeout": PATIENCE, **how})

    def got(self, *files, **how):
        """Bytes by name, and links as `("->", destination)`; None for a miss, which has no artifacts."""
        answer = self.retrieve(*files, **how)
        assert answer.success or not answer.artifacts, "artifacts without success"
        if not answer.success:
            return None
        for artifact in answer.artifacts:
            assert (artifact.package, artifact.target) == (self.package, self.target)
            assert not (artifact.symlink and artifact.body)
        found = {a.file: ("->", a.symlink) if a.symlink else a.body for a in answer.artifacts}
        assert len(found) == len(answer.artifacts), "a name came twice"
        return found

    def delete(self, **how):
        artifacts = [pb.Artifact(package=self.package, target=self.target)]
        request = pb.DeleteRequest(artifacts=artifacts, os="linux", arch="amd64")
        assert self.stub.Delete(request, **{"timeout": PATIENCE, **how}).success

    def path(self, file=""):
        key = base64.urlsafe_b64encode(self.key).rstrip(b"=").decode()
        parts = ["/artifact/linux_amd64", self.package, self.target, key, file]
        return "/".join(urllib.parse.quote(part) for part in parts if part)


@pytest.fixture
def channel():
    with connect() as channel:
        yield channel


@pytest.fixture
def entry(channel, request):
    """A new entry of a target that has the test's name."""
    return Entry(channel, target=request.node.originalname)


@contextlib.contextmanager
def refused(code, *words):
    """What is inside must fail with this code, and the message must hold these words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() == code, f"{error.code()}: {error.details()}"
    for word in words:
        assert word in error.details(), error.details()


def http_call(method, path, body=None, limit=PATIENCE):
    """Status, headers and body. An answer that breaks off raises."""
    host, port = ADDRESS.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=limit)
    with contextlib.closing(connection):
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def http_files(path):
    """The parts of a multipart answer by file name; None for a miss."""
    return files_of(*http_call("GET", path))


def files_of(status, headers, body):
    if status == 404:
        return None
    assert status == 200, (status, body)
    kind = headers["Content-Type"]
    assert kind.startswith("multipart/form-data"), kind
    message = email.message_from_bytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    assert not message.defects, message.defects
    parts = list(message.iter_parts())
    files = {part.get_filename(): part.get_payload(decode=True) for part in parts}
    assert len(files) == len(parts), "a name came twice"
    return files


def compressible(size):
    return b"".join(b"line %d of something that repeats itself\n" % n for n in range(size // 40))[:size]


TREE = {
    "a.txt": b"hello",
    "b.txt": b"world" * 5000,
    "empty": b"",
    "gen/one.c": b"int one;",
    "gen/two.h": b"int two;",
    "gen/deep/er/three.c": b"int three;" * 10000,
    "gen.c": b"beside the directory",
    "with space+\u00fc.txt": "\u00fc".encode(),
}


def below(name):
    return {file: body for file, body in TREE.items() if file.startswith(name + "/")}


# --- what is stored comes back --------------------------------------------------------------


def test_files_directories_globs_and_all(entry):
    entry.store(TREE)
    for file, body in TREE.items():
        assert entry.got(file) == {file: body}
    assert entry.got("gen") == below("gen")
    assert entry.got("gen/deep") == below("gen/deep")
    assert entry.got("") == TREE
    assert entry.got("*.txt") == {f: b for f, b in TREE.items() if f.endswith(".txt") and "/" not in f}
    assert entry.got("gen/*.c") == {"gen/one.c": TREE["gen/one.c"]}
    # A glob takes a directory with all that is below it.
    assert entry.got("g*n") == below("gen")
    assert entry.got("gen/???.[ch]") == {f: TREE[f] for f in ("gen/one.c", "gen/two.h")}
    assert entry.got("a.txt", "gen", "*.c") == {
        "a.txt": TREE["a.txt"], "gen.c": TREE["gen.c"], **below("gen")
    }


def test_what_is_named_twice_comes_once(entry):
    entry.store(TREE)
    assert entry.got("a.txt", "*.txt", "a.txt", "") == TREE


@pytest.mark.parametrize(
    ("package", "target"),
    [("", "root"), ("a/b/c/d", "t"), ("p", "_core#srcs"), ("p", "with.dots-and+plus"), ("\u00fc/x y", "t")],
)
def test_packages_and_targets_of_all_kinds(channel, package, target):
    entry = Entry(channel, package, target)
    entry.store({"out": b"x", "d/out": b"y"})
    assert entry.got("") == {"out": b"x", "d/out": b"y"}
    assert Entry(channel, package, target + "x", entry.key).got("") is None


@pytest.mark.parametrize("length", [8, 20, 32, 64])
def test_keys_of_all_lengths(channel, length):
    # In a path a key of other than 20 or 32 bytes is told from other names by its capital letter and its digit.
    key = base64.urlsafe_b64decode("-_A0") + os.urandom(length - 3)
    entry = Entry(channel, target=f"keys-{length}", key=key)
    entry.store({"out": b"x"})
    assert entry.got("out") == {"out": b"x"}


def test_machines_do_not_share(entry):
    entry.store({"out": b"x"})
    wish = entry.wish("out")
    for os_name, arch in [("darwin", "amd64"), ("linux", "arm64")]:
        wish.os, wish.arch = os_name, arch
        answer = entry.stub.Retrieve(wish, timeout=PATIENCE)
        assert not answer.success and not answer.artifacts


def test_sizes_around_every_limit(entry):
    sizes = [0, 1, 16 << 10, (16 << 10) + 1, 64 << 10, (64 << 10) + 1, 256 << 10, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1]
    files = {f"of-{size}": random.Random(size).randbytes(size) for size in sizes}
    entry.store(files)
    assert entry.got("") == files
    for file, body in files.items():
        assert entry.got(file) == {file: body}


def test_many_small_files(entry):
    files = {f"d{n % 7}/f{n}": b"%d" % n * 50 for n in range(500)}
    entry.store(files)
    assert entry.got("") == files
    assert entry.got("d3") == {file: body for file, body in files.items() if file.startswith("d3/")}


def test_more_small_files_than_a_manifest_has_room_for(entry):
    files = {f"f{n:02}": os.urandom(12 << 10) for n in range(40)}
    entry.store(files)
    assert entry.got("") == files


@pytest.mark.parametrize("packing", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_150_mib(entry, packing):
    """Noise, which gzip makes no smaller: real clients send everything packed."""
    big = random.Random(150).randbytes(150 * MIB)
    entry.store({"big": big, "small": b"1"}, compression=packing)
    found = entry.got("", compression=packing)
    assert found.keys() == {"big", "small"} and found["small"] == b"1"
    assert hashlib.sha256(found["big"]).digest() == hashlib.sha256(big).digest()
    assert entry.got("small") == {"small": b"1"}


def test_the_same_again_replaces(entry):
    entry.store({"a": b"1", "b": b"1" * 100_000, "c": b"1"})
    entry.store({"a": b"2", "b": b"2" * 50_000})
    assert entry.got("") == {"a": b"2", "b": b"2" * 50_000, "c": b"1"}


# --- links ----------------------------------------------------------------------------------


def test_links_are_kept(entry):
    links = {"l": "a.txt", "gen/l": "../a.txt", "dangling": "nowhere", "gen/deep/l": "../../gen/one.c", "dir": "gen"}
    entry.store(TREE, links)
    assert entry.got("") == {**TREE, **{file: ("->", to) for file, to in links.items()}}
    assert entry.got("l") == {"l": ("->", "a.txt")}
    assert entry.got("gen/deep") == {**below("gen/deep"), "gen/deep/l": ("->", "../../gen/one.c")}
    # A link to a directory is a link: nothing is below it.
    assert entry.got("dir") == {"dir": ("->", "gen")}
    assert entry.got("dir/one.c") is None


def test_a_link_replaces_a_link_and_a_file(entry):
    entry.store({"f": b"file"}, {"l": "f"})
    entry.store({}, {"l": "g", "f": "h"})
    assert entry.got("") == {"l": ("->", "g"), "f": ("->", "h")}
    entry.store({"f": b"again", "l": b"now a file"})
    assert entry.got("") == {"f": b"again", "l": b"now a file"}


@pytest.mark.parametrize(
    ("file", "to"),
    [("l", "/etc/passwd"), ("l", ".."), ("l", "../x"), ("gen/l", "../../x"), ("gen/l", "x/../../../y"), ("l", "a\0b")],
)
def test_links_that_lead_out_are_refused(entry, file, to):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "artifacts[1].symlink"):
        entry.store({"fine": b"x"}, {file: to})
    assert entry.got("") is None


# --- misses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["out", "dir", "*.c", ""])
def test_a_miss_is_no_error(entry, wish):
    answer = entry.retrieve(wish)
    assert not answer.success and not answer.artifacts


@pytest.mark.parametrize("missing", ["nope", "nope/deeper", "*.nope", "a.txt/below", "ge", "gen/on", ".larder"])
def test_one_output_missing_is_all_missing(entry, missing):
    entry.store(TREE)
    for wishes in ([missing], ["a.txt", missing], [missing, "gen"], ["", missing]):
        answer = entry.retrieve(*wishes)
        assert not answer.success and not answer.artifacts, wishes


def test_asking_for_nothing_is_a_miss(entry):
    entry.store(TREE)
    assert entry.got() is None


def test_bookkeeping_is_no_output(entry):
    entry.store(TREE)
    for wish in ("", "*", ".*", ".l*"):
        assert not any(".larder" in file for file in entry.got(wish) or {})


# --- several Stores to one key --------------------------------------------------------------


def test_stores_to_one_key_add_up(entry):
    all_files = {}
    for n in range(20):
        files = {f"results/{n}.xml": b"%d" % n * (n * 2000), f"top-{n}": b""}
        entry.store(files)
        all_files |= files
        assert entry.got("") == all_files


def test_sixteen_at_once_lose_nothing(channel, entry):
    for again in range(5):
        one = Entry(channel, target=entry.target)
        ready = threading.Barrier(16)

        def add(n):
            with connect() as own:
                mine = one.on(own)
                grpc.channel_ready_future(own).result(PATIENCE)
                ready.wait(PATIENCE)
                mine.store({f"cover/{n}": b"%d" % n * 3000, f"large-{n}": bytes([n]) * 100_000})

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(add, range(16)))
        expected = {f"cover/{n}": b"%d" % n * 3000 for n in range(16)}
        expected |= {f"large-{n}": bytes([n]) * 100_000 for n in range(16)}
        assert one.got("") == expected, f"round {again}"


# --- whole or not at all, whatever happens at once ------------------------------------------


class Tally:
    def __init__(self):
        self.lock, self.counts, self.faults = threading.Lock(), {}, []

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fault(self, what):
        with self.lock:
            self.faults.append(what)


def generation(files, names):
    """The generation that all of these files are of, or what is wrong with them. Every line of a file names its
    generation and its file, and its first one the file's length, so nothing that was cut or mixed passes for whole."""
    if files.keys() != names:
        return None, f"partial: {sorted(files)}"
    all_of = set()
    for name, body in files.items():
        first, *lines = body.split(b"\n")
        said, of, mark = first.split(b" ")
        if said != name.encode() or int(of) != len(body):
            return None, f"{name} is cut: {first!r}, {len(body)} bytes"
        if any(line != mark for line in lines[:-1]) or not mark.startswith(lines[-1]):
            return None, f"{name} is mixed within"
        all_of.add(mark)
    return (all_of.pop(), None) if len(all_of) == 1 else (None, f"mixed: {all_of}")


def written(name, size, mark):
    """A file of a generation, of exactly `size` bytes."""
    first = name.encode() + b" %08d " % size + mark + b"\n"
    return (first + (mark + b"\n") * (size // len(mark) + 1))[:size]


def sizes(names, largest, dice):
    return {name: dice.choice([200, 5_000, 20_000, largest]) + dice.randrange(100) for name in names}


NAMES = frozenset({"a", "b.txt", "d/one", "d/two", "d/e/three"})
WISHES = {"": NAMES, "d": {"d/one", "d/two", "d/e/three"}, "d/*o*": {"d/one", "d/two"}, "?": NAMES - {"b.txt"}}


@pytest.mark.parametrize("largest", [70_000, 2_500_000], ids=["small", "large"])
def test_no_answer_is_partial_or_mixed(channel, request, largest):
    """Sixteen clients store, retrieve and delete the same four keys, and two more read them over HTTP."""
    run = os.urandom(4).hex()
    keys = [os.urandom(20) for _ in range(4)]
    tally, until = Tally(), time.monotonic() + STRESS
    wanted = ("store", "retrieve", "miss", "delete", "http hit", "http miss")

    def goes_on():
        """For a while, and on a slow machine until each has come about a few times."""
        enough = all(tally.counts.get(what, 0) >= 5 for what in wanted)
        return len(tally.faults) < 5 and time.monotonic() < (until if enough else until + 60)

    # Of an answer above 1 MiB the bytes flow, and where its files are replaced meanwhile it breaks off.
    breaks_off = largest > MIB

    def entry_of(channel, n):
        # Two keys of one target, so that deleting it hits both.
        return Entry(channel, target=f"stress-{run}-{n // 2}", key=keys[n])

    def rpc(worker):
        dice = random.Random(worker)
        with connect() as own:
            while goes_on():
                entry = entry_of(own, dice.randrange(4))
                what = dice.choices(["store", "retrieve", "delete"], [4, 8, 1])[0]
                try:
                    if what == "store":
                        mark = os.urandom(12).hex().encode()
                        compression = dice.choice([grpc.Compression.NoCompression, grpc.Compression.Gzip])
                        files = sizes(NAMES, largest, dice)
                        entry.store(
                            {name: written(name, size, mark) for name, size in files.items()},
                            compression=compression,
                        )
                    elif what == "delete":
                        entry.delete()
                    else:
                        wish = dice.choice(list(WISHES))
                        found = entry.got(wish)
                        if found is None:
                            what = "miss"
                        elif why := generation(found, WISHES[wish])[1]:
                            tally.fault(f"Retrieve of {wish!r}: {why}")
                    tally.count(what)
                except grpc.RpcError as error:
                    tally.count(f"{what} {error.code().name}")
                    if not (breaks_off and what == "retrieve"):
                        tally.fault(f"{what}: {error.code()} {error.details()}")

    def over_http(worker):
        dice = random.Random(100 + worker)
        while goes_on():
            entry = entry_of(channel, dice.randrange(4))
            wish = dice.choice(list(WISHES))
            try:
                status, headers, body = http_call("GET", entry.path(wish))
                if status == 503:
                    # An error, if not a true one: the test after this one is about it.
                    tally.count("http 503")
                    continue
                found = files_of(status, headers, body)
                if found is None:
                    tally.count("http miss")
                    continue
                tally.count("http hit")
                if why := generation(found, WISHES[wish])[1]:
                    tally.fault(f"GET of {wish!r}: {why}")
            except (http.client.HTTPException, ConnectionError):
                tally.count("http broke off")

    with ThreadPoolExecutor(18) as pool:
        running = [pool.submit(rpc, n) for n in range(16)] + [pool.submit(over_http, n) for n in range(2)]
        for each in running:
            each.result()
    print(f"{request.node.name}: {dict(sorted(tally.counts.items()))}")
    assert not tally.faults, "\n".join(tally.faults)
    for what in wanted:
        assert tally.counts.get(what, 0) >= 5, f"hardly any {what}: {tally.counts}"
    # Once nobody writes any more: whole or nothing, and the next Store is found by both protocols.
    for n in range(4):
        entry = entry_of(channel, n)
        found = entry.got("")
        assert found is None or generation(found, NAMES)[1] is None
        for name, body in (found or {}).items():
            assert http_call("GET", entry.path(name))[::2] == (200, body), name
        entry.store({name: written(name, 30_000, b"after") for name in NAMES})
        found = entry.got("")
        assert generation(found, NAMES) == (b"after", None)
        assert http_files(entry.path()) == found


@pytest.mark.parametrize("origin", ["rpc", "http"])
def test_http_reads_that_race_a_delete_are_hits_or_misses(entry, origin):
    """The store is well, so nobody is to be told that it does not answer."""
    files = {name: written(name, 3000, b"one") for name in NAMES}
    began, statuses = time.monotonic(), {}

    def over():
        """Not before both have been met, however slow the machine; but at some time it is."""
        took, met = time.monotonic() - began, statuses.get(200, 0) >= 1 and statuses.get(404, 0) >= 5
        return took > STRESS / 4 and (met or took > STRESS * 4)

    def change():
        with connect() as own:
            while not over():
                if origin == "rpc":
                    entry.on(own).store(files)
                else:
                    for name, body in files.items():
                        assert http_call("POST", entry.path(name), body)[0] == 200
                entry.on(own).delete()

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        while not over():
            try:
                status = http_call("GET", entry.path())[0]
            except (http.client.HTTPException, ConnectionError):
                status = "broke off"
            statuses[status] = statuses.get(status, 0) + 1
        changing.result()
    print(f"{origin}: {statuses}")
    assert not statuses.keys() - {200, 404, "broke off"}, statuses
    assert statuses.get(404, 0) >= 5, statuses
    assert statuses.get(200, 0) >= 1, statuses


def test_a_delete_that_races_stores_leaves_nothing_wrong(channel):
    """What is found afterwards has the bytes that were stored, whoever came first; one more Store, and the protocols agree."""
    run, odd, until = os.urandom(4).hex(), [], time.monotonic() + STRESS
    unit = {"a": b"1", "b": b"2", "large": b"3" * 70_000}
    rounds = 0
    while time.monotonic() < until:
        entry = Entry(channel, "p", f"race-{run}-{rounds}")
        rounds += 1
        calls = [lambda: entry.store(unit), lambda: entry.store({"c": b"4"}), entry.delete]
        with ThreadPoolExecutor(3) as pool:
            for each in [pool.submit(call) for call in calls]:
                each.result()
        everything = {**unit, "c": b"4"}
        for file, body in everything.items():
            status, _, found = http_call("GET", entry.path(file))
            if status not in (200, 404) or (status == 200 and found != body):
                odd.append(f"round {rounds}, {file}: HTTP {status}")
            if entry.got(file) not in (None, {file: body}):
                odd.append(f"round {rounds}, {file}: other bytes over RPC")
        if entry.got("") not in (None, unit, {"c": b"4"}, everything):
            odd.append(f"round {rounds}: a part, or a mixture")
        entry.store(everything)
        if not entry.got("") == http_files(entry.path()) == everything:
            odd.append(f"round {rounds}: another Store does not make it whole")
    assert rounds >= 20
    assert not odd, f"{len(odd)} in {rounds} rounds: {odd[:5]}"


# --- deleting -------------------------------------------------------------------------------


def test_delete_takes_all_versions_of_exactly_one_target(channel):
    name = f"del-{os.urandom(4).hex()}"
    victims = [Entry(channel, "p", name) for _ in range(3)]
    others = [
        Entry(channel, "p", name + "bar"), Entry(channel, "p", name[:-1]), Entry(channel, "", name),
        Entry(channel, "p/" + name, "t"), Entry(channel, "p/q", name), Entry(channel, "p", name + "#srcs"),
    ]
    for entry in victims + others:
        entry.store({"out": b"x", "d/large": b"y" * 100_000}, {"l": "out"})
    elsewhere = victims[0].request({"out": b"mac"})
    elsewhere.os = "darwin"
    channel_stub = victims[0].stub
    assert channel_stub.Store(elsewhere, timeout=PATIENCE).success
    victims[0].delete()
    assert [entry.got("") for entry in victims] == [None] * 3
    assert [http_call("GET", entry.path("out"))[0] for entry in victims] == [404] * 3
    for entry in others:
        assert entry.got("out") == {"out": b"x"}, (entry.package, entry.target)
    wish = victims[0].wish("out")
    wish.os = "darwin"
    assert channel_stub.Retrieve(wish, timeout=PATIENCE).artifacts[0].body == b"mac"
    # What is gone already is no error, and can be stored again.
    victims[0].delete()
    victims[0].store({"out": b"again"})
    assert victims[0].got("") == {"out": b"again"}


def test_delete_of_several_targets(channel):
    run = os.urandom(4).hex()
    entries = [Entry(channel, "p", f"{run}-{n}") for n in range(3)]
    for entry in entries:
        entry.store({"out": b"x"})
    artifacts = [pb.Artifact(package=e.package, target=e.target) for e in entries[:2]]
    request = pb.DeleteRequest(artifacts=artifacts, os="linux", arch="amd64")
    assert entries[0].stub.Delete(request, timeout=PATIENCE).success
    assert [entry.got("") for entry in entries] == [None, None, {"out": b"x"}]


# --- compression ----------------------------------------------------------------------------


class Counting:
    """Hands bytes on between a client and the server, and counts them either way."""

    def __init__(self):
        self.up = self.down = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                host, port = ADDRESS.rsplit(":", 1)
                server = socket.create_connection((host, int(port)))
                threading.Thread(target=self.pump, args=(client, server, "up"), daemon=True).start()
                threading.Thread(target=self.pump, args=(server, client, "down"), daemon=True).start()

    def pump(self, source, sink, way):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                setattr(self, way, getattr(self, way) + len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@pytest.mark.parametrize("up", ["plain", "gzip"])
@pytest.mark.parametrize("down", ["plain", "gzip"])
def test_gzip_on_and_off_both_ways(entry, up, down):
    size = 500_000
    files = {"text": compressible(size), "empty": b""}
    packing = grpc.Compression.Gzip if up == "gzip" else grpc.Compression.NoCompression
    with Counting() as wire:
        with connect(wire.address) as channel:
            entry.on(channel).store(files, compression=packing)
        assert (wire.up < size / 2) == (up == "gzip"), wire.up
    with Counting() as wire:
        # A client that accepts nothing but identity fails on anything else.
        accepts = [IDENTITY_ONLY] if down == "plain" else []
        with connect(wire.address, *accepts) as channel:
            assert entry.on(channel).got("") == files
        assert (wire.down < size / 2) == (down == "gzip"), wire.down


def test_gzip_of_a_large_message(entry):
    files = {"text": compressible(60 * MIB), "noise": os.urandom(4 * MIB)}
    entry.store(files, compression=grpc.Compression.Gzip)
    assert entry.got("", compression=grpc.Compression.Gzip) == files


def test_packed_messages_that_are_larger_than_the_budget_wait_for_each_other(entry):
    """Each of them alone is more than --max-inflight-bytes has (48 MiB), and all together more than fits anywhere."""
    noise = random.Random(60).randbytes(60 * MIB)

    def one(n):
        with connect() as own:
            mine = Entry(own, target=f"{entry.target}-{n}")
            mine.store({"noise": noise}, compression=grpc.Compression.Gzip, timeout=4 * PATIENCE)
            assert mine.got("", compression=grpc.Compression.Gzip, timeout=4 * PATIENCE) == {"noise": noise}

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(one, range(5)))


def test_gzipped_wishes_and_deletes(entry):
    entry.store(TREE, compression=grpc.Compression.Gzip)
    assert entry.got("gen", compression=grpc.Compression.Gzip) == below("gen")
    assert entry.got("nope", compression=grpc.Compression.Gzip) is None
    entry.delete(compression=grpc.Compression.Gzip)
    assert entry.got("") is None


def test_other_compressions_are_refused(entry):
    with refused(grpc.StatusCode.UNIMPLEMENTED, "gzip"):
        entry.store({"text": compressible(10_000)}, compression=grpc.Compression.Deflate)


# --- what is wrong is named -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(hash=b""), "hash"),
        (dict(hash=b"x" * 7), "hash"),
        (dict(hash=b"x" * 65), "hash"),
        (dict(os=""), "os"),
        (dict(arch=""), "arch"),
        (dict(os="../linux"), "os"),
        (dict(os="linux_x"), "os"),
        (dict(arch="amd64/.."), "arch"),
    ],
    ids=str,
)
def test_bad_places(entry, change, field):
    for call, request in [
        (entry.stub.Store, entry.request({"out": b"x"})),
        (entry.stub.Retrieve, entry.wish("out")),
        (entry.stub.Delete, pb.DeleteRequest(artifacts=[entry.artifact("")], os="linux", arch="amd64")),
    ]:
        if "hash" in change and isinstance(request, pb.DeleteRequest):
            continue
        for name, value in change.items():
            setattr(request, name, value)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, field):
            call(request, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(package="p/../q"), "artifacts[0].package"),
        (dict(package="/p"), "artifacts[0].package"),
        (dict(package="p//q"), "artifacts[0].package"),
        (dict(package="p\\q"), "artifacts[0].package"),
        (dict(target=""), "artifacts[0].target"),
        (dict(target=".."), "target"),
        (dict(target="a/b"), "artifacts[0].target"),
        (dict(target="a\n"), "target"),
    ],
    ids=str,
)
def test_bad_names(entry, change, field):
    for call, request in [
        (entry.stub.Store, entry.request({"out": b"x"})),
        (entry.stub.Retrieve, entry.wish("out")),
        (entry.stub.Delete, pb.DeleteRequest(artifacts=[entry.artifact("")], os="linux", arch="amd64")),
    ]:
        for name, value in change.items():
            setattr(request.artifacts[0], name, value)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, field):
            call(request, timeout=PATIENCE)


@pytest.mark.parametrize("file", ["..", "../x", "a/../b", "/a", "a//b", "a/", "./a", "a\0", "a\\b", "x" * 256])
def test_bad_files(entry, file):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "artifacts[1].file"):
        entry.store({"fine": b"x", file: b"x"})
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "artifacts[0].file"):
        entry.got(file)
    assert entry.got("") is None


def test_files_that_can_only_be_asked_for(entry):
    for file in ("", ".larder", ".larder/x"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "artifacts[0].file"):
            entry.store({file: b"x"})
    assert entry.got("") is None


def test_names_that_are_globs_to_readers(entry):
    files = {"*.c": b"star", "a[b]": b"brackets", "ab": b"ab", "x.c": b"x"}
    entry.store(files)
    assert entry.got("") == files
    assert entry.got("*.c") == {"*.c": b"star", "x.c": b"x"}
    assert entry.got("a[b]") == {"ab": b"ab"}


def test_twice_the_same_file(entry):
    request = entry.request({"a": b"1"})
    request.artifacts.append(entry.artifact("a", b"2"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "artifacts[1].file"):
        entry.stub.Store(request, timeout=PATIENCE)
    assert entry.got("") is None


def test_a_file_is_no_directory(entry):
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        entry.store({"a": b"x", "a/b": b"x"})
    entry.store({"a": b"x"})
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        entry.store({"a/b": b"x"})
    assert entry.got("") == {"a": b"x"}


def test_unknown_methods_are_unimplemented(channel):
    call = channel.unary_unary(f"/{SERVICE}/Nope", lambda _: b"", lambda answer: answer)
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        call(None, timeout=PATIENCE)


# --- sizes and deadlines --------------------------------------------------------------------


@pytest.mark.parametrize("packing", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_messages_over_the_limit_are_refused(entry, packing):
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(LIMIT)):
        entry.store({"huge": bytes(LIMIT + 1)}, compression=packing)
    assert entry.got("") is None
    entry.store({"fine": b"x"}, compression=packing)
    assert entry.got("") == {"fine": b"x"}


def test_answers_over_the_limit_are_refused(entry):
    half = random.Random(1).randbytes(105 * MIB)
    for name in ("one", "two"):
        entry.store({name: half})
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(LIMIT)):
        entry.got("")
    assert entry.got("two") == {"two": half}


def test_deadlines_are_honoured(entry):
    """A call whose time is over fails at once, and what it did is all or nothing; the server goes on."""
    files = {f"f{n}": bytes([n]) * MIB for n in range(24)}
    for timeout in (0.001, 0.02, 0.05, 0.1):
        with connect() as own:
            mine = entry.on(own)
            grpc.channel_ready_future(own).result(PATIENCE)
            began = time.monotonic()
            try:
                mine.store(files, timeout=timeout)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
                assert time.monotonic() - began < timeout + 5
            else:
                assert timeout > 0.01, "24 MiB were stored within 10 ms"
        assert entry.got("") in (None, files)
    entry.store(files)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        entry.got("", timeout=0.001)
    assert entry.got("") == files


def test_calls_that_are_given_up(entry):
    """Retrieves that are cancelled in the middle leave the server able to answer more of them than it has room for."""
    files = {"big": os.urandom(32 * MIB)}
    entry.store(files)
    for _ in range(40):
        call = entry.stub.Retrieve.future(entry.wish(""), timeout=PATIENCE)
        time.sleep(0.01)
        call.cancel()
    assert entry.got("") == files


# --- what stands beside it ------------------------------------------------------------------


def quick(channel, calls=60):
    """Milliseconds that ListNodes takes, each."""
    stub, took = stubs.RpcCacheStub(channel), []
    for _ in range(calls):
        began = time.perf_counter()
        assert not stub.ListNodes(pb.ListRequest(), timeout=PATIENCE).nodes
        took.append((time.perf_counter() - began) * 1000)
    return took


def test_there_are_no_nodes_and_that_is_said_quickly(channel):
    grpc.channel_ready_future(channel).result(PATIENCE)
    took = quick(channel)
    # A client waits for 50 ms. The machine may be busy with other things, the median is the server's.
    assert statistics.median(took) < 25, took


def test_there_are_no_nodes_while_others_store(entry):
    done = threading.Event()

    def busy():
        with connect() as own:
            while not done.is_set():
                entry.on(own).store({"big": bytes(30 * MIB)}, compression=grpc.Compression.Gzip)

    with ThreadPoolExecutor(2) as pool:
        busy_ones = [pool.submit(busy) for _ in range(2)]
        try:
            with connect() as own:
                grpc.channel_ready_future(own).result(PATIENCE)
                took = quick(own)
        finally:
            done.set()
        for each in busy_ones:
            each.result()
    assert statistics.median(took) < 50, took


@pytest.mark.parametrize("service", ["", "plz-rpc-cache", SERVICE])
def test_health_is_told(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(request, timeout=PATIENCE).status == serving
    watching = stub.Watch(request, timeout=PATIENCE)
    assert next(watching).status == serving
    watching.cancel()


def test_health_of_what_is_not_known(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="nope")
    with refused(grpc.StatusCode.NOT_FOUND):
        stub.Check(request, timeout=PATIENCE)
    watching = stub.Watch(request, timeout=PATIENCE)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


def test_reflection_describes_the_service(channel):
    known = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(known.get_services())
    described = descriptor_pool.DescriptorPool(known)
    methods = described.FindServiceByName(SERVICE).methods
    shapes = {m.name: (m.input_type.name, m.output_type.name) for m in methods}
    assert shapes == {
        "Store": ("StoreRequest", "StoreResponse"),
        "Retrieve": ("RetrieveRequest", "RetrieveResponse"),
        "Delete": ("DeleteRequest", "DeleteResponse"),
        "ListNodes": ("ListRequest", "ListResponse"),
    }

    def fields(message):
        return [(f.number, f.name, f.type, f.is_repeated) for f in message.fields]

    # As the protocol has them, by number: no change of the file may change them.
    assert [f[:2] for f in fields(described.FindMessageTypeByName("proto.rpc_cache.Artifact"))] == [
        (1, "package"), (2, "target"), (3, "file"), (4, "body"), (5, "symlink")
    ]
    for name, ours in pb.DESCRIPTOR.message_types_by_name.items():
        assert fields(described.FindMessageTypeByName(f"proto.rpc_cache.{name}")) == fields(ours)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(channel, version):
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(call(iter([request]), timeout=PATIENCE))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


# --- HTTP and RPC over one store ------------------------------------------------------------


@pytest.mark.parametrize("target", ["core", "_core#srcs"])
def test_what_came_by_rpc_is_read_over_http(channel, target):
    entry = Entry(channel, "src/core", target)
    entry.store(TREE)
    for file, body in TREE.items():
        status, headers, got = http_call("GET", entry.path(file))
        assert (status, headers["Content-Type"], got) == (200, "application/octet-stream", body), file
        status, headers, _ = http_call("HEAD", entry.path(file))
        assert (status, headers["Content-Length"]) == (200, str(len(body))), file
    assert http_files(entry.path("gen")) == below("gen")
    assert http_files(entry.path()) == TREE
    assert http_files(entry.path() + "/gen/*.c") == {"gen/one.c": TREE["gen/one.c"]}
    for absent in ("nope", "a.txt/x", ".larder"):
        assert http_call("GET", entry.path(absent))[0] == 404, absent
    assert http_call("DELETE", f"/artifact/linux_amd64/src/core/{urllib.parse.quote(target)}")[0] == 200
    assert entry.got("") is None


def test_links_cannot_travel_over_http(entry):
    entry.store({"d/f": b"x", "e/f": b"y"}, {"d/l": "f"})
    # Less than all of a directory would be a part of it: a miss. What has no link in it is whole.
    assert http_files(entry.path("d")) is None
    assert http_files(entry.path()) is None
    assert http_call("GET", entry.path("d/l"))[0] == 404
    assert http_call("GET", entry.path("d/f"))[::2] == (200, b"x")
    assert http_files(entry.path("e")) == {"e/f": b"y"}


def test_what_came_over_http_is_retrieved_by_rpc(entry):
    assert entry.got("") is None
    for file, body in TREE.items():
        assert http_call("POST", entry.path(file), body)[0] == 200, file
    for file, body in TREE.items():
        assert entry.got(file) == {file: body}
    assert entry.got("gen") == below("gen")
    assert entry.got("") == TREE
    assert entry.got("*.c") == {"gen.c": TREE["gen.c"]}
    assert entry.got("a.txt", "nope") is None
    entry.delete()
    assert entry.got("") is None
    assert http_call("GET", entry.path("a.txt"))[0] == 404


@pytest.mark.parametrize("file", ["small", "large"])
def test_what_http_puts_over_a_unit_does_not_mix_with_it(entry, file):
    """The manifest decides what RPC gives: the unit as it was stored, or a miss; until somebody stores it anew."""
    unit = {"small": b"old", "large": b"old" * 30_000, "other": b"old"}
    entry.store(unit)
    for name in (file, "added"):
        assert http_call("POST", entry.path(name), b"new" * 25_000)[0] == 200
        assert http_call("GET", entry.path(name))[::2] == (200, b"new" * 25_000)
    for wish in ("", file, "other"):
        assert entry.got(wish) in (None, {name: unit[name] for name in unit if wish in ("", name)}), wish
    assert http_files(entry.path()) in (None, unit)
    assert entry.got("added") is None
    again = {name: b"newest" for name in unit} | {"added": b"newest"}
    entry.store(again)
    assert entry.got("") == again == http_files(entry.path())


def test_a_unit_hides_what_http_left_in_its_entry(entry):
    assert http_call("POST", entry.path("by-http"), b"x")[0] == 200
    entry.store({"by-rpc": b"y"})
    assert entry.got("") == {"by-rpc": b"y"} == http_files(entry.path())
    assert entry.got("by-http") is None
    assert http_call("GET", entry.path("by-http"))[::2] == (200, b"x")


def test_a_large_file_crosses_over_both_ways(channel, entry):
    big = random.Random(20).randbytes(20 * MIB + 1)
    entry.store({"big": big})
    assert http_call("GET", entry.path("big"))[::2] == (200, big)
    other = Entry(channel, target=entry.target + "-http")
    assert http_call("POST", other.path("d/big"), big)[0] == 200
    assert other.got("d") == {"d/big": big}


def test_grpc_needs_http_2():
    status, _, body = http_call("POST", f"/{SERVICE}/ListNodes", b"\0\0\0\0\0")
    assert status == 415 and b"HTTP/2" in body


# --- the last one ---------------------------------------------------------------------------


def test_zz_everything_goes(channel):
    entries = [Entry(channel, f"p{n}", "t") for n in range(5)]
    for entry in entries:
        entry.store({"out": b"x", "d/large": b"y" * 100_000})
    # The client names neither system nor machine here.
    assert entries[0].stub.Delete(pb.DeleteRequest(everything=True), timeout=PATIENCE).success
    assert [entry.got("") for entry in entries] == [None] * 5
    assert [http_call("GET", entry.path("out"))[0] for entry in entries] == [404] * 5
    entries[0].store({"out": b"again"})
    assert entries[0].got("") == {"out": b"again"}

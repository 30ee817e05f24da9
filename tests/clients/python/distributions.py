"""Small distributions, made with the standard library alone: no network, no build back end.

Their bytes follow from the arguments, so that the same call twice makes the same file.
"""

import base64
import gzip
import hashlib
import io
import random
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
EPOCH = (2020, 2, 2, 0, 0, 0)

# A back end that needs nothing: source archives carry it, so that their builds need no index.
BACKEND = '''
import pathlib, zipfile
INFO = {metadata!r}
WHEEL = {wheel!r}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(directory, WHEEL), "w") as archive:
        for name, text in INFO.items():
            archive.writestr(name, text)
    return WHEEL
'''


@dataclass(frozen=True)
class Distribution:
    """A file, and what it is called."""

    path: Path
    project: str
    version: str

    @property
    def name(self):
        return self.path.name

    @property
    def bytes(self):
        return self.path.read_bytes()

    @property
    def sha256(self):
        return hashlib.sha256(self.bytes).hexdigest()


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _escaped(name):
    return re.sub(r"[-_.]+", "_", name).lower()


def metadata(name, version, requires=(), python=None):
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: Made for a test"]
    lines += [f"Requires-Python: {python}"] if python else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join(lines) + "\n\nMade for a test.\n"


def _members(name, version, tag, module, requires, python, unlisted=""):
    info = f"{_escaped(name)}-{version}.dist-info"
    members = {
        f"{_escaped(name)}.py": module,
        f"{info}/METADATA": metadata(name, version, requires, python),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in members.items())
    return members | {f"{info}/RECORD": f"{record}{unlisted}{info}/RECORD,,\n"}


def _digest(text):
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def wheel(
    directory, name, version="1.0", *, tag="py3-none-any", module="", requires=(), python=None, spelled=None, ballast=0
):
    """A wheel. `spelled`: the project's part of the file name; `ballast`: MiB that nothing can compress."""
    path, heavy = Path(directory, f"{spelled or _escaped(name)}-{version}-{tag}.whl"), f"{_escaped(name)}.bin"
    with zipfile.ZipFile(path, "w") as archive:
        if ballast:
            piece = random.Random(name).randbytes(MIB)
            with archive.open(zipfile.ZipInfo(heavy, EPOCH), "w", force_zip64=True) as member:
                for _ in range(ballast):
                    member.write(piece)
        listed = f"{heavy},,\n" if ballast else ""
        for member, text in _members(name, version, tag, module, requires, python, listed).items():
            archive.writestr(zipfile.ZipInfo(member, EPOCH), text)
    return Distribution(path, normalised(name), version)


def sdist(directory, name, version="1.0", *, module="", requires=(), python=None):
    """A source archive that builds without any network."""
    root, tag = f"{_escaped(name)}-{version}", "py3-none-any"
    built = _members(name, version, tag, module, requires, python)
    backend = BACKEND.format(metadata=built, wheel=f"{root}-{tag}.whl")
    members = {
        "PKG-INFO": metadata(name, version, requires, python),
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, text in members.items():
            entry = tarfile.TarInfo(f"{root}/{member}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    path = Path(directory, f"{root}.tar.gz")
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return Distribution(path, normalised(name), version)

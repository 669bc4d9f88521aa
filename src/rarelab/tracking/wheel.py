"""This package as a wheel, made from its installed files: a logged model takes it along, so that
its requirements can be installed where no index has the package."""

import base64
import csv
import functools
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from rarelab.paths import config_root
from rarelab.version import __version__

NAME = f"rarelab-{__version__}-py3-none-any.whl"

_PACKAGE = Path(__file__).resolve().parents[1]
_INFO = f"rarelab-{__version__}.dist-info"
_WHEEL = "Wheel-Version: 1.0\nGenerator: rarelab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@functools.cache
def wheel() -> bytes:
    """The wheel's bytes; the same files give the same bytes.

    Raises:
        importlib.metadata.PackageNotFoundError: the package runs without being installed.
    """
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in _files():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow([name, f"sha256={digest.decode()}", len(content)])
            _add(archive, name, content)
        lines.writerow([f"{_INFO}/RECORD", "", ""])
        _add(archive, f"{_INFO}/RECORD", record.getvalue().encode())
    return packed.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    """The code, the configuration and the metadata: names in the wheel, and contents."""
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in (".py", ".html"):
            yield f"rarelab/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes()
    for path in sorted((_PACKAGE.parent / "hydra_plugins").glob("rarelab_*.py")):
        yield f"hydra_plugins/{path.name}", path.read_bytes()
    conf = config_root() / "conf"
    # `experiments` is a link in a checkout, which rglob does not follow.
    for path in sorted({*conf.rglob("*.yaml"), *(conf / "experiments").glob("*.yaml")}):
        yield f"rarelab/conf/{path.relative_to(conf).as_posix()}", path.read_bytes()
    installed = distribution("rarelab")
    for name in ("METADATA", "entry_points.txt"):
        yield f"{_INFO}/{name}", (installed.read_text(name) or "").encode()
    yield f"{_INFO}/WHEEL", _WHEEL.encode()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980, the earliest that a zip can hold
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)

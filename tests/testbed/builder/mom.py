# SPDX-License-Identifier: Apache-2.0
"""oVirt's MOM, as Debian has it: the only balloon controller that is packaged for libvirt's guests."""

from pathlib import Path

from .apt import Apt, release
from .cache import Cache, digest_of
from .shell import find_tool

# Debian 12 has no MOM; the next release's is Python alone, and runs on Debian 12's.
RELEASE = "trixie"
PACKAGES = "/usr/lib/python3/dist-packages"
HOME = "/opt/mom"


def unpacked(cache: Cache) -> Path:
    """Has a directory for each of MOM, libvirt's Python and six, with the files of its package."""
    with cache.locked():
        return cache.artefact("mom", digest_of(1, RELEASE), _unpack)


def files(cache: Cache) -> list[tuple[Path, str]]:
    """(source, place in the emulated host) of what momd needs there, beside libvirt."""
    root = unpacked(cache)
    libvirt = sorted((root / f"libvirt{PACKAGES}").glob("libvirt*"))
    return [(root / f"mom{PACKAGES}/mom", f"{PACKAGES}/mom"), (root / f"six{PACKAGES}/six.py", f"{PACKAGES}/six.py"),
            *((file, f"{PACKAGES}/{file.name}") for file in libvirt if file.suffix in (".py", ".so")),
            (root / "mom/usr/sbin/momd", f"{HOME}/momd.py"), (root / "mom/etc/momd.conf", f"{HOME}/momd.conf"),
            (root / "mom/usr/share/doc/mom/examples", f"{HOME}/examples"),
            # It finds guests' processes by them.
            *((Path(find_tool(name)), f"/usr/bin/{name}") for name in ("ps", "pgrep"))]


def _unpack(path: Path):
    path.mkdir()
    release_of_mom = release(Cache(path / "lists"), RELEASE)
    release_of_mom.unpack("mom", path / "mom")
    for name in ("libvirt", "six"):
        Apt().unpack(f"python3-{name}", path / name)
    for library in (path / f"libvirt{PACKAGES}").glob("*.so"):
        library.chmod(0o755)  # a program's libraries come along, and so do those of a file that may run
    (path / "mom/usr/sbin/momd").chmod(0o644)  # a text for Python

"""The Debian kernels that guests are tested with, each with an initramfs of its own modules."""

import re
from pathlib import Path

from . import guest_image
from .apt import Apt, release
from .cache import Cache
from .errors import TestbedError
from .kernel import Kernel, describe, index_modules

# Series -> Debian release whose lists have it (none: the machine's own), and a meta package or the pattern of the packages' names.
BULLSEYE, CLOUD = "bullseye", "linux-image-cloud-amd64"
SERIES = {
    "5.10": (BULLSEYE, CLOUD),
    "6.1": (None, CLOUD),
    # Debian 12's own archive has Debian 13's kernel, too.
    "6.12": (None, r"linux-image-6\.12\.(\d+)\+deb12-cloud-amd64"),
}


def files(cache: Cache, series: list[str]) -> list[tuple[Path, str]]:
    """Kernel and initramfs of each series, and where they go in the KVM host (runner/kernels.py)."""
    found = []
    with cache.locked():
        agent = guest_image.build_agent(cache)
        for name in series:
            kernel = _fetch(cache, name)
            initramfs = guest_image.build_initramfs(cache, kernel, agent, f"guest/initramfs-{name}.cpio", ("virtio_console",))
            found += [(kernel.bzimage, f"/opt/testbed/kernels/{name}/vmlinuz"), (initramfs, f"/opt/testbed/kernels/{name}/initramfs.cpio")]
    return found


def _fetch(cache: Cache, series: str) -> Kernel:
    """Downloaded once: what is in the cache stays, whatever is newer."""
    directory = cache.root / "guest-kernels" / series
    if not directory.is_dir():
        codename, wanted = SERIES[series]
        apt = release(cache, codename) if codename else Apt()
        package = apt.dependency(wanted, "linux-image-") if wanted == CLOUD else newest(apt.names("linux-image-"), wanted)
        print(f"testbed: guest kernel {series} is {package}", flush=True)
        cache.artefact(f"guest-kernels/{series}", package, lambda path: _unpack(apt, package, path))
    return describe(directory)


def newest(names: list[str], pattern: str) -> str:
    """The package with the highest number in the pattern's group."""
    matches = [match for match in (re.fullmatch(pattern, name) for name in names) if match]
    if not matches:
        raise TestbedError(f"apt knows no package {pattern}: run 'apt-get update' with a Debian 12 mirror")
    return max(matches, key=lambda match: int(match.group(1))).group(0)


def _unpack(apt: Apt, package: str, path: Path):
    apt.unpack(package, path)
    index_modules(path)

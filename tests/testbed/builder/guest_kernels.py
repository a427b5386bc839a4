# SPDX-License-Identifier: Apache-2.0
"""The Debian kernels that guests are tested with, each with an initramfs of its own modules."""

import re
from dataclasses import dataclass
from pathlib import Path

from . import guest_image
from .apt import Apt, release
from .cache import Cache
from .errors import TestbedError
from .kernel import Kernel, describe, extract_vmlinux, index_modules

CLOUD = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Source:
    meta: str | None = None  # a package that depends on the kernel's
    pattern: str = ""  # without one: of the packages' names, with the number to go by as its group
    release: str | None = None  # Debian release whose lists have it; none: the machine's own
    modules: tuple[str, ...] = ("virtio_console",)  # beside those that every guest loads
    inspected: bool = False  # with lspci and ethtool in the initramfs
    elf: bool = False  # booted as an ELF: the guest would take long to unpack what is packed by xz


SERIES = {
    "5.10": Source(CLOUD, release="bullseye"),
    "6.1": Source(CLOUD),
    # Debian 12's own archive has Debian 13's kernel, too.
    "6.12": Source(pattern=r"linux-image-6\.12\.(\d+)\+deb12-cloud-amd64"),
    # The ordinary kernel: unlike the cloud kernels it has a driver for virtio-rng.
    "6.1-ordinary": Source("linux-image-amd64", modules=("virtio_console", "virtio_rng"), inspected=True, elf=True),
}


def files(cache: Cache, series: list[str]) -> list[tuple[Path, str]]:
    """Kernel and initramfs of each series, and where they go in the KVM host (runner/guest_kernels.py)."""
    found = []
    with cache.locked():
        agent = guest_image.build_agent(cache)
        for name in dict.fromkeys(series):
            source, kernel = SERIES[name], _fetch(cache, name)
            tools = guest_image.inspection_tools() if source.inspected else None
            initramfs = guest_image.build_initramfs(cache, kernel, agent, f"guest/initramfs-{name}.cpio", source.modules, tools)
            image = kernel.vmlinux if source.elf else kernel.bzimage
            found += [(image, f"/opt/testbed/kernels/{name}/vmlinuz"), (initramfs, f"/opt/testbed/kernels/{name}/initramfs.cpio")]
    return found


def _fetch(cache: Cache, series: str) -> Kernel:
    """Downloaded once: what is in the cache stays, whatever is newer."""
    directory = cache.root / "guest-kernels" / series
    if not directory.is_dir():
        source = SERIES[series]
        apt = release(cache, source.release) if source.release else Apt()
        package = apt.dependency(source.meta, "linux-image-") if source.meta else newest(apt.names("linux-image-"), source.pattern)
        print(f"testbed: guest kernel {series} is {package}", flush=True)
        cache.artefact(f"guest-kernels/{series}", package, lambda path: _unpack(apt, package, path, source.elf))
    return describe(directory)


def newest(names: list[str], pattern: str) -> str:
    """The package with the highest number in the pattern's group."""
    matches = [match for match in (re.fullmatch(pattern, name) for name in names) if match]
    if not matches:
        raise TestbedError(f"apt knows no package {pattern}: run 'apt-get update' with a Debian 12 mirror")
    return max(matches, key=lambda match: int(match.group(1))).group(0)


def _unpack(apt: Apt, package: str, path: Path, elf: bool):
    apt.unpack(package, path)
    index_modules(path)
    if elf:
        kernel = describe(path)
        kernel.vmlinux.write_bytes(extract_vmlinux(kernel.bzimage.read_bytes()))

# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernel: download, unpack, module order, and the ELF inside the bzImage."""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .apt import Apt
from .cache import Cache, digest_of
from .errors import TestbedError
from .shell import find_tool, run_tool

META_PACKAGE = "linux-image-cloud-amd64"


@dataclass
class Kernel:
    version: str
    bzimage: Path
    vmlinux: Path
    modules: Path  # .../lib/modules/VERSION, with modules.dep

    def module_order(self, names) -> list[Path]:
        """The modules and what they depend on, in an order in which insmod takes them."""
        dependencies = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            module, _, needs = line.partition(":")
            dependencies[_module_name(module)] = (module, needs.split())
        builtin = {_module_name(line) for line in (self.modules / "modules.builtin").read_text().splitlines()}
        order: list[Path] = []

        def add(name):
            name = name.replace("-", "_")
            if name in builtin:
                return
            if name not in dependencies:
                raise TestbedError(f"kernel {self.version} has no module {name}")
            path, needs = dependencies[name]
            # modules.dep lists what is needed with the deepest dependency last.
            for need in reversed(needs):
                add(_module_name(need))
            if self.modules / path not in order:
                order.append(self.modules / path)

        for name in names:
            add(name)
        return order


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def fetch_kernel(cache: Cache) -> Kernel:
    """The newest kernel that apt knows of, downloaded once; without apt's help, the one already in the cache."""
    try:
        package = Apt().dependency(META_PACKAGE, "linux-image-")
    except TestbedError:
        cached = sorted(cache.root.glob("kernel/linux-image-*"))
        if not cached:
            raise
        package = cached[-1].name.removesuffix(".inputs")
    tree = cache.artefact(f"kernel/{package}", digest_of(package, "layout 1"), lambda path: _unpack(package, path))
    return describe(tree)


def _unpack(package: str, path: Path):
    Apt().unpack(package, path)
    index_modules(path)
    (path / "vmlinux").write_bytes(extract_vmlinux(next(path.glob("boot/vmlinuz-*")).read_bytes()))


def index_modules(tree: Path):
    """modules.dep of an unpacked kernel package."""
    run_tool("depmod", "-b", tree, next((tree / "lib/modules").iterdir()).name)


def describe(tree: Path) -> Kernel:
    modules = next((tree / "lib/modules").iterdir())
    return Kernel(version=modules.name, bzimage=tree / f"boot/vmlinuz-{modules.name}", vmlinux=tree / "vmlinux",
                  modules=modules)


# Offsets in the x86 boot protocol's setup header (Documentation/arch/x86/boot.rst).
_SETUP_SECTS, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 0x1F1, 0x248, 0x24C
_UNPACKERS = [  # magic of the payload, command that unpacks it from stdin to stdout
    (b"\x02\x21\x4c\x18", ["lz4", "-dc"]),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
    (b"\xfd7zXZ\0", ["xz", "-dc", "--single-stream"]),
    (b"\x1f\x8b", ["gzip", "-dc"]),
]


def extract_vmlinux(bzimage: bytes) -> bytes:
    setup_sectors = bzimage[_SETUP_SECTS] or 4
    offset, length = (struct.unpack_from("<I", bzimage, at)[0] for at in (_PAYLOAD_OFFSET, _PAYLOAD_LENGTH))
    start = (setup_sectors + 1) * 512 + offset
    # The payload ends with the unpacked size as 4 bytes, which is no part of the compressed stream.
    payload, size = bzimage[start:start + length - 4], struct.unpack_from("<I", bzimage, start + length - 4)[0]
    for magic, (tool, *options) in _UNPACKERS:
        if payload.startswith(magic):
            elf = subprocess.run([find_tool(tool), *options], input=payload, capture_output=True).stdout
            if len(elf) != size or not elf.startswith(b"\x7fELF"):
                raise TestbedError(f"{tool} unpacked {len(elf)} bytes of the kernel, expected an ELF of {size}")
            return elf
    raise TestbedError(f"kernel payload starts with unknown magic {payload[:6].hex()}")

# SPDX-License-Identifier: Apache-2.0
"""What a guest boots: initramfs with the drivers and the worker, its data disk, and an ext4 root for boots from a disk."""

import lzma
import os
from pathlib import Path

from .cache import Cache, digest_of
from .cpio import Initramfs
from .kernel import Kernel
from .shell import find_tool, run_tool
from .tree import Tree, make_ext4

HERE = Path(__file__).resolve().parent.parent
GUEST_MODULES = ["virtio_pci", "virtio_mmio", "virtio_balloon", "virtio_blk", "virtio_net"]
GUEST_APPLETS = ["sh", "mount", "umount", "insmod", "cat", "swapon", "ip", "ping", "switch_root", "echo", "chroot", "cut", "grep", "dmesg"]
GUEST_FLAGS = ["-std=c++23", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-static", "-s"]
MEASURING_PROGRAMS = ["durable_writer", "round_trips"]
TOOLS_MIB = 192
DATA_MIB = 1024  # what the guests of a scenario may keep in their page caches
DATA_FILE_MIB = 64


def build_agent(cache: Cache) -> Path:
    return build_guest_program(cache, "agent")


def build_guest_program(cache: Cache, name: str) -> Path:
    source = HERE / f"guest/{name}.cc"
    return cache.artefact(f"guest/{name}", digest_of(source, GUEST_FLAGS),
                          lambda path: run_tool("g++", *GUEST_FLAGS, "-o", path, source))


def build_tools_disk(cache: Cache) -> Path:
    """A disk with the programs that measure: Debian's fio and iperf3, run in a chroot, and ours."""
    tree = Tree()
    for name in ("fio", "iperf3"):
        tree.program(f"/usr/bin/{name}", Path(find_tool(name)))
        tree.link(f"/bin/{name}", f"../usr/bin/{name}")
    # The dynamic loader is at the path that every program names; ldd shows it only for some.
    tree.file("/lib64/ld-linux-x86-64.so.2", Path("/lib64/ld-linux-x86-64.so.2").resolve())
    for name in MEASURING_PROGRAMS:
        tree.file(f"/bin/{name}", build_guest_program(cache, name))
    for name in ("/proc", "/sys", "/dev", "/tmp", "/var/tmp"):
        tree.directory(name)
    return cache.artefact("guest/tools.ext4", tree.digest(), lambda path: tree.write_ext4(path, TOOLS_MIB, "tools"))


def inspection_tools() -> Tree:
    """What shows a guest's devices and sets them: lspci with the names of devices, and ethtool."""
    tree = Tree()
    for name in ("lspci", "ethtool"):
        tree.program(f"/bin/{name}", Path(find_tool(name)))
    tree.file("/usr/share/misc/pci.ids", Path("/usr/share/misc/pci.ids"))
    return tree


def build_initramfs(cache: Cache, kernel: Kernel, agent: Path, name: str = "guest/initramfs.cpio", further_modules: tuple = (),
                    tools: Tree | None = None) -> Path:
    init, busybox = HERE / "guest/init", Path(find_tool("busybox"))
    modules = kernel.module_order([*GUEST_MODULES, *further_modules])

    def make(path: Path):
        image = Initramfs()
        for name in ("proc", "sys", "dev", "data", "root", "tools"):
            image.directory(name)
        image.add_file("init", init)
        image.add_file("bin/busybox", busybox)
        for applet in GUEST_APPLETS:
            image.symlink(f"bin/{applet}", "busybox")
        image.add_file("bin/agent", agent)
        if tools:
            tools.add_to(image)
        for module in modules:
            image.add(f"modules/{_plain_name(module)}", _plain_bytes(module), 0o644)
        image.add("modules/order", "".join(f"/modules/{_plain_name(module)}\n" for module in modules).encode(), 0o644)
        image.write(path)

    return cache.artefact(name, digest_of(2, GUEST_APPLETS, init, busybox, agent, *modules, *([tools.digest()] if tools else [])), make)


def _plain_name(module: Path) -> str:
    return module.name.removesuffix(".xz")


def _plain_bytes(module: Path) -> bytes:
    """Newer kernels' packages have their modules compressed, which busybox' insmod need not know."""
    return lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()


def build_data_disk(cache: Cache) -> Path:
    """An ext4 image with DATA_MIB of random files: incompressible, so that no layer below can cheat."""

    def make(path: Path):
        tree = path.with_name(path.name + ".files")
        tree.mkdir(exist_ok=True)
        try:
            for number in range(DATA_MIB // DATA_FILE_MIB):
                with open(tree / f"{number:02}.bin", "wb") as out:
                    for _ in range(DATA_FILE_MIB):
                        out.write(os.urandom(1 << 20))
            make_ext4(path, DATA_MIB + 32, "data", tree)
        finally:
            for file in tree.iterdir():
                file.unlink()
            tree.rmdir()

    return cache.artefact("guest/data.ext4", digest_of(2, DATA_MIB, DATA_FILE_MIB), make)


ROOT_INIT = """#!/bin/sh
# /sbin/init of the root filesystem: shows where it runs, then goes on as the agent.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "testbed root: $(cat /etc/os-release | head -n 1), root is $(grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f1-3)"
touch /written-by-guest && sync && echo "testbed root: writable"
while :; do /bin/agent 1 </dev/ttyS0 >/dev/ttyS0 2>&1; done
"""


def build_root_disk(cache: Cache, agent: Path) -> Path:
    """A root filesystem for a guest that boots from virtio-blk."""
    busybox = Path(find_tool("busybox"))
    tree = Tree()
    tree.file("/bin/busybox", busybox)
    tree.file("/bin/agent", agent)
    for applet in ("sh", "mount", "cat", "head", "tail", "cut", "grep", "touch", "sync", "echo", "ping", "dmesg"):
        tree.link(f"/bin/{applet}", "busybox")
    tree.text("/sbin/init", ROOT_INIT, 0o755)
    tree.file("/etc/os-release", Path("/etc/os-release").resolve())
    for name in ("/proc", "/sys", "/dev"):
        tree.directory(name)
    return cache.artefact("guest/root.ext4", tree.digest(), lambda path: tree.write_ext4(path, 64, "root"))

# SPDX-License-Identifier: Apache-2.0
"""What installed_host boots: a Debian 12 with systemd, our packages beside it, and the newcomer's page as scripts."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from . import guest_image, walk
from .cache import Cache, digest_of
from .chroot import run_in
from .cpio import Initramfs
from .kernel import Kernel
from .packages import PACKAGES, debian_root, next_version
from .shell import find_tool, run_tool
from .tree import make_ext4

HERE = Path(__file__).resolve().parent.parent
PAGE = HERE.parents[1] / "docs/install.md"
LIBVIRTS_PAGE = PAGE.with_name("libvirt.md")
# Its kernel is none of its own packages, so that what it needs is loaded before it starts.
MODULES = ["virtio_pci", "virtio_blk", "virtio_rng", "kvm-amd", "tun", "bridge", "vhost_net"]
# The peers whose guests balloond manages, too.
PEERS = ["qemu-system-x86", "libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients"]
FURTHER = [*PEERS, "adduser", "iproute2"]
DISK_MIB, SWAP_MIB = 4096, 1024
# A copy of the tree is /root/balloond, as far as the page needs it.
SOURCE = "root/balloond"
# Whoever reads the page would answer apt's questions by yes.
ASSUME_YES = 'APT::Get::Assume-Yes "true";\n'


@dataclass
class Image:
    disk: Path
    swap: Path
    below_seconds: float  # what the page's steps took that were run here
    below_factor: float  # how many times as long as alone work took here meanwhile


def build_initramfs(cache: Cache, kernel: Kernel) -> Path:
    init, busybox, modules = HERE / "installed/initramfs-init", Path(find_tool("busybox")), kernel.module_order(MODULES)

    def make(path: Path):
        image = Initramfs()
        for name in ("dev", "root"):
            image.directory(name)
        image.add_file("init", init)
        image.add_file("bin/busybox", busybox)
        for applet in ("sh", "mount", "insmod", "switch_root", "echo"):
            image.symlink(f"bin/{applet}", "busybox")
        for module in modules:
            image.add(f"modules/{module.name}", module.read_bytes(), 0o644)
        image.add("modules/order", "".join(f"/modules/{module.name}\n" for module in modules).encode(), 0o644)
        image.write(path)

    return cache.artefact("installed/initramfs.cpio", digest_of(1, init, busybox, *modules), make)


def build(cache: Cache, kernel: Kernel, packages: Path, directory: Path) -> Image:
    """Of one run, in that directory: the host changes its disk."""
    debs = [next(packages.glob(f"{name}_*.deb")) for name in PACKAGES]
    tree = directory / "tree"
    tree.mkdir()
    run_tool("tar", "-x", "-C", tree, "-f", debian_root(cache, debs, "debian/installed-root.tar", FURTHER), "--exclude=./dev/*")
    before = _machine_factor()
    below_seconds = _make_guests_root(tree)
    below_factor = max(before, _machine_factor())
    _add_packages(tree, debs)
    _add_scripts(tree)
    _add_small_guest(cache, kernel, tree)
    (tree / "etc/fstab").write_text("/dev/vda / ext4 rw,noatime 0 0\n/dev/vdb none swap sw 0 0\n")
    (tree / "etc/hostname").write_text("installed\n")
    image = Image(directory / "root.ext4", directory / "swap", below_seconds, below_factor)
    make_ext4(image.disk, DISK_MIB, "installed", tree)
    shutil.rmtree(tree)
    with open(image.swap, "wb") as swap:
        swap.truncate(SWAP_MIB << 20)
    run_tool("mkswap", image.swap)
    return image


def _machine_factor() -> float:
    return float(run_tool("python3", HERE / "runner/speed.py", "--below"))


def _make_guests_root(tree: Path) -> float:
    """By the page's own commands; seconds that they took."""
    (tree / "etc/apt/apt.conf.d/99yes").write_text(ASSUME_YES)
    # Made by the package, which is installed later.
    (tree / "var/lib/balloon-vmm").mkdir()
    run_in(tree, "apt-get update -qq\n")
    began = time.monotonic()
    run_in(tree, walk.below(PAGE.read_text()))
    seconds = time.monotonic() - began
    # Pages are not what is looked at here, and their index takes an emulated host half a minute for each change.
    (tree / "var/lib/man-db/auto-update").unlink(missing_ok=True)
    # Without a network, apt reads these in vain.
    run_in(tree, "apt-get clean && rm -rf /var/lib/apt/lists/*\n")
    return seconds


def _add_packages(tree: Path, debs: list[Path]):
    packages = tree / SOURCE / "build/packages"
    packages.mkdir(parents=True)
    (tree / "packages/next").mkdir(parents=True)
    for deb in debs:
        shutil.copy(deb, packages)
    next_version(debs, tree / "packages/next")


def _add_scripts(tree: Path):
    page = PAGE.read_text()
    scripts = tree / "installed"
    shutil.copytree(HERE / "installed", scripts)
    shutil.copy(HERE / "runner/speed.py", scripts)
    for section, commands in walk.in_host(page).items():
        (scripts / f"page-{walk.slug(section)}.sh").write_text(commands)
    (scripts / "page-console.sh").write_text(walk.typed(page))
    (scripts / "page-five-commands.sh").write_text(walk.first_of(LIBVIRTS_PAGE.read_text(), "Five commands"))
    units = tree / "etc/systemd/system"
    shutil.copy(scripts / "acceptance.service", units)
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "acceptance.service").symlink_to("../acceptance.service")


def _add_small_guest(cache: Cache, kernel: Kernel, tree: Path):
    """For the peers: it boots in seconds."""
    (tree / "guest").mkdir()
    shutil.copy(kernel.bzimage, tree / "guest/vmlinuz")
    shutil.copy(guest_image.build_initramfs(cache, kernel, guest_image.build_agent(cache)), tree / "guest/initramfs.cpio")

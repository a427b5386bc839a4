# SPDX-License-Identifier: Apache-2.0
"""The outer host's disks: base (Debian programs, rarely changes), payload (ours, changes all the time), scratch and swap."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import debian_root, guest_image
from .cache import Cache, digest_of
from .cpio import Initramfs
from .errors import TestbedError
from .kernel import Kernel, fetch_kernel
from .shell import find_tool, run_tool
from .tree import Tree, make_ext4

HERE = Path(__file__).resolve().parent.parent
BOOT_MODULES = ["virtio_pci", "virtio_blk", "overlay"]
HOST_MODULES = ["irqbypass", "kvm", "kvm-amd", "virtio_net", "virtio_console", "virtio_rng", "tun", "bridge", "vhost",
                "vhost_iotlb", "vhost_net", "lzo", "lzo-rle", "zram", "loop"]
PYTHON_SKIP = ("test/", "idlelib/", "lib2to3/", "tkinter/", "turtledemo/", "ensurepip/", "pydoc_data/", "config-")
QEMU_ROMS = ["bios-256k.bin", "bios.bin", "bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin", "linuxboot.bin",
             "multiboot_dma.bin", "multiboot.bin", "pvh.bin", "efi-virtio.rom", "vgabios-stdvga.bin", "qboot.rom"]
QEMU_DATA = [Path("/usr/share/qemu"), Path("/usr/share/seabios"), Path("/usr/lib/ipxe/qemu")]
LIBVIRT_DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
QEMU_TCG = Path("/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so")
LIBVIRT_QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
seccomp_sandbox = 0
"""
SCRATCH_MIB = 10 * 1024
SWAP_MIB = 6 * 1024
PROGRAMS = ["balloond", "balloon-vmm", "balloonctl"]
BACKEND = "lib/balloond/backend-libvirt.so"  # beside the program, as balloond looks for it
PAYLOADS_KEPT = 6
ARTEFACTS = 9  # that build() asks the cache for
DEBIAN_ARTEFACTS = 3  # and these for Debian's root


@dataclass
class OuterHost:
    kernel: Path
    initramfs: Path
    base: Path
    payload: Path
    images: Path
    data: Path
    debian: Path | None = None  # the root of guests that run real programs


def build(cache: Cache, build_dir: Path | None, command: str, files: list[tuple[Path, str]], fetch: list[str],
          debian: bool = False) -> OuterHost:
    with cache.locked():
        cache.begin(ARTEFACTS + (DEBIAN_ARTEFACTS if debian else 0))
        kernel = fetch_kernel(cache)
        guest = _guest_files(cache, kernel)
        return OuterHost(
            kernel=kernel.bzimage,
            initramfs=_build_initramfs(cache, kernel),
            base=_build_base(cache, kernel),
            payload=_build_payload(cache, build_dir, command, files, fetch),
            images=_build_images(cache, guest),
            data=guest_image.build_data_disk(cache),
            debian=debian_root.build(cache, guest_image.build_agent(cache)) if debian else None)


def build_guest_images(cache: Cache) -> Path:
    """A directory with what guests boot from, for a run on this machine's own KVM."""
    with cache.locked():
        files = dict(_guest_files(cache, fetch_kernel(cache)), **{"data.ext4": guest_image.build_data_disk(cache)})

        def link_all(path: Path):
            path.mkdir()
            for name, source in files.items():
                (path / name).symlink_to(source)

        return cache.artefact("direct", digest_of(sorted((name, str(source)) for name, source in files.items())), link_all)


def _guest_files(cache: Cache, kernel: Kernel) -> dict[str, Path]:
    agent = guest_image.build_agent(cache)
    return {"initramfs.cpio": guest_image.build_initramfs(cache, kernel, agent),
            "root.ext4": guest_image.build_root_disk(cache, agent),
            "vmlinuz": kernel.bzimage, "vmlinux": kernel.vmlinux}


def _build_initramfs(cache: Cache, kernel: Kernel) -> Path:
    init, busybox, modules = HERE / "outer/initramfs-init", Path(find_tool("busybox")), kernel.module_order(BOOT_MODULES)

    def make(path: Path):
        image = Initramfs()
        for name in ("proc", "dev", "base", "payload", "upper", "root"):
            image.directory(name)
        image.add_file("init", init)
        image.add_file("bin/busybox", busybox)
        for applet in ("sh", "mount", "umount", "insmod", "mkdir", "switch_root", "echo"):
            image.symlink(f"bin/{applet}", "busybox")
        for module in modules:
            image.add(f"modules/{module.name}", module.read_bytes(), 0o644)
        image.add("modules/order", "".join(f"/modules/{module.name}\n" for module in modules).encode(), 0o644)
        image.write(path)

    return cache.artefact("outer/initramfs.cpio", digest_of(1, init, busybox, *modules), make)


def _build_base(cache: Cache, kernel: Kernel) -> Path:
    tree = Tree()
    busybox = Path(find_tool("busybox"))
    tree.file("/bin/busybox", busybox)
    for applet in subprocess.run([busybox, "--list"], text=True, capture_output=True).stdout.split():
        if applet != "busybox":
            tree.link(f"/bin/{applet}", "busybox")
    _add_python(tree)
    _add_qemu(tree)
    _add_libvirt(tree)
    modules = kernel.module_order(HOST_MODULES)
    loaded_before = kernel.module_order(BOOT_MODULES)
    for module in modules:
        tree.file(f"/usr/lib/testbed/modules/{module.name}", module)
    tree.text("/usr/lib/testbed/modules/order",
              "".join(f"/usr/lib/testbed/modules/{module.name}\n" for module in modules if module not in loaded_before))
    for name in ("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/scratch", "/images", "/var/lib", "/etc", "/mnt"):
        tree.directory(name)
    # libvirtd asks for Debian's user of its guests, though they run as root here.
    tree.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:64055::/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    tree.text("/etc/group", "root:x:0:\nkvm:x:106:\nlibvirt-qemu:x:64055:\nnogroup:x:65534:\n")
    tree.text("/etc/hosts", "127.0.0.1 localhost\n")
    return cache.artefact("outer/base.ext4", tree.digest(), lambda path: tree.write_ext4(path, 1024, "base"))


def _add_python(tree: Tree):
    """Debian's own Python with its standard library; its compiled modules too, they save seconds under emulation."""
    interpreter = Path("/usr/bin/python3").resolve()
    if not interpreter.exists():
        raise TestbedError("/usr/bin/python3 is missing: install python3 (scripts/install-deps.sh does)")
    tree.program(f"/usr/bin/{interpreter.name}", interpreter)
    tree.link("/usr/bin/python3", interpreter.name)
    library = Path("/usr/lib") / interpreter.name
    tree.folder(str(library), library, PYTHON_SKIP)
    for extension in (library / "lib-dynload").glob("*.so"):
        if not extension.name.startswith(("_tkinter", "_dbm", "_curses", "readline", "_xx")):
            tree.program(str(extension), extension)


def _add_qemu(tree: Tree):
    tree.program("/usr/bin/qemu-system-x86_64", Path(find_tool("qemu-system-x86_64")))
    tree.program("/usr/bin/qemu-img", Path(find_tool("qemu-img")))
    for rom in QEMU_ROMS:
        for directory in QEMU_DATA:
            if (directory / rom).is_file():
                tree.file(f"/usr/share/qemu/{rom}", (directory / rom).resolve())
                break


def _add_libvirt(tree: Tree):
    """libvirtd with its QEMU driver alone: no networks, no storage, no virtlogd, no cgroups (guests are compared with others that have none)."""
    tree.program("/usr/sbin/libvirtd", Path(find_tool("libvirtd")))
    tree.program("/usr/bin/virsh", Path(find_tool("virsh")))
    tree.program(str(LIBVIRT_DRIVER), LIBVIRT_DRIVER)
    tree.program(str(QEMU_TCG), QEMU_TCG)  # libvirtd asks QEMU what it can do without KVM, too
    tree.folder("/usr/share/libvirt/cpu_map", Path("/usr/share/libvirt/cpu_map"))
    tree.directory("/var/log/libvirt")
    tree.link("/var/run", "/run")
    tree.text("/etc/libvirt/qemu.conf", LIBVIRT_QEMU_CONF)


def _build_payload(cache: Cache, build_dir: Path | None, command: str, files, fetch: list[str]) -> Path:
    tree = Tree()
    if build_dir:
        for name in PROGRAMS:
            if (build_dir / "bin" / name).is_file():
                tree.program(f"/usr/local/bin/{name}", build_dir / "bin" / name)
        if (build_dir / BACKEND).is_file():
            tree.program(f"/usr/local/{BACKEND}", build_dir / BACKEND)
    tree.file("/sbin/testbed-init", HERE / "outer/testbed-init")
    tree.folder("/opt/testbed/runner", HERE / "runner",
                ("__pycache__", "bench/__pycache__", "facts/__pycache__", "workloads/__pycache__"))
    for source, destination in files:
        if source.is_dir():
            tree.folder(destination, source)
        elif os.access(source, os.X_OK):
            tree.program(destination, source)
        else:
            tree.file(destination, source)
    tree.text("/run-command", command + "\n")
    tree.text("/fetch-list", "\n".join(path.lstrip("/") for path in fetch))
    digest = tree.digest()
    payload = cache.artefact(f"payload/{digest[:16]}.ext4", digest, lambda path: tree.write_ext4(path, 768, "payload"))
    os.utime(payload)
    _forget_old_payloads(payload.parent)
    return payload


def _forget_old_payloads(directory: Path):
    """A running outer host keeps its own open, so that an old one can go."""
    by_age = sorted(directory.glob("*.ext4"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-PAYLOADS_KEPT]:
        old.unlink()
        old.with_name(old.name + ".inputs").unlink(missing_ok=True)


def _build_images(cache: Cache, contents: dict[str, Path]) -> Path:
    tree = Tree()
    for destination, source in contents.items():
        tree.file(f"/guest/{destination}", source)
    tree.link("/guest/data.ext4", "/dev/vdf")
    tree.link("/guest/debian.raw", "/dev/vdg")
    return cache.artefact("outer/images.ext4", tree.digest(),
                          lambda path: tree.write_ext4(path, 320, "images"))


def make_run_disks(directory: Path) -> tuple[Path, Path]:
    """Scratch and swap of one run: sparse files, gone with the run."""
    scratch, swap = directory / "scratch.ext4", directory / "swap.raw"
    make_ext4(scratch, SCRATCH_MIB, "scratch")
    with open(swap, "wb") as file:
        file.truncate(SWAP_MIB << 20)
    run_tool("mkswap", "-q", swap)
    return scratch, swap

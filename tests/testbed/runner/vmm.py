# SPDX-License-Identifier: Apache-2.0
"""Command lines of the VMMs that can run a scenario's guests."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .scenario import GuestSpec


@dataclass
class Images:
    """Files that guests boot from (and the directory for their own disks)."""
    kernel: Path
    initramfs: Path
    data: Path
    scratch: Path


@dataclass
class Disk:
    """A disk that only some guests have."""
    image: Path
    serial: str
    read_only: bool = False
    direct: bool = False  # past the host's cache, by io_uring
    options: str = ""  # further ones of balloon-vmm's


@dataclass
class Extras:
    """Differences of a single test from an ordinary guest."""
    kernel: Path | None = None
    cmdline: str = ""
    tap: str | None = None
    net: str = ""  # further settings of the tap's device (balloon-vmm --net tap=...,HERE)
    vhost: bool = False  # the kernel moves the tap's frames, or the guest does not start
    initramfs: Path | None = None
    disks: tuple[Disk, ...] = ()
    data: bool = True  # whether the guest has the data disk
    root: Path | None = None  # a writable disk, the guest's /dev/vda
    root_options: str = ""  # how balloon-vmm opens it, for example "format=qcow2,cache=none"
    link: str | None = None  # the daemon's socket
    qmp: Path | None = None  # socket for QMP clients
    console: str = ""  # where a virtio console goes (balloon-vmm --console)
    restore: Path | None = None  # snapshot to go on from
    backing: str = ""  # what the guest's memory is made of (balloon-vmm --memory-backing)
    preallocate: bool = False  # all of the guest's memory is there from the start
    hinting: bool = False  # free page hinting (balloon-vmm)
    virtio: str = ""  # which interface the devices show (balloon-vmm --virtio)


def make_overlay(path: Path, base: Path):
    """A qcow2 image that takes what is written, and leaves the raw base as it is."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(path)], check=True)


CMDLINE = "console=ttyS0 quiet panic=-1"


OURS = "balloon-vmm"
# A balloon-vmm of another revision, beside ours.
OLD = "balloon-vmm-old"
# The peers: QEMU's machine types. microvm shows its devices through virtio-mmio, modern ones only when it is told to.
QEMU_MACHINES = {"qemu": "pc", "qemu-pc": "pc", "qemu-microvm": "microvm"}


def command(vmm: str, spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    if vmm in (OURS, OLD):
        return _balloon_vmm(vmm, spec, images, swap, extras)
    return _qemu(QEMU_MACHINES[vmm], spec, images, swap, extras)


def disks(images: Images, swap: Path | None, extras: Extras) -> list[Disk]:
    """In the order in which the guest sees them."""
    found = []
    if extras.root:
        found.append(Disk(extras.root, "root", options=extras.root_options))
    if swap:
        # In the host's page cache, what a guest swaps out would take the host's memory after all.
        found.append(Disk(swap, "swap", direct=True))
    if extras.data:
        # Past the host's cache, too, as docs/disks.md advises: who reads a file anew must read it from the device.
        found.append(Disk(images.data, "data", read_only=True, direct=True))
    return found + list(extras.disks)


def _balloon_vmm(program: str, spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    reporting = "on" if spec.free_page_reporting else "off"
    line = [program, "--name", spec.name, "--memory", f"{spec.memory >> 20}M", "--cpus", str(spec.cpus),
            "--kernel", str(extras.kernel or images.kernel), "--initrd", str(extras.initramfs or images.initramfs),
            "--cmdline", f"{CMDLINE} {extras.cmdline}".strip(), "--serial", "stdio",
            "--balloon", f"deflate-on-oom=on,free-page-reporting={reporting}{',free-page-hinting=on' if extras.hinting else ''}"]
    backing = ",".join(part for part in (extras.backing, "preallocate=on" if extras.preallocate else "") if part)
    if backing:
        line += ["--memory-backing", backing]
    if extras.virtio:
        line += ["--virtio", extras.virtio]
    for disk in disks(images, swap, extras):
        options = [f"path={disk.image}", *(["readonly"] if disk.read_only else []), f"serial={disk.serial}",
                   *(["cache=none,engine=io_uring"] if disk.direct else []), *([disk.options] if disk.options else [])]
        line += ["--disk", ",".join(options)]
    if extras.tap:
        options = [f"tap={extras.tap}", *(["vhost=force"] if extras.vhost else []), *([extras.net] if extras.net else [])]
        line += ["--net", ",".join(options)]
    if extras.link:
        line += ["--link", extras.link]
    if extras.qmp:
        line += ["--monitor", str(extras.qmp)]
    if extras.console:
        line += ["--console", extras.console]
    if extras.restore:
        line += ["--restore", str(extras.restore)]
    for key, value in spec.labels.items():
        line += ["--label", f"{key}={value}"]
    return line


def _qemu(machine: str, spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    reporting = "on" if spec.free_page_reporting else "off"
    bus = "device" if machine == "microvm" else "pci"
    memory = spec.memory >> 20
    line = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host",
            "-M", machine + (",memory-backend=ram" if extras.preallocate else ""), "-nodefaults", "-display", "none",
            "-name", f"{spec.name},debug-threads=on", "-m", str(memory), "-smp", str(spec.cpus),
            "-kernel", str(extras.kernel or images.kernel), "-initrd", str(extras.initramfs or images.initramfs),
            "-append", f"{CMDLINE} {extras.cmdline}".strip(), "-serial", "stdio",
            "-device", f"virtio-balloon-{bus},deflate-on-oom=on,free-page-reporting={reporting}"]
    if machine == "microvm":
        line += ["-global", "virtio-mmio.force-legacy=false"]
    if extras.preallocate:
        line += ["-object", f"memory-backend-ram,id=ram,size={memory}M,prealloc=on"]
    for disk in disks(images, swap, extras):
        options = ("readonly=on," if disk.read_only else "") + ("cache=none,aio=io_uring," if disk.direct else "")
        line += ["-drive", f"{options}file={disk.image},format=raw,if=none,id={disk.serial}",
                 "-device", f"virtio-blk-{bus},drive={disk.serial},serial={disk.serial}"]
    if extras.tap:
        vhost = ",vhost=on,vhostforce=on" if extras.vhost else ""
        line += ["-netdev", f"tap,id=net0,ifname={extras.tap},script=no,downscript=no{vhost}",
                 "-device", f"virtio-net-{bus},netdev=net0" + (",romfile=" if bus == "pci" else "")]
    if extras.qmp:
        line += ["-qmp", f"unix:{extras.qmp},server=on,wait=off"]
    return line

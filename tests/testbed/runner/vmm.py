"""Command lines of the VMMs that can run a scenario's guests."""

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
class Extras:
    """Differences of a single test from an ordinary guest."""
    kernel: Path | None = None
    cmdline: str = ""
    tap: str | None = None
    net: str = ""  # further settings of the tap's device (balloon-vmm --net tap=...,HERE)
    root: Path | None = None  # a writable disk, the guest's /dev/vda
    root_options: str = ""  # how balloon-vmm opens it, for example "format=qcow2,cache=none"
    link: str | None = None  # the daemon's socket
    qmp: Path | None = None  # socket for QMP clients
    restore: Path | None = None  # snapshot to go on from
    backing: str = ""  # what the guest's memory is made of (balloon-vmm --memory-backing)
    hinting: bool = False  # free page hinting (balloon-vmm)
    virtio: str = ""  # which interface the devices show (balloon-vmm --virtio)


CMDLINE = "console=ttyS0 quiet panic=-1"


def command(vmm: str, spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    return (_balloon_vmm if vmm == "balloon-vmm" else _qemu)(spec, images, swap, extras)


def _disks(images: Images, swap: Path | None, extras: Extras) -> list[tuple[Path, str, bool]]:
    """(image, serial, read only), in order."""
    disks = []
    if extras.root:
        disks.append((extras.root, "root", False))
    if swap:
        disks.append((swap, "swap", False))
    disks.append((images.data, "data", True))
    return disks


def _balloon_vmm(spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    reporting = "on" if spec.free_page_reporting else "off"
    line = ["balloon-vmm", "--name", spec.name, "--memory", f"{spec.memory >> 20}M", "--cpus", str(spec.cpus),
            "--kernel", str(extras.kernel or images.kernel), "--initrd", str(images.initramfs),
            "--cmdline", f"{CMDLINE} {extras.cmdline}".strip(), "--serial", "stdio",
            "--balloon", f"deflate-on-oom=on,free-page-reporting={reporting}{',free-page-hinting=on' if extras.hinting else ''}"]
    if extras.backing:
        line += ["--memory-backing", extras.backing]
    if extras.virtio:
        line += ["--virtio", extras.virtio]
    for image, serial, read_only in _disks(images, swap, extras):
        options = f",{extras.root_options}" if serial == "root" and extras.root_options else ""
        line += ["--disk", f"path={image}{',readonly' if read_only else ''},serial={serial}{options}"]
    if extras.tap:
        line += ["--net", f"tap={extras.tap}{',' if extras.net else ''}{extras.net}"]
    if extras.link:
        line += ["--link", extras.link]
    if extras.qmp:
        line += ["--monitor", str(extras.qmp)]
    if extras.restore:
        line += ["--restore", str(extras.restore)]
    for key, value in spec.labels.items():
        line += ["--label", f"{key}={value}"]
    return line


def _qemu(spec: GuestSpec, images: Images, swap: Path | None, extras: Extras) -> list[str]:
    reporting = "on" if spec.free_page_reporting else "off"
    line = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-M", "pc", "-nodefaults", "-display", "none",
            "-name", spec.name, "-m", str(spec.memory >> 20), "-smp", str(spec.cpus),
            "-kernel", str(extras.kernel or images.kernel), "-initrd", str(images.initramfs),
            "-append", f"{CMDLINE} {extras.cmdline}".strip(), "-serial", "stdio",
            "-device", f"virtio-balloon-pci,deflate-on-oom=on,free-page-reporting={reporting}"]
    for image, serial, read_only in _disks(images, swap, extras):
        only = ",readonly=on" if read_only else ""
        line += ["-drive", f"file={image},format=raw,if=none,id={serial}{only}",
                 "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
    if extras.tap:
        line += ["-netdev", f"tap,id=net0,ifname={extras.tap},script=no,downscript=no",
                 "-device", "virtio-net-pci,netdev=net0,romfile="]
    if extras.qmp:
        line += ["-qmp", f"unix:{extras.qmp},server=on,wait=off"]
    return line

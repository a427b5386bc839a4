# SPDX-License-Identifier: Apache-2.0
"""Testbed cases that look at the devices with the guest's own tools (part of runner/cases.py)."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import guest_kernels, vmm
from .case_bed import MIB, Bed, expect, expect_clean_power_off, wait_for
from .guest import Guest
from .inspection import DRIVERS, RING_RESET, bound_drivers, interrupts_in, listed_devices, paragraph_of, ring_sizes, shell
from .scenario import GuestSpec
from .tap import make_tap

HOST_ADDRESS, GUEST_ADDRESS = "10.77.3.1", "10.77.3.2"
# Each vCPU is brought up by itself, and all take turns on one emulated CPU.
MANY_CPUS, MANY_CPUS_BOOT_SECONDS = 64, 180
MARK = "written by the host"


def _boot_ordinary(bed: Bed, name: str, **extras) -> Guest:
    """A guest with Debian's ordinary kernel, lspci and ethtool, on a new tap."""
    files = guest_kernels.DIRECTORY / guest_kernels.ORDINARY
    make_tap("tapdevices", f"{HOST_ADDRESS}/24")
    return bed.boot(name, extras=vmm.Extras(kernel=files / "vmlinuz", initramfs=files / "initramfs.cpio", data=False, tap="tapdevices",
                                            cmdline=f"testbed.ip={GUEST_ADDRESS}/24", **extras))


def _inspect(guest: Guest, prefix: str) -> str:
    """lspci, whose text this is, names each device; the PCI driver has it, MSI-X is on, and on the virtio bus its own driver."""
    listed = shell(guest, "lspci -v -nn 2>/dev/null")
    drivers = bound_drivers(guest)
    for name, (driver, _) in DRIVERS.items():
        said = paragraph_of(listed, f"{prefix} {name}")
        expect("Kernel driver in use: virtio-pci" in said, f"virtio-pci does not drive the {name}: {said}")
        expect("MSI-X: Enable+" in said, f"MSI-X is off for the {name}: {said}")
        expect(driver in drivers, f"no device on the virtio bus is bound to {driver}: {drivers}")
    expect("" not in drivers, f"a device on the virtio bus has no driver: {drivers}")
    return listed


def _talk_over_console(guest: Guest, path: Path):
    """A line from the guest, one to it, and its answer."""
    with socket.socket(socket.AF_UNIX) as host:
        host.settimeout(0.2)
        host.connect(str(path))
        said = b""

        def guest_says(word: bytes) -> bool:
            nonlocal said
            try:
                said += host.recv(4096)
            except TimeoutError:
                pass
            return word in said

        shell(guest, "(exec </dev/hvc0 >/dev/hvc0; echo guest listens; read -r line; echo guest heard $line) 2>/dev/null &")
        wait_for("the guest's line on its virtio console", lambda: guest_says(b"guest listens"), 30)
        host.sendall(b"a word\n")
        wait_for("the guest to answer on its virtio console", lambda: guest_says(b"guest heard a word"), 30)


def _use_each_device(guest: Guest, console: Path):
    block = shell(guest, f"busybox head -c {len(MARK)} /dev/vda")
    expect(block == MARK, f"the guest reads '{block}' from its disk, expected '{MARK}'")
    _talk_over_console(guest, console)
    expect(guest.ask(f"ping {HOST_ADDRESS}") == {"ping": "answered"}, "the host does not answer the guest's ping")
    source = shell(guest, "cat /sys/class/misc/hw_random/rng_current").strip()
    expect(source.startswith("virtio_rng"), f"the guest's /dev/hwrng is {source}")
    draws = [shell(guest, "busybox dd if=/dev/hwrng bs=32 count=1 2>/dev/null | busybox hexdump -v -e '1/1 \"%02x\"'") for _ in range(2)]
    expect(all(len(draw) == 64 for draw in draws) and draws[0] != draws[1], f"two times 32 bytes from /dev/hwrng are {draws}")


def _expect_an_interrupt_for_each_queue(bed: Bed, guest: Guest):
    drivers, interrupts = bound_drivers(guest), interrupts_in(shell(guest, "grep virtio /proc/interrupts"))
    bed.notes.append("interrupts: " + ", ".join(f"{name} {interrupt.count}" for name, interrupt in sorted(interrupts.items())))
    for driver, queues in DRIVERS.values():
        for name in (f"{drivers[driver]}-{queue}" for queue in queues):
            expect(name in interrupts, f"{name} ({driver}) has no interrupt of its own, only these have: {sorted(interrupts)}")
            expect(interrupts[name].message, f"{name} ({driver}) has a pin, not a message")
    for driver, queue in (("virtio_blk", "req.0"), ("virtio_net", "input.0"), ("virtio_console", "input"), ("virtio_rng", "input")):
        expect(interrupts[f"{drivers[driver]}-{queue}"].count > 0, f"{driver}'s queue {queue} was used, but its interrupt never came")


def case_lspci_shows_every_device_bound_to_its_driver(bed: Bed):
    """lspci names balloon, network, disk, console and RNG, each is bound to its driver, works, and has a message for each queue."""
    bed.open()
    image, console = bed.images.scratch / "marked.raw", bed.images.scratch / "hvc0.sock"
    image.write_bytes(MARK.encode().ljust(MIB, b"\0"))
    console.unlink(missing_ok=True)
    disk = vmm.Disk(image, "marked", read_only=True)
    guest = _boot_ordinary(bed, "A", disks=(disk,), console=f"unix:{console}")
    bed.notes += _inspect(guest, "Virtio 1.0").splitlines()
    _use_each_device(guest, console)
    _expect_an_interrupt_for_each_queue(bed, guest)
    expect_clean_power_off(guest)
    guest = _boot_ordinary(bed, "transitional", disks=(disk,), console=f"unix:{console}", virtio="transitional")
    bed.notes += [device.splitlines()[0] for device in listed_devices(_inspect(guest, "Virtio"))]
    expect_clean_power_off(guest)


def _resize(guest: Guest, sizes: dict[str, int]):
    shell(guest, f"ethtool -G eth0 rx {sizes['RX']} tx {sizes['TX']} 2>&1")
    used = ring_sizes(shell(guest, "ethtool -g eth0"))[1]
    expect(used == sizes, f"the rings' sizes are {used} after ethtool asked for {sizes}")
    expect(guest.ask(f"ping {HOST_ADDRESS}") == {"ping": "answered"}, f"with rings of {sizes} the host does not answer the guest's ping")


def _ping_through_resizes(bed: Bed, how: str):
    guest = _boot_ordinary(bed, "A", net=how)
    features = shell(guest, "cat /sys/class/net/eth0/device/features").strip()
    expect(features[RING_RESET] == "1", f"the network driver did not take VIRTIO_F_RING_RESET: {features}")
    most = ring_sizes(shell(guest, "ethtool -g eth0"))[0]
    pings = subprocess.Popen(["ping", "-q", "-i", "0.2", "-w", "200", GUEST_ADDRESS], stdout=subprocess.PIPE, text=True)
    try:
        for sizes in ({"RX": 128, "TX": 64}, {"RX": 64, "TX": most["TX"]}, most):
            _resize(guest, sizes)
        time.sleep(1)
    finally:
        pings.send_signal(signal.SIGINT)
        said = pings.communicate(timeout=30)[0]
    counts = re.search(r"(\d+) packets transmitted, (\d+) packets received", said)
    expect(counts, f"the host's ping said: {said[-200:]}")
    sent, answered = int(counts[1]), int(counts[2])
    bed.notes.append(f"{how}: of {sent} pings meanwhile {answered} were answered")
    # A frame that is in a ring when the driver takes it back is lost.
    expect(sent >= 5 and answered >= 0.7 * sent, f"of {sent} pings through three resizes {answered} were answered ({how})")
    for size in ("56", "8000"):
        done = subprocess.run(["ping", "-c", "3", "-w", "30", "-s", size, GUEST_ADDRESS], capture_output=True, text=True)
        expect(done.returncode == 0, f"after the resizes the guest does not answer pings of {size} bytes: {done.stdout[-200:]}")
    expect_clean_power_off(guest)


def case_driver_resizes_its_rings(bed: Bed):
    """ethtool -G has the driver take its network queues back and give them in other sizes, and pings go on; with vhost, too."""
    bed.open()
    for how in ("vhost=off", "vhost=force"):
        _ping_through_resizes(bed, how)


def case_guest_with_64_cpus_has_them_all(bed: Bed):
    """A guest with 64 vCPUs, the most there can be, brings all up and powers off."""
    bed.open()
    guest = bed.session.add_guest(GuestSpec("A", 1024 * MIB, cpus=MANY_CPUS), vmm.Extras(data=False))
    seconds = guest.wait_ready(MANY_CPUS_BOOT_SECONDS)
    bed.notes.append(f"up after {seconds:.0f} s")
    online = int(shell(guest, "busybox nproc"))
    expect(online == MANY_CPUS, f"the guest has {online} CPUs online, expected {MANY_CPUS}")
    expect_clean_power_off(guest)


DEVICE_CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}

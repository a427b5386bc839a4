# SPDX-License-Identifier: Apache-2.0
"""Testbed cases of the virtio transports: each interface, vhost and snapshots (part of runner/cases.py)."""

import shutil
import subprocess

from . import vmm
from .case_bed import MIB, Bed, expect, expect_clean_power_off, wait_for
from .qmp import Qmp
from .scenario import GuestSpec
from .tap import make_tap


def _disk_and_net_work(bed: Bed, virtio: str, cmdline: str = ""):
    """A guest with this virtio interface writes its root disk, and pings the host."""
    tap = "tapvirtio"
    make_tap(tap, "10.77.1.1/24")
    bed.open()
    root = bed.images.scratch / "root.ext4"
    shutil.copyfile(bed.images.kernel.with_name("root.ext4"), root)
    guest = bed.boot(extras=vmm.Extras(root=root, tap=tap, virtio=virtio,
                                       cmdline=f"testbed.root=/dev/vda testbed.ip=10.77.1.2/24 {cmdline}".strip()))
    expect("writable" in "\n".join(guest.console), "the root disk is not writable")
    answer = guest.ask("ping 10.77.1.1")
    expect(answer == {"ping": "answered"}, f"the guest's ping: {answer}")
    expect_clean_power_off(guest)


def case_legacy_virtio_interface(bed: Bed):
    """With the modern interface hidden, disk and network work through the legacy one."""
    _disk_and_net_work(bed, "legacy")


def case_transitional_virtio_devices_as_modern_ones(bed: Bed):
    """A transitional device serves a modern driver."""
    _disk_and_net_work(bed, "transitional")


def case_packed_rings(bed: Bed):
    """Disk and network work over packed rings."""
    _disk_and_net_work(bed, "modern,packed=on")


def case_interrupts_by_pin_without_msi(bed: Bed):
    """A guest that uses no MSI gets its interrupts by the INTx pins that ACPI's _PRT describes."""
    _disk_and_net_work(bed, "modern", "pci=nomsi")


def case_virtio_mmio_transport(bed: Bed):
    """Without PCI functions, disk and network work through virtio-mmio windows that ACPI announces."""
    _disk_and_net_work(bed, "mmio")


def case_virtio_mmio_transport_with_packed_rings(bed: Bed):
    """Without PCI functions, disk and network work over packed rings."""
    _disk_and_net_work(bed, "mmio,packed=on")


def _pings_pass_with_vhost(bed: Bed, virtio: str):
    make_tap("tapcase", "10.77.0.1/24")
    bed.open()
    guest = bed.boot(extras=vmm.Extras(tap="tapcase", net="vhost=force", virtio=virtio, cmdline="testbed.ip=10.77.0.2/24"))
    for size in ("56", "8000"):
        done = subprocess.run(["ping", "-c", "5", "-w", "60", "-s", size, "10.77.0.2"], capture_output=True, text=True)
        expect(done.returncode == 0, f"the host's ping of {size} bytes got no answer: {done.stdout[-200:]}")
    answer = guest.ask("ping 10.77.0.1")
    expect(answer == {"ping": "answered"}, f"the guest's ping: {answer}")
    threads = subprocess.run("cat /proc/[0-9]*/task/*/comm", shell=True, capture_output=True, text=True).stdout
    expect("\nvhost-" in threads, "no vhost worker thread runs on the host")
    expect_clean_power_off(guest)


def case_kernel_moves_the_frames_with_vhost(bed: Bed):
    """Host and guest ping each other while vhost-net serves the queues; large pings pass, too."""
    _pings_pass_with_vhost(bed, "modern")


def case_kernel_moves_the_frames_without_pci(bed: Bed):
    """vhost-net serves a device that has a pin only: its interrupts go by way of the VMM."""
    _pings_pass_with_vhost(bed, "mmio")


def _goes_on_from_a_snapshot(bed: Bed, virtio: str):
    bed.open()
    path, snapshot = bed.images.scratch / "qmp.sock", bed.images.scratch / "guest.snapshot"
    guest = bed.boot("A", extras=vmm.Extras(qmp=path, virtio=virtio))
    qmp = Qmp(path)
    qmp("balloon", value=256 * MIB)
    wait_for("the balloon to reach 256 MiB", lambda: abs(qmp("query-balloon")["actual"] - 256 * MIB) < 2 * MIB, 120)
    qmp("stop")
    qmp("snapshot-to-file", path=str(snapshot))
    expect(snapshot.stat().st_size < 256 * MIB, f"the snapshot has {snapshot.stat().st_size} bytes: it holds the balloon's pages")
    qmp("quit")
    expect(guest.wait_end(60) == 0, "the VMM's status after quit is not 0")
    restored = bed.session.add_guest(GuestSpec("A2", 512 * MIB), vmm.Extras(qmp=path, virtio=virtio, restore=snapshot))
    qmp = Qmp(path)
    wait_for("the restored balloon, at 256 MiB", lambda: abs(qmp("query-balloon")["actual"] - 256 * MIB) < 2 * MIB, 60)
    free = restored.status()["meminfo"]["MemFree"]
    qmp("balloon", value=512 * MIB)
    wait_for("the restored guest to grow", lambda: restored.status()["meminfo"]["MemFree"] > free + 200 * MIB, 120)
    expect_clean_power_off(restored)


def case_snapshot_of_a_guest_with_an_inflated_balloon_goes_on(bed: Bed):
    """A guest with an inflated balloon is saved, ended and restored: same boot, same balloon, and it still grows and powers off."""
    _goes_on_from_a_snapshot(bed, "modern")


def case_snapshot_of_a_guest_without_pci_goes_on(bed: Bed):
    """A guest that has virtio-mmio instead of PCI functions is saved and restored likewise."""
    _goes_on_from_a_snapshot(bed, "mmio")


TRANSPORT_CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}

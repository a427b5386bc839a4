# SPDX-License-Identifier: Apache-2.0
"""Testbed tests: each a sentence about guests and daemon on a real KVM host. `python3 -m runner.cases` runs them there."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from . import guest_kernels, vmm
from .case_bed import BOOT_TIMEOUT, GIB, MIB, Bed, Unchanged, expect, expect_clean_power_off, wait_for, wait_for_event
from .daemon import Daemon
from .device_cases import DEVICE_CASES
from .direct_cases import DIRECT_CASES
from .events import EventLog
from .guest import Guest
from .ksm_cases import KSM_CASES
from .qmp import Qmp
from .scenario import GuestSpec
from .session import default_images
from .speed import MACHINE
from .tap import make_tap
from .transport_cases import TRANSPORT_CASES
from .workload_cases import WORKLOAD_CASES

RECONNECT_TIMEOUT = 120
# An emulated guest's balloon takes some 10 s for 400 MiB on a quiet machine, minutes on one that also compiles.
SETTLE_TIMEOUT = 480
# What a daemon that comes back may decide otherwise than the one before it, before its guests are first listed.
STILL = 32 * MIB


def case_bzimage_boots_and_powers_off(bed: Bed):
    """A Debian bzImage boots with all its memory, and power-off ends the VMM with status 0."""
    bed.open()
    guest = bed.boot(memory=2 * GIB)
    total = guest.status()["meminfo"]["MemTotal"]
    # The kernel keeps some for itself (page structs, its own image): it may report less, never more.
    expect(1.88 * GIB < total <= 2 * GIB, f"a 2 GiB guest reports MemTotal {total}")
    expect_clean_power_off(guest)


def case_vmlinux_boots_by_pvh(bed: Bed):
    """The ELF vmlinux of the same kernel boots by PVH."""
    bed.open()
    guest = bed.boot(extras=vmm.Extras(kernel=bed.images.kernel.with_name("vmlinux")))
    expect_clean_power_off(guest)


def case_guest_has_all_its_cpus(bed: Bed):
    """A guest with two vCPUs brings both up and powers off."""
    bed.open()
    guest = bed.boot(cpus=2)
    expect(guest.ask("cpus") == {"cpus": 2}, "the guest does not have 2 CPUs online")
    expect_clean_power_off(guest)


def case_reboot_starts_the_guest_anew(bed: Bed):
    """A reboot brings the guest up again in the same VMM process, as a new boot, and it still powers off."""
    bed.open()
    guest = bed.boot()
    first = guest.ready_events[-1]["boot"]
    guest.expect_reboot()
    guest.ask("reboot")
    guest.wait_ready(BOOT_TIMEOUT)
    expect(guest.ready_events[-1]["boot"] != first, "the boot id is the same after the reboot")
    expect_clean_power_off(guest)


def case_root_filesystem_on_virtio_blk(bed: Bed):
    """A guest boots a root filesystem from a writable virtio-blk disk, and what it writes is in the image."""
    bed.open()
    root = bed.images.scratch / "root.ext4"
    shutil.copyfile(bed.images.kernel.with_name("root.ext4"), root)
    guest = bed.boot(extras=vmm.Extras(root=root, cmdline="testbed.root=/dev/vda"))
    said = "\n".join(guest.console)
    expect("root is /dev/vda / ext4" in said and "writable" in said, f"expected the root on /dev/vda; the guest said: {said}")
    expect_clean_power_off(guest)
    mount_point = bed.images.scratch / "mnt"
    mount_point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro,noload", str(root), str(mount_point)], check=True)
    try:
        expect((mount_point / "written-by-guest").exists(), "the file that the guest wrote is not in the image")
    finally:
        subprocess.run(["umount", str(mount_point)], check=True)


def case_root_filesystem_on_qcow2_with_direct_io(bed: Bed):
    """A guest boots its root filesystem from a qcow2 image on a backing file, past the host's cache; what it wrote is in the image, which is sound."""
    bed.open()
    base = bed.images.scratch / "base.ext4"
    shutil.copyfile(bed.images.kernel.with_name("root.ext4"), base)
    root = bed.images.scratch / "root.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "raw", str(root)], check=True)
    guest = bed.boot(extras=vmm.Extras(root=root, root_options="cache=none,queues=2", cmdline="testbed.root=/dev/vda"), cpus=2)
    expect_clean_power_off(guest)
    check = subprocess.run(["qemu-img", "check", str(root)], capture_output=True, text=True)
    expect(check.returncode == 0, f"qemu-img check found: {check.stdout} {check.stderr}")
    raw = bed.images.scratch / "converted.ext4"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(root), str(raw)], check=True)
    mount_point = bed.images.scratch / "mnt"
    mount_point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro,noload", str(raw), str(mount_point)], check=True)
    try:
        expect((mount_point / "written-by-guest").exists(), "the file that the guest wrote is not in the image")
    finally:
        subprocess.run(["umount", str(mount_point)], check=True)


def case_guest_and_host_reach_each_other_over_a_tap(bed: Bed):
    """Host and guest ping each other over virtio-net on a tap."""
    make_tap("tapcase", "10.77.0.1/24")
    bed.open()
    guest = bed.boot(extras=vmm.Extras(tap="tapcase", cmdline="testbed.ip=10.77.0.2/24"))
    done = subprocess.run(["ping", "-c", "5", "-w", "30", "10.77.0.2"], capture_output=True, text=True)
    expect(done.returncode == 0, f"the host's ping got no answer: {done.stdout[-200:]}")
    answer = guest.ask("ping 10.77.0.1")
    expect(answer == {"ping": "answered"}, f"the guest's ping: {answer}")
    expect_clean_power_off(guest)


def case_qmp_client_written_for_qemu_drives_the_balloon(bed: Bed):
    """A QMP client moves the balloon, reads the guest's statistics, pauses the guest and presses its power button."""
    bed.open()
    path = bed.images.scratch / "qmp.sock"
    guest = bed.boot(extras=vmm.Extras(qmp=path))
    qmp = Qmp(path)
    qmp("balloon", value=384 * MIB)
    wait_for("the balloon to reach 384 MiB", lambda: abs(qmp("query-balloon")["actual"] - 384 * MIB) < 2 * MIB, 120)
    balloon = qmp.balloon_path()
    qmp("qom-set", path=balloon, property="guest-stats-polling-interval", value=1)
    stats = lambda: qmp("qom-get", path=balloon, property="guest-stats")
    wait_for("statistics", lambda: stats()["last-update"] > 0, 60)
    free = stats()["stats"]["stat-free-memory"]
    expect(0 < free < 512 * MIB, f"the guest's free memory by its statistics is {free}")
    qmp("stop")
    expect(qmp("query-status")["status"] == "paused", "the guest is not paused")
    last = lambda: stats()["last-update"]
    wait_for("a paused guest to send no statistics", Unchanged(last, 5), 60)  # some may have been on their way
    frozen = last()
    qmp("cont")
    wait_for("statistics after the pause", lambda: last() > frozen, 60)
    expect({"BALLOON_CHANGE", "STOP", "RESUME"} <= set(qmp.events), f"events: {qmp.events}")
    expect_clean_power_off(guest)


def case_guest_above_4_gib_has_all_its_memory(bed: Bed):
    """A guest of 5 GiB, which goes on behind the PCI hole, sees all its memory; its balloon takes from both sides and gives back."""
    bed.open()
    path = bed.images.scratch / "qmp.sock"
    guest = bed.boot(memory=5 * GIB, extras=vmm.Extras(qmp=path))
    total = guest.status()["meminfo"]["MemTotal"]
    expect(4.7 * GIB < total <= 5 * GIB, f"a 5 GiB guest reports MemTotal {total}")
    qmp = Qmp(path)
    for target in (1 * GIB, 5 * GIB):
        qmp("balloon", value=target)
        wait_for(f"the balloon to reach {target >> 30} GiB", lambda: abs(qmp("query-balloon")["actual"] - target) < 4 * MIB, SETTLE_TIMEOUT)
    expect_clean_power_off(guest)


def _deflated_by(bed: Bed, backing: str, slack: int):
    """Touches 300 MiB of a 512 MiB guest, frees them, and shrinks it to 256 MiB: the host must hold no more than that."""
    path = bed.images.scratch / "qmp.sock"
    bed.open()
    spec = GuestSpec("A", 512 * MIB, free_page_reporting=False)
    guest = bed.session.add_guest(spec, vmm.Extras(qmp=path, backing=backing))
    guest.wait_ready(BOOT_TIMEOUT)
    _load_and_free(bed, guest)
    qmp = Qmp(path)
    qmp("balloon", value=256 * MIB)
    wait_for("the balloon to reach 256 MiB", lambda: qmp("query-balloon")["actual"] <= 256 * MIB + slack, 240)
    # What is gathered into huge pages comes within 2 s.
    wait_for(f"the host to hold 256 MiB and little more (memory {backing}); it holds {_resident(guest) / MIB:.0f} MiB",
             lambda: _resident(guest) <= 256 * MIB + slack + 48 * MIB, 30)
    qmp("balloon", value=512 * MIB)
    wait_for("the balloon to be empty", lambda: qmp("query-balloon")["actual"] == 512 * MIB, 240)
    _load_and_free(bed, guest)
    expect_clean_power_off(guest)


def case_balloon_of_shared_memory_frees_the_host(bed: Bed):
    """A guest on a memfd that shrinks frees the host's memory, and uses it again after it has grown."""
    _deflated_by(bed, "shared=on", 0)


def case_balloon_of_locked_memory_frees_the_host(bed: Bed):
    """The same with preallocated, locked memory."""
    _deflated_by(bed, "lock=on,preallocate=on", 0)


def case_balloon_of_pool_pages_frees_whole_huge_pages(bed: Bed):
    """The same with 2 MiB pages of the host's pool: what the guest gives in whole ones returns to the pool, and comes from there again."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = pool.read_text()
    pool.write_text("256")
    try:
        bed.open()
        path = bed.images.scratch / "qmp.sock"
        # Without reporting, which would return the free memory to the pool before the balloon does.
        spec = GuestSpec("A", 512 * MIB, free_page_reporting=False)
        guest = bed.session.add_guest(spec, vmm.Extras(qmp=path, backing="huge-pages=2MiB"))
        guest.wait_ready(BOOT_TIMEOUT)
        free = lambda: int(re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
        # Pages that the guest never touched are in the pool already: only touched ones can return to it.
        _load_and_free(bed, guest)
        start = free()
        qmp = Qmp(path)
        qmp("balloon", value=256 * MIB)
        # 256 MiB are 128 huge pages. The guest gives single pages of 4 KiB, and of a huge page it may keep one for long: at least half must come whole.
        wait_for(f"64 huge pages to return to the pool, where {start} were free", lambda: free() >= start + 64, 240)
        qmp("balloon", value=512 * MIB)
        wait_for("the balloon to be empty", lambda: qmp("query-balloon")["actual"] == 512 * MIB, 240)
        _load_and_free(bed, guest)
        expect(free() < start + 64, f"{free()} huge pages are free after the guest used its memory again, {start} before")
        expect_clean_power_off(guest)
    finally:
        pool.write_text(before)


def case_free_pages_are_dropped_before_a_snapshot(bed: Bed):
    """With free page hinting a snapshot first drops what the guest has free: host memory and file shrink, and the guest goes on."""
    bed.open()
    path, snapshot = bed.images.scratch / "qmp.sock", bed.images.scratch / "guest.snapshot"
    spec = GuestSpec("A", 512 * MIB, free_page_reporting=False)
    guest = bed.session.add_guest(spec, vmm.Extras(qmp=path, hinting=True))
    guest.wait_ready(BOOT_TIMEOUT)
    _load_and_free(bed, guest)
    before = _resident(guest)
    Qmp(path)("snapshot-to-file", path=str(snapshot))
    fell = before - _resident(guest)
    expect(fell > 200 * MIB, f"300 MiB were free, and the VMM's resident memory fell by {fell / MIB:.0f} MiB")
    size = snapshot.stat().st_blocks * 512
    expect(size < 250 * MIB, f"the snapshot takes {size / MIB:.0f} MiB")
    _load_and_free(bed, guest)
    expect_clean_power_off(guest)


def _resident(guest: Guest) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{guest.pid}/status").read_text())[1]) * 1024


def _load_and_free(bed: Bed, guest: Guest):
    loaded = bed.session.expect(guest.name, "loaded")
    guest.ask("load 300M")
    wait_for_event("a load of 300 MiB", loaded, 240)
    guest.ask("free")


def _kernel_works_with_every_device(bed: Bed, series: str):
    """Boots this Debian kernel from a disk with all that the balloon offers, and uses everything once."""
    path, tap, console = bed.images.scratch / "qmp.sock", "tapkernel", bed.images.scratch / "hvc0"
    make_tap(tap, "10.77.2.1/24")
    bed.open()
    root = bed.images.scratch / "root.ext4"
    files = guest_kernels.DIRECTORY / series

    def boot(name: str, **extras) -> Guest:
        shutil.copyfile(bed.images.kernel.with_name("root.ext4"), root)
        return bed.boot(name, 1536 * MIB, vmm.Extras(
            kernel=files / "vmlinuz", initramfs=files / "initramfs.cpio", root=root, tap=tap,
            cmdline="testbed.root=/dev/vda testbed.ip=10.77.2.2/24", **extras))

    console.unlink(missing_ok=True)
    guest = boot("A", qmp=path, hinting=True, console=f"file:{console}")
    expected, found = guest_kernels.EXPECTED[series], guest_kernels.facts(guest)
    features = guest_kernels.balloon_features(guest)
    bed.notes.append(f"{found}; balloon features: {', '.join(sorted(features))}")
    expect(found["release"].startswith(f"{series}."), f"the guest runs kernel {found['release']}")
    expect(found["clocksource"] == "kvm-clock", f"the guest's clocksource is {found['clocksource']}")
    expect("writable" in "\n".join(guest.console), "the root disk is not writable")
    guest.ask("sh echo said over virtio >/dev/hvc0")
    wait_for("the guest's word on its virtio console", lambda: "said over virtio" in console.read_text(errors="replace"), 30)
    expect(guest.ask("ping 10.77.2.1") == {"ping": "answered"}, "the host does not answer the guest's ping")
    done = subprocess.run(["ping", "-c", "3", "-w", "30", "10.77.2.2"], capture_output=True, text=True)
    expect(done.returncode == 0, f"the guest does not answer the host's ping: {done.stdout[-200:]}")
    expect(expected.features <= features, f"the balloon's driver did not take {', '.join(sorted(expected.features - features))}")

    loaded, resident = bed.session.expect(guest.name, "loaded"), 0
    guest.ask("load 400M")
    wait_for_event("a load of 400 MiB", loaded, 240)
    resident = _resident(guest)
    guest.ask("free")
    wait_for("300 MiB of what the guest freed to be reported", lambda: resident - _resident(guest) > 300 * MIB, 120)

    qmp = Qmp(path)
    qmp("qom-set", path=qmp.balloon_path(), property="guest-stats-polling-interval", value=1)
    stats = lambda: qmp("qom-get", path=qmp.balloon_path(), property="guest-stats")
    wait_for("statistics", lambda: stats()["last-update"] > 0, 60)
    tags = guest_kernels.sent_tags(stats()["stats"])
    bed.notes.append(f"statistics: {', '.join(sorted(tags))}")
    expect(tags == expected.tags, f"tags that are new: {sorted(tags - expected.tags)}, missing: {sorted(expected.tags - tags)}")

    for target in (512 * MIB, 1536 * MIB):
        qmp("balloon", value=target)
        wait_for(f"the balloon to reach {target // MIB} MiB", lambda: abs(qmp("query-balloon")["actual"] - target) < 2 * MIB, SETTLE_TIMEOUT)
    expect_clean_power_off(guest)

    for interface in ("modern", "mmio"):
        guest = boot(interface, virtio=f"{interface},packed=on")
        expect("packed-ring" in guest_kernels.balloon_features(guest), f"the balloon's driver did not take packed rings ({interface})")
        expect(guest.ask("ping 10.77.2.1") == {"ping": "answered"}, f"over packed rings ({interface}) the host does not answer the guest's ping")
        expect_clean_power_off(guest)


def case_guest_kernel_5_10(bed: Bed):
    """Debian 11's kernel (5.10) works with every device: disk, network, balloon, statistics, free page reporting."""
    _kernel_works_with_every_device(bed, "5.10")


def case_guest_kernel_6_1(bed: Bed):
    """Debian 12's kernel (6.1) works with every device, too."""
    _kernel_works_with_every_device(bed, "6.1")


def case_guest_kernel_6_12(bed: Bed):
    """Debian 13's kernel (6.12, from Debian 12's archive) works with every device, too."""
    _kernel_works_with_every_device(bed, "6.12")


def case_killed_daemon_moves_no_balloon_and_takes_over_again(bed: Bed):
    """kill -9 of the daemon in mid-run moves no balloon; started again it adopts what it finds, and control goes on."""
    session = bed.open(with_daemon=True, policy={"defaults": {"min": "256M"}})
    names = ["A", "B", "C"]
    for name in names:
        session.add_guest(GuestSpec(name, 640 * MIB), vmm.Extras(qmp=bed.images.scratch / f"{name}.qmp"))
    for name in names:
        session.guests[name].wait_ready()
    daemon = session.daemon
    monitors = {name: Qmp(bed.images.scratch / f"{name}.qmp") for name in names}
    sizes = lambda: {name: monitor("query-balloon")["actual"] for name, monitor in monitors.items()}
    _wait_settled(daemon, names)
    daemon.kill()
    # What it asked for last, maybe after it was looked at, is still on its way.
    wait_for("the balloons to come to rest without a daemon", Unchanged(sizes, 10), SETTLE_TIMEOUT)
    left = sizes()
    MACHINE.sleep(15)
    for name, size in sizes().items():
        expect(size == left[name], f"{name}'s balloon moved by {(size - left[name]) / MIB:.1f} MiB while there was no daemon")
    daemon.start()
    found: dict[str, dict] = {}  # each guest as it was first listed: from then on control goes on

    def all_are_back(guests: dict) -> bool:
        for name in guests.keys() - found.keys():
            found[name] = guests[name]
        return _controlled(guests, names)

    daemon.wait_for("all guests to reconnect", all_are_back, RECONNECT_TIMEOUT)
    for name in names:
        step = found[name]["actual_bytes"] - left[name]
        expect(abs(step) < STILL, f"{name} made a step of {step / MIB:.0f} MiB when the daemon came back")
        expect(session.guests[name].alive(), f"{name}'s VMM is gone")
    loaded = session.expect("A", "loaded")
    session.guests["A"].ask("load 300M")
    daemon.wait_for("A to grow for its load", lambda guests: guests["A"]["actual_bytes"] > 430 * MIB, 240)
    wait_for_event("A's load of 300 MiB to be satisfied after the grow", loaded, 240)
    for name in names:
        expect(len(session.guests[name].ready_events) == 1, f"{name} restarted on the way")


def case_guest_that_powers_off_leaves_the_list_and_comes_back_by_reboot(bed: Bed):
    """A rebooted guest is controlled again; one that powered off leaves the daemon's list."""
    session = bed.open(with_daemon=True)
    for name in ("A", "B"):
        session.add_guest(GuestSpec(name, 512 * MIB))
    for name in ("A", "B"):
        session.guests[name].wait_ready()
    session.daemon.wait_for("both to be controlled", lambda guests: _controlled(guests, ["A", "B"]), RECONNECT_TIMEOUT)
    session.guests["A"].expect_reboot()
    session.guests["A"].ask("reboot")
    session.guests["A"].wait_ready()
    session.daemon.wait_for("A to be controlled after its reboot", lambda guests: _controlled(guests, ["A", "B"]), RECONNECT_TIMEOUT)
    expect_clean_power_off(session.guests["B"])
    session.daemon.wait_for("B to leave the list", lambda guests: set(guests) == {"A"}, RECONNECT_TIMEOUT)
    expect(session.daemon.stop() == 0, "balloond's status after SIGTERM is not 0")


def _controlled(guests: dict, names: list[str]) -> bool:
    return set(guests) == set(names) and all(guests[name]["state"] == "controlled" for name in names)


def _wait_settled(daemon: Daemon, names: list[str]):
    """Guests that are controlled, have what they are asked to have, and whose sizes have stood still for some lists."""
    history: list[dict] = []

    def settled(guests: dict) -> bool:
        history.append({name: guest.get("actual_bytes", 0) for name, guest in guests.items()})
        recent = history[-4:]
        return (_controlled(guests, names) and len(recent) == 4 and all(set(sizes) == set(names) for sizes in recent)
                and all(abs(guests[name]["actual_bytes"] - guests[name]["target_bytes"]) < 4 * MIB for name in names)
                and all(max(sizes[name] for sizes in recent) - min(sizes[name] for sizes in recent) < 4 * MIB for name in names))

    daemon.wait_for("guests to be controlled and to settle", settled, SETTLE_TIMEOUT)


CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}
CASES |= TRANSPORT_CASES | DEVICE_CASES | KSM_CASES | WORKLOAD_CASES | DIRECT_CASES
# Kernels that a case needs beside the images' own (builder/guest_kernels.py).
KERNELS_OF = {"guest_kernel_5_10": ["5.10"], "guest_kernel_6_1": ["6.1"], "guest_kernel_6_12": ["6.12"],
              "lspci_shows_every_device_bound_to_its_driver": [guest_kernels.ORDINARY], "driver_resizes_its_rings": [guest_kernels.ORDINARY]}
# Variants of cases that run each time, left to scripts/nightly.sh.
NIGHTLY = {"guest_kernel_5_10", "guest_kernel_6_12", "balloon_of_locked_memory_frees_the_host", "virtio_mmio_transport_with_packed_rings",
           "kernel_moves_the_frames_without_pci", "snapshot_of_a_guest_without_pci_goes_on", "guest_with_64_cpus_has_them_all"}
# What needs the daemon, or what only balloon-vmm has, cannot be shown by a peer VMM.
NEEDS_DAEMON = {"balloon_of_shared_memory_frees_the_host", "balloon_of_locked_memory_frees_the_host",
                "balloon_of_pool_pages_frees_whole_huge_pages", "free_pages_are_dropped_before_a_snapshot",
                "snapshot_of_a_guest_with_an_inflated_balloon_goes_on", "snapshot_of_a_guest_without_pci_goes_on", "root_filesystem_on_qcow2_with_direct_io",
                "guest_kernel_5_10", "guest_kernel_6_1", "guest_kernel_6_12",
                "lspci_shows_every_device_bound_to_its_driver", "driver_resizes_its_rings", "guest_with_64_cpus_has_them_all",
                "killed_daemon_moves_no_balloon_and_takes_over_again", *KSM_CASES, *WORKLOAD_CASES, *DIRECT_CASES,
                "guest_that_powers_off_leaves_the_list_and_comes_back_by_reboot"}


def run_case(name: str, bed: Bed, events: EventLog) -> bool:
    started = time.monotonic()
    failure = None
    bed.notes.clear()
    try:
        CASES[name](bed)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{error} ({type(error).__name__} at {Path(place.filename).name}:{place.lineno})"
        if bed.session and bed.session.daemon:
            failure += f"; balloond: {bed.session.daemon.log_tail()}"
    finally:
        if bed.session:
            bed.session.close()
            bed.session = None
    events.emit("case", name=name, passed=failure is None, failure=failure, seconds=round(time.monotonic() - started, 1),
                factor=round(MACHINE.factor, 2), what=CASES[name].__doc__, notes=bed.notes)
    return failure is None


def main() -> int:
    parser = argparse.ArgumentParser(prog="runner.cases", description=__doc__)
    parser.add_argument("--events", default="/dev/stdout")
    parser.add_argument("--vmm", choices=("balloon-vmm", "qemu"), default="balloon-vmm")
    parser.add_argument("--images", type=Path, default=Path("/images/guest"))
    parser.add_argument("--scratch", type=Path, default=Path("/scratch"))
    parser.add_argument("names", nargs="+", choices=sorted(CASES))
    options = parser.parse_args()
    events = EventLog(options.events)
    bed = Bed(events, options.vmm, default_images(False, options.images, options.scratch))
    os.umask(0o022)
    events.emit("speed", when="at the start", **MACHINE.measure())
    MACHINE.follow()
    results = [run_case(name, bed, events) for name in options.names]
    MACHINE.stop()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

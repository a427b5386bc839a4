# SPDX-License-Identifier: Apache-2.0
"""Classes of devices that the emulated host's disks and swap are slowed down to, and how fast they are as seen from inside it.

The files behind them are in the build machine's memory, while all that needs CPU is some 10 times slower than on hardware and more: left
alone, swapping and reading would look free. So requests and bytes a second are those of a device that one can have, divided by the
slowdown (speed.py). All of a host's devices share one limit, as partitions of one device do."""

import mmap
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .speed import MACHINE, QUICK_SLOWDOWN


@dataclass(frozen=True)
class Limits:
    """A second."""
    requests: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class DeviceClass:
    requests: int
    bytes_read: int
    bytes_written: int
    source: str

    def limits(self, slowdown: float) -> Limits:
        """What it does here."""
        return Limits(max(1, round(self.requests / slowdown)), *(max(4096, round(rate / slowdown)) for rate in (self.bytes_read, self.bytes_written)))


CLASSES = {
    # The simulator's nvme (policy/sim/devices.h). What a page fault on a swapped page waits for is one read of 4 KiB: so the requests are
    # those one at a time, of 85 us each. That is too few for a crowd that reads at once.
    "nvme": DeviceClass(round(1 / 85e-6), 3_200_000_000, 1_050_000_000,
                        "Intel P4500 of 2 TB, Lenovo's product guide 4XB7A08539: 85 us for a read at random, 3.2 and 1.05 GB/s in a row"),
    # A volume as clouds and storage networks sell it: by just such limits. A disk with moving heads (the simulator's) cannot be told by
    # them: it reads 81 times a second at random, and over a thousand times in a row. A SATA SSD is as fast as nvme, one at a time.
    "disk": DeviceClass(3_000, 125 << 20, 125 << 20,
                        "Amazon EBS gp3, defaults in EC2's API (EbsBlockDevice.iops, ModifyVolumeRequest.throughput)"),
}
# With "zram" the host swaps to compressed memory, which costs what it costs (CPU and memory); its disks are nvme's.
# "unlimited": as fast as the build machine's memory.
NAMES = (*CLASSES, "zram", "unlimited")


def of_disks(name: str) -> DeviceClass | None:
    """None: not slowed down."""
    return CLASSES.get("nvme" if name == "zram" else name)


MEASURE_SECONDS = 1.0
THREADS = 4  # for random reads: guests and swapping together have some requests under way at a time
SEQUENTIAL, RANDOM = 1 << 20, 4096


def measure(path: Path, quick_to_wall) -> dict:
    """Reads past the page cache: sequential bytes and random requests a second of a block device or file."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        seconds = quick_to_wall(MEASURE_SECONDS)
        spots = iter(range(0, size - SEQUENTIAL, SEQUENTIAL))
        sequential = _rate(fd, SEQUENTIAL, lambda: next(spots, 0), 1, seconds)
        chance = random.Random(1)
        scattered = _rate(fd, RANDOM, lambda: chance.randrange(size // RANDOM) * RANDOM, THREADS, seconds)
    finally:
        os.close(fd)
    return {"sequential_bytes_s": round(sequential * SEQUENTIAL), "random_iops": round(scattered, 1)}


def _rate(fd: int, size: int, place, threads: int, seconds: float) -> float:
    """Requests a second."""
    done = [0] * threads
    started = time.monotonic()

    def read(number: int):
        with mmap.mmap(-1, size) as buffer:  # O_DIRECT wants memory that is aligned to a page
            while done[number] == 0 or time.monotonic() - started < seconds:
                os.preadv(fd, [buffer], place())
                done[number] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return sum(done) / (time.monotonic() - started)


def report(events, name: str, data: Path):
    """Measures the emulated host's swap (/dev/vde, outer/testbed-init) and the guests' disks into an event. zram has no speed of its own to
    measure: it is the CPU's."""
    paths = ({} if name == "zram" else {"swap": Path("/dev/vde")}) | {"guests' disks": data}
    events.emit("devices", devices=name, slowdown=round(QUICK_SLOWDOWN * MACHINE.factor, 1),
                measured={what: measure(path, MACHINE.wall) for what, path in paths.items()})


def describe(event: dict) -> str:
    """The runner's event "devices" in words."""
    if event["devices"] == "unlimited":
        limit = "not slowed down"
    else:
        of = of_disks(event["devices"])
        here = of.limits(event["slowdown"])
        limit = (f"{of.requests} requests/s, {of.bytes_read / 1e6:.0f} MB/s read and {of.bytes_written / 1e6:.0f} written, divided by"
                 f" {event['slowdown']:.1f}: {here.requests} requests/s, {here.bytes_read / 1e6:.1f} and {here.bytes_written / 1e6:.1f} MB/s; {of.source}")
    found = ", ".join(f"{name} {seen['random_iops']:.0f} requests/s of 4 KiB, {seen['sequential_bytes_s'] / 1e6:.1f} MB/s in a row"
                      for name, seen in event["measured"].items())
    return f"devices: {event['devices']} ({limit}). Measured in the host: {found}"

# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the VMM while its guest writes and flushes: what the guest was told is safe must be in the image, whole."""

import subprocess
import time
from pathlib import Path

from .. import vmm
from .bed import MIB, Bed, StepError, shell
from .block import FIND_DISK

BLOCK, BLOCKS = 4096, 16384
# As in guest/durable_writer.cc.
STRIDE, MULTIPLIER, WORD = 0x9E3779B1, 0x9E3779B97F4A7C15, (1 << 64) - 1
FLUSHES_BEFORE_KILL = 60
WRITE_TIMEOUT = 90
# How a disk may be opened: (name, options of balloon-vmm, format)
MODES = {
    vmm.OURS: [("none_io_uring", "cache=none,engine=io_uring", "raw"), ("writeback_threads", "cache=writeback,engine=threads", "raw"),
               ("writethrough", "cache=writethrough", "raw"), ("qcow2", "cache=none,format=qcow2", "qcow2")],
    "qemu-pc": [("none_io_uring", "", "raw")],
}
MODES[vmm.OLD] = MODES[vmm.OURS]


def durability(bed: Bed, subject: str) -> dict:
    """Blocks that were lost, over all ways to open a disk; and how many had to be there."""
    lost = checked = 0
    for name, options, kind in MODES[subject]:
        image = bed.images.scratch / f"durable-{subject}-{name}.{kind}"
        acknowledged = _write_and_kill(bed, subject, image, options, kind)
        missing = missing_blocks(_as_raw(image, kind), acknowledged)
        if missing:
            print(f"durability: {subject} {name}: {len(missing)} of {acknowledged} blocks lost, the first is number {missing[0]}", flush=True)
        lost += len(missing)
        checked += acknowledged
        image.unlink()
    return {"lost_blocks": lost, "checked_blocks": checked}


def _write_and_kill(bed: Bed, subject: str, image: Path, options: str, kind: str) -> int:
    image.unlink(missing_ok=True)
    if kind == "qcow2":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(BLOCK * BLOCKS)], check=True)
    else:
        with open(image, "wb") as out:
            out.truncate(BLOCK * BLOCKS)
    disk = vmm.Disk(image, "bench", direct=subject not in (vmm.OURS, vmm.OLD), options=options)
    guest = bed.boot(subject, 512 * MIB, vmm.Extras(disks=(bed.tools_disk(), disk)))
    device = shell(guest, FIND_DISK).strip()
    shell(guest, f"/tools/bin/durable_writer /dev/{device} {BLOCKS} >/dev/ttyS0 2>&1 </dev/null &")
    bed.wait_heard(guest, "flushed", WRITE_TIMEOUT, FLUSHES_BEFORE_KILL)
    time.sleep(0.3)  # in the middle of whatever it does
    guest.kill()
    guest.join_console()
    flushed = bed.heard(guest, "flushed")
    bed.close()
    return flushed[-1]["blocks"]


def _as_raw(image: Path, kind: str) -> Path:
    """The image's content as the next VMM would see it."""
    if kind == "raw":
        return image
    check = subprocess.run(["qemu-img", "check", "-q", str(image)], capture_output=True, text=True)
    # 3: clusters that nothing refers to, which a crash may leave (qemu-img(1)).
    if check.returncode not in (0, 3):
        raise StepError(f"qemu-img check of {image.name}: status {check.returncode}: {check.stdout[-300:]} {check.stderr[-300:]}")
    raw = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(raw)], check=True)
    return raw


def block_of(number: int) -> bytes:
    rest = (number * MULTIPLIER + 1) & WORD
    return number.to_bytes(8, "little") + rest.to_bytes(8, "little") * (BLOCK // 8 - 1)


def missing_blocks(image: Path, acknowledged: int) -> list[int]:
    """Numbers below `acknowledged` whose block is not whole in the image."""
    missing = []
    with open(image, "rb") as file:
        for number in range(acknowledged):
            file.seek(number * STRIDE % BLOCKS * BLOCK)
            if file.read(BLOCK) != block_of(number):
                missing.append(number)
    return missing

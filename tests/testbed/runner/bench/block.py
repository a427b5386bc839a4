# SPDX-License-Identifier: Apache-2.0
"""fio in the guest on a raw disk of its own, past both page caches."""

import os

from .. import vmm
from .bed import MIB, Bed, StepError, shell, tool

DISK = 256 * MIB
# The driver's serial numbers tell disks apart, whatever their order.
FIND_DISK = "for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = bench ] && echo ${d##*/}; done; true"
JOB_SECONDS = 4
# A job is its name, fio's options, and which side of the terse line counts.
JOBS = [
    ("randread_qd1", "--rw=randread --bs=4k --iodepth=1", "read_iops"),
    ("randread_qd32", "--rw=randread --bs=4k --iodepth=32", "read_iops"),
    ("randwrite_qd1", "--rw=randwrite --bs=4k --iodepth=1", "write_iops"),
    ("randwrite_qd32", "--rw=randwrite --bs=4k --iodepth=32", "write_iops"),
    ("randwrite_fsync", "--rw=randwrite --bs=4k --iodepth=1 --fsync=1", "write_iops"),
    ("seqread", "--rw=read --bs=1m --iodepth=4", "read_kib_s"),
    ("seqwrite", "--rw=write --bs=1m --iodepth=4 --end_fsync=1", "write_kib_s"),
]
# Starting fio reads 80 MB of libraries through an emulated disk.
FIO_TIMEOUT = 60 + len(JOBS) * (JOB_SECONDS + 4)
# Fields of fio's terse output, version 3 (fio's HOWTO, "Terse output"): job's name, error, then bandwidth in KiB/s and IOPS of reads and writes.
FIELDS = {3: "job", 5: "error", 7: "read_kib_s", 8: "read_iops", 48: "write_kib_s", 49: "write_iops"}


def block(bed: Bed, subject: str) -> dict:
    image = bed.images.scratch / f"bench-{subject}.raw"
    if not image.exists():
        make_disk(image, DISK)
    bench = vmm.Disk(image, "bench", direct=True)
    guest = bed.boot(subject, 512 * MIB, vmm.Extras(disks=(bed.tools_disk(), bench)))
    device = shell(guest, FIND_DISK).strip()
    shell(guest, tool(fio_command(f"/dev/{device}")) + " 2>&1", FIO_TIMEOUT)
    lines = shell(guest, f"cut -d';' -f{','.join(map(str, FIELDS))} /tools/tmp/fio").split()
    return figures(lines)


def fio_command(device: str) -> str:
    shared = (f"fio --filename={device} --ioengine=libaio --direct=1 --time_based --runtime={JOB_SECONDS} --size={DISK} --randrepeat=1"
              " --norandommap --output-format=terse --terse-version=3 --output=/tmp/fio")
    return shared + "".join(f" --name={name} {options} --stonewall" for name, options, _ in JOBS)


def figures(lines: list[str]) -> dict:
    """The figure of each job, from fio's terse lines cut to FIELDS."""
    rows = {}
    for line in lines:
        row = dict(zip(FIELDS.values(), line.split(";")))
        rows[row["job"]] = row
    found = {}
    for name, _, column in JOBS:
        row = rows.get(name)
        if row is None or row["error"] != "0":
            raise StepError(f"fio's job {name}: {'no result' if row is None else 'error ' + row['error']}")
        value = float(row[column])
        found[f"block_{name}"] = value / 1024 if column.endswith("kib_s") else value
    return found


def make_disk(image, size: int):
    """Bytes that no layer can compress, all written: a hole would be filled while it is measured."""
    noise = os.urandom(MIB)
    with open(image, "wb") as out:
        for number in range(size // MIB):
            out.write(noise[number:] + noise[:number])
        out.flush()
        os.fsync(out.fileno())
        # What is in the host's page cache is dropped page by page, and not by io_uring's quick way, as the guest writes.
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

# SPDX-License-Identifier: Apache-2.0
"""Testbed cases of real programs in Debian guests (part of runner/cases.py)."""

from .case_bed import MIB, Bed, expect, expect_clean_power_off
from .workloads.drive import ask_work, debian_guest

READ, FILL = 96, 32
# What programs' own files and the directory of /data may add.
NEARLY = 2 * MIB


def case_redis_and_a_reader_do_their_amounts_of_work_in_a_debian_guest(bed: Bed):
    """In a Debian guest, a second pass over files reads nothing from the disk, redis fills memory and answers, and an unknown work is refused."""
    session = bed.open()
    guest = bed.boot(memory=512 * MIB, extras=debian_guest(session, "A"))
    read = _done(guest, f"files read {READ}M 2")
    expect(READ * MIB <= read["pass_bytes"][0] <= READ * MIB + NEARLY, f"the first pass read {read['pass_bytes'][0]} bytes from the disk")
    expect(read["pass_bytes"][1] <= NEARLY and read["counters"]["workingset_refault_file"] == 0, f"the second pass: {read}")
    free = guest.status()["meminfo"]["MemAvailable"]
    _done(guest, f"redis fill {FILL}M")
    taken = free - guest.status()["meminfo"]["MemAvailable"]
    expect(FILL * MIB <= taken, f"{FILL} MiB in redis took {taken} bytes of the guest's memory")
    answered = _done(guest, "redis get 200")
    expect(answered["unit"] == "requests/s" and answered["figures"][0] > 0, f"redis-benchmark: {answered}")
    bed.notes.append(f"passes {read['figures']} s, redis {answered['figures'][0]:.0f} requests/s")
    expect("unknown work" in ask_work(guest, "redis explode").get("error", ""), "unknown work is not refused")
    expect_clean_power_off(guest)


def _done(guest, command: str) -> dict:
    result = ask_work(guest, command)
    expect("error" not in result, f"{command}: {result}")
    return result


WORKLOAD_CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}

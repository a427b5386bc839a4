# SPDX-License-Identifier: Apache-2.0
"""What ballooning does to the huge pages that a guest's memory is made of."""

import re
import time
from pathlib import Path
from typing import Callable

from .. import vmm as vmms
from ..bench.bed import MIB, SETTLE_SECONDS, Bed, connect_qmp, wait_until

THP = Path("/sys/kernel/mm/transparent_hugepage")
MEMORY = 512 * MIB
# The balloon takes and returns a quarter of the guest.
MOVED = 128 * MIB
# What the guest uses and frees before and after, so that its host has memory for it: nearly all that its kernel leaves.
TOUCHED_MIB = 384
CYCLES = 20
# Nothing here is about time, and the emulated host is slower the busier the machine is.
PATIENCE = 600
NEARLY = 1 * MIB
# balloon-vmm makes huge pages whole some time after the balloon gave them back.
AFTER_CYCLES_SECONDS = 5
# Each VMM, with how the host makes a huge page at a fault ("never": only where one is free; the testbed's own setting, docs in its README).
CASES = (("balloon-vmm", "never"), ("qemu-pc", "never"))


def measure(bed: Bed, vmm: str, defrag: str, tell: Callable[[str], None]) -> dict:
    """tell: takes what is done, for who waits for minutes."""
    before_defrag = selected((THP / "defrag").read_text())
    (THP / "defrag").write_text(defrag)
    try:
        return _cycles(bed, vmm, defrag, tell)
    finally:
        (THP / "defrag").write_text(before_defrag)


def _cycles(bed: Bed, vmm: str, defrag: str, tell: Callable[[str], None]) -> dict:
    path = bed.socket("qmp.sock")
    guest = bed.start(vmm, "facts", MEMORY, vmms.Extras(qmp=path))
    guest.wait_ready(PATIENCE)
    qmp = connect_qmp(path)

    def move(target: int):
        qmp("balloon", value=target)
        wait_until(f"the balloon to reach {target // MIB} MiB", lambda: abs(qmp("query-balloon")["actual"] - target) <= NEARLY, PATIENCE)

    def touch():
        touched = len(bed.heard(guest, "loaded"))
        guest.ask(f"load {TOUCHED_MIB}M")
        bed.wait_heard(guest, "loaded", PATIENCE, touched + 1)
        guest.ask("free")
        time.sleep(SETTLE_SECONDS)

    touch()
    before = backing(guest.pid)
    after_one = before
    tell(f"{vmm}: {before['huge'] // MIB} MiB in huge pages before")
    for cycle in range(CYCLES):
        move(MEMORY - MOVED)
        move(MEMORY)
        tell(f"{vmm}: {backing(guest.pid)['huge'] // MIB} MiB after {cycle + 1} cycles")
        if cycle == 0:
            time.sleep(AFTER_CYCLES_SECONDS)
            touch()
            after_one = backing(guest.pid)
    time.sleep(AFTER_CYCLES_SECONDS)
    after = backing(guest.pid)
    touch()
    touched = backing(guest.pid)
    return {"fact": "huge_pages", "vmm": vmm, "thp": selected((THP / "enabled").read_text()), "defrag": defrag,
            "memory_mib": MEMORY // MIB, "moved_mib": MOVED // MIB,
            "before_mib": before["huge"] / MIB, "resident_before_mib": before["resident"] / MIB,
            "after_1_cycle_mib": after_one["huge"] / MIB,
            "untouched_after_mib": after["huge"] / MIB, "resident_untouched_mib": after["resident"] / MIB,
            "after_20_cycles_mib": touched["huge"] / MIB, "resident_after_mib": touched["resident"] / MIB}


def backing(pid: int) -> dict[str, int]:
    """Bytes of the process that are there, and of them what huge pages hold (Documentation/filesystems/proc.rst, smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return {"resident": kib["Rss"] * 1024,
            "huge": (kib["AnonHugePages"] + kib["ShmemPmdMapped"] + kib["FilePmdMapped"]) * 1024}


def selected(setting: str) -> str:
    """Which of a setting's words has the brackets."""
    return re.search(r"\[(.+?)\]", setting).group(1)

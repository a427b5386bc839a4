# SPDX-License-Identifier: Apache-2.0
"""Figures of the KVM host and of single processes, from /proc."""

import re
from pathlib import Path

PAGE = 4096
# Mappings of guest RAM are large; a VMM's own largest one (a library, an arena) is smaller than this.
GUEST_RAM_MAPPING_MIN = 128 << 20


def meminfo() -> dict[str, int]:
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values


def vmstat() -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in Path("/proc/vmstat").read_text().splitlines())}


def memory_pressure() -> dict[str, dict[str, float]]:
    """PSI: {"some": {"avg10": percent, "total": microseconds}, "full": ...} (Documentation/accounting/psi.rst)."""
    found = {}
    try:
        text = Path("/proc/pressure/memory").read_text()
    except OSError:
        return {"some": {"avg10": 0.0, "total": 0.0}, "full": {"avg10": 0.0, "total": 0.0}}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(item.split("=") for item in fields)
        found[kind] = {"avg10": float(values["avg10"]), "total": float(values["total"])}
    return found


def sample() -> dict:
    memory, counters, pressure = meminfo(), vmstat(), memory_pressure()
    return {
        "total": memory["MemTotal"], "free": memory["MemFree"], "available": memory["MemAvailable"],
        "swap_used": memory["SwapTotal"] - memory["SwapFree"],
        "swap_in_pages": counters["pswpin"], "swap_out_pages": counters["pswpout"], "oom_kills": counters["oom_kill"],
        "psi_some_avg10": pressure["some"]["avg10"], "psi_full_avg10": pressure["full"]["avg10"],
        "psi_some_us": pressure["some"]["total"], "psi_full_us": pressure["full"]["total"],
    }


def process(pid: int) -> dict | None:
    """Resident and swapped bytes and CPU seconds of a process; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    kib = {name: int(value) for name, value in re.findall(r"^(VmRSS|VmSwap):\s+(\d+)", status, re.MULTILINE)}
    # Fields after the command's closing parenthesis: utime and stime are the 12th and 13th, in 1/100 s (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return {"rss": kib.get("VmRSS", 0) * 1024, "swap": kib.get("VmSwap", 0) * 1024,
            "cpu": (int(fields[11]) + int(fields[12])) / 100}


def vmm_overhead(pid: int, guest_memory: int) -> dict | None:
    """What a VMM process has beside its guest's RAM: private bytes and proportional set size. Guest RAM is told by the
    size of its mappings, which must add up to at least the guest's memory."""
    try:
        text = Path(f"/proc/{pid}/smaps").read_text()
    except OSError:
        return None
    private = pss = ram_mapped = ram_resident = 0
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", block, re.MULTILINE)}
        header = block.split("\n", 1)[0].split()
        named_file = len(header) > 5 and header[5].startswith("/") and "memfd" not in header[5]
        accessible = header[1][0] != "-"
        if kib.get("Size", 0) * 1024 >= GUEST_RAM_MAPPING_MIN and not named_file and accessible:
            ram_mapped += kib["Size"] * 1024
            ram_resident += kib["Rss"] * 1024
        else:
            private += (kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)) * 1024
            pss += kib.get("Pss", 0) * 1024
    return {"private": private, "pss": pss, "ram_mapped": ram_mapped, "ram_resident": ram_resident,
            "ram_found": ram_mapped >= guest_memory}

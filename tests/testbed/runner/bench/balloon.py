# SPDX-License-Identifier: Apache-2.0
"""The balloon: how fast it shrinks and grows a guest and at what cost, statistics, and free page reporting."""

import json
import subprocess
import time

from .. import host, vmm
from .bed import GIB, MIB, SETTLE_SECONDS, Bed, StepError, connect_qmp, cpu_seconds, shell, wait_until
from .kvm_trace import KvmTrace, guest_time

MOVED = 1 * GIB
MEMORY = 1536 * MIB
MOVE_TIMEOUT = 150
# What the balloon gives goes back in huge pages or in small ones, as the guest's free memory happens to lie: by that alone the cost
# varies fivefold.
COMPACT = "echo 3 >/proc/sys/vm/drop_caches && echo 1 >/proc/sys/vm/compact_memory"
# The driver's size is a multiple of pages; what is missing beyond this is not there.
NEARLY = 1 * MIB
# The host has its memory back when the VMM's RSS has fallen by nearly as much. balloon-vmm gathers pages into huge ones for up to
# 2 s before it releases them; what is not back by then does not come.
BACK = 0.98
RELEASE_SECONDS = 5
REPORT_MEMORY = 2 * GIB
# The driver looks for free pages 2 s after some were freed, and then each 2 s (mm/page_reporting.c: PAGE_REPORTING_DELAY). A pass takes
# a sixteenth of a free list, and at least 32 of its blocks: of 1 GiB a quarter.
DRIVER_DELAY = 2
DRIVER_PASSES = 4
REPORT_SECONDS = 5
REPORT_LIMIT = 40
STATS_SAMPLES = 300
STATS_TIMEOUT = 90


def balloon(bed: Bed, subject: str) -> dict:
    """All of the guest's memory is in the host's; 1 GiB of it, which the guest has used and freed, goes and comes back."""
    path = bed.socket("qmp.sock")
    guest = bed.boot(subject, MEMORY, vmm.Extras(qmp=path, preallocate=True))
    bed.touch_and_free(guest, MOVED // MIB)
    shell(guest, COMPACT)
    qmp = connect_qmp(path)
    time.sleep(SETTLE_SECONDS)

    def move(target: int) -> float:
        """Returns when it began."""
        started = time.monotonic()
        qmp("balloon", value=target)
        wait_until(f"the balloon to reach {target // MIB} MiB", lambda: abs(qmp("query-balloon")["actual"] - target) <= NEARLY, MOVE_TIMEOUT)
        return started

    resident, (total, vcpu) = host.process(guest.pid)["rss"], cpu_seconds(guest)
    started = move(MEMORY - MOVED)
    arrived = time.monotonic()
    while (fell := resident - host.process(guest.pid)["rss"]) < BACK * MOVED and time.monotonic() - arrived < RELEASE_SECONDS:
        time.sleep(0.05)
    shrink = time.monotonic() - started
    time.sleep(1)
    fell = resident - host.process(guest.pid)["rss"]
    total_after, vcpu_after = cpu_seconds(guest)
    claimed = MEMORY - qmp("query-balloon")["actual"]
    started = move(MEMORY)
    grow = time.monotonic() - started
    gib = MOVED / GIB
    return {"shrink_mib_s": MOVED / MIB / shrink, "grow_mib_s": MOVED / MIB / grow,
            "shrink_cpu_s_gib": (total_after - total - (vcpu_after - vcpu)) / gib,
            "shrink_cpu_all_s_gib": (total_after - total) / gib, "rss_fall_percent": 100 * fell / claimed}


def reporting(bed: Bed, subject: str) -> dict:
    """The guest uses 1 GiB and frees it: how much of that the host has back 5 s after the driver's own delay, and when it has 90 %."""
    guest = bed.boot(subject, REPORT_MEMORY, reporting=True)
    bed.touch(guest, MOVED // MIB)
    resident = host.process(guest.pid)["rss"]
    if resident < MOVED:
        raise StepError(f"the guest touched {MOVED // MIB} MiB, and its VMM has {resident // MIB} MiB")
    guest.ask("free")
    freed, share, nine_tenths = time.monotonic(), None, None
    while nine_tenths is None or share is None:
        since = time.monotonic() - freed
        back = (resident - host.process(guest.pid)["rss"]) / MOVED
        if nine_tenths is None and back >= 0.9:
            nine_tenths = since
        if share is None and since >= DRIVER_PASSES * DRIVER_DELAY + REPORT_SECONDS:
            share = back
        if since > REPORT_LIMIT:
            break
        time.sleep(0.1)
    return {"reported_percent": 100 * share} | ({"reported_90_s": nine_tenths} if nine_tenths else {})


def statistics(bed: Bed, subject: str) -> dict:
    """Round trips of on-demand statistics: from the VMM's request to the guest's buffer, by the VMM's own account, and over the link. The
    guest's own time is from the interrupt that KVM sends it to its write that tells of the buffer; the rest is the VMM's."""
    path = bed.socket("probe.sock")
    probe = subprocess.Popen(["stats-probe", str(path), str(STATS_SAMPLES)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until("the probe to listen", path.exists, 60)
        with KvmTrace() as trace:
            bed.boot(subject, 512 * MIB, vmm.Extras(link=str(path)))
            out, err = probe.communicate(timeout=STATS_TIMEOUT)
        sent, written = trace.read()
    except subprocess.TimeoutExpired:
        raise StepError(f"the probe did not get {STATS_SAMPLES} samples in {STATS_TIMEOUT} s")
    finally:
        if probe.poll() is None:
            probe.kill()
            probe.wait()
    if probe.returncode != 0:
        raise StepError(f"stats-probe: status {probe.returncode}: {err.strip()[-300:]}")
    found = json.loads(out)
    of_guest = [guest_time(sent, written, asked / 1e6, (asked + link) / 1e6) for asked, link in zip(found["asked_at_us"], found["link_us"])]
    if missing := of_guest.count(None):
        raise StepError(f"KVM's trace lacks {missing} of {STATS_SAMPLES} round trips")
    beyond = sorted(whole - 1e6 * guest for whole, guest in zip(found["round_trip_us"], of_guest))
    whole, link = sorted(found["round_trip_us"]), sorted(found["link_us"])
    return {"stats_p50_ms": _percentile(whole, 50) / 1000, "stats_p99_ms": _percentile(whole, 99) / 1000,
            "stats_vmm_p50_ms": _percentile(beyond, 50) / 1000, "stats_vmm_p99_ms": _percentile(beyond, 99) / 1000,
            "stats_link_p50_ms": _percentile(link, 50) / 1000, "stats_link_p99_ms": _percentile(link, 99) / 1000}


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]

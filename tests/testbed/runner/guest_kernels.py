# SPDX-License-Identifier: Apache-2.0
"""What each Debian kernel's drivers can do with our devices, asked of the guest itself (docs/guest-kernels.md has the table)."""

from dataclasses import dataclass
from pathlib import Path

from .guest import Guest

DIRECTORY = Path("/opt/testbed/kernels")
# Debian 12's kernel for all machines (builder/guest_kernels.py); the others are cloud kernels, with fewer drivers.
ORDINARY = "6.1-ordinary"
BALLOON_ID = "0x0005"  # virtio 1.2, 5: device types
# virtio 1.2, 5.5.3 and 6: bits of the balloon, and of all devices.
FEATURES = {0: "must-tell-host", 1: "statistics", 2: "deflate-on-oom", 3: "free-page-hinting", 4: "page-poison", 5: "free-page-reporting",
            28: "indirect", 29: "event-idx", 32: "version-1", 33: "access-platform", 34: "packed-ring"}
# Values of the QMP property guest-stats that a driver does not send.
UNSET = (1 << 64) - 1

ALWAYS = {"stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory", "stat-total-memory",
          "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail"}
SINCE_6_12 = {"stat-oom-kills", "stat-alloc-stalls", "stat-async-scans", "stat-direct-scans", "stat-async-reclaims", "stat-direct-reclaims"}


@dataclass(frozen=True)
class Expected:
    tags: frozenset[str]
    features: frozenset[str] = frozenset({"statistics", "deflate-on-oom", "free-page-hinting", "free-page-reporting", "version-1"})


EXPECTED = {
    "5.10": Expected(frozenset(ALWAYS)),
    "6.1": Expected(frozenset(ALWAYS)),
    "6.12": Expected(frozenset(ALWAYS | SINCE_6_12)),
}


def balloon_features(guest: Guest) -> set[str]:
    """What the guest's driver agreed with the balloon."""
    answer = guest.ask('sh for d in /sys/bus/virtio/devices/*; do echo "$(cat $d/device) $(cat $d/features)"; done')
    return features_in(answer["output"])


def features_in(output: str) -> set[str]:
    """From pairs of a device's id and its features, a character a bit, the lowest first (drivers/virtio/virtio.c: features_show)."""
    words = output.split()
    bits = next(features for device, features in zip(words[::2], words[1::2]) if device == BALLOON_ID)
    return {FEATURES.get(bit, f"bit-{bit}") for bit, value in enumerate(bits) if value == "1"}


def sent_tags(stats: dict[str, int]) -> set[str]:
    return {name for name, value in stats.items() if value != UNSET}


def facts(guest: Guest) -> dict[str, str]:
    """What else is good to know of a guest's kernel."""
    return {"release": _said(guest, "cat /proc/sys/kernel/osrelease"),
            "clocksource": _said(guest, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"),
            "tsc-deadline-timer": "yes" if _said(guest, "dmesg | grep -c 'TSC deadline timer' || true") not in ("", "0") else "no",
            "drivers": " ".join(_said(guest, "for d in /sys/bus/virtio/drivers/*; do echo ${d##*/}; done").split())}


def _said(guest: Guest, command: str) -> str:
    return guest.ask(f"sh {command}")["output"].strip()

# SPDX-License-Identifier: Apache-2.0
"""What a guest's own tools say of its devices: lspci, /proc/interrupts, the virtio bus in sysfs, ethtool."""

import re
from dataclasses import dataclass

from .guest import Guest

# Name in the list of PCI ids -> driver of Linux, and the queues that it asks an interrupt for, as it names them.
DRIVERS = {
    "memory balloon": ("virtio_balloon", {"inflate", "deflate", "stats"}),
    "network device": ("virtio_net", {"input.0", "output.0"}),
    "block device": ("virtio_blk", {"req.0"}),
    "console": ("virtio_console", {"input", "output"}),
    "RNG": ("virtio_rng", {"input"}),
}
RING_RESET = 40  # virtio 1.2, 6: VIRTIO_F_RING_RESET


class InspectionError(Exception):
    pass


def shell(guest: Guest, command: str) -> str:
    """What the command says in the guest; it must end with status 0."""
    answer = guest.ask(f"sh {command}")
    if answer["status"] != 0:
        raise InspectionError(f"'{command}' in the guest: status {answer['status']}: {answer['output'][-300:]}")
    return answer["output"]


def listed_devices(lspci: str) -> list[str]:
    """The paragraphs of `lspci -v`, one a device."""
    return [block.strip() for block in re.split(r"\n\s*\n", lspci) if block.strip()]


def paragraph_of(lspci: str, name: str) -> str:
    """That of the one device whose name ends so, before its ids."""
    found = [block for block in listed_devices(lspci) if f" {name} [1af4:" in block.splitlines()[0]]
    if len(found) != 1:
        raise InspectionError(f"lspci lists {len(found)} devices '{name}', expected one")
    return found[0]


def bound_drivers(guest: Guest) -> dict[str, str]:
    """Driver -> its device on the virtio bus ("virtio0"); a device without one has the driver ""."""
    said = shell(guest, 'for d in /sys/bus/virtio/devices/*; do echo "${d##*/} $(busybox readlink $d/driver)"; done')
    pairs = [line.partition(" ")[::2] for line in said.splitlines()]
    return {driver.rpartition("/")[2]: device for device, driver in pairs}


@dataclass(frozen=True)
class Interrupt:
    count: int
    message: bool  # by MSI-X, not by a pin


def interrupts_in(text: str) -> dict[str, Interrupt]:
    """From /proc/interrupts, by the name that the driver gave ("virtio0-input.0")."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or not words[0].rstrip(":").isdigit():
            continue
        counts = re.match(r"\s*\d+:((?:\s+\d+)+)\s", line)
        for name in (word.rstrip(",") for word in words[2:] if word.startswith("virtio")):
            found[name] = Interrupt(sum(map(int, counts[1].split())), "PCI-MSI" in line)
    return found


def ring_sizes(ethtool: str) -> tuple[dict[str, int], dict[str, int]]:
    """From `ethtool -g`: the largest that the device takes, and what is in use; of "RX" and "TX"."""
    most, _, used = ethtool.partition("Current hardware settings")
    sizes = lambda text: {name: int(size) for name, size in re.findall(r"^(RX|TX):\s+(\d+)", text, re.MULTILINE)}
    return sizes(most), sizes(used)

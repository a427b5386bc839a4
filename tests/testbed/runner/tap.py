# SPDX-License-Identifier: Apache-2.0
"""Persistent tap interfaces, by ioctl: busybox's ip cannot make them."""

import fcntl
import struct
import subprocess

# linux/if_tun.h
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


def make_tap(name: str, address: str):
    """A new interface that is up with that address ("10.0.0.1/24"): one of that name from before may still have the address filter
    and the offloads of a VMM that was killed."""
    subprocess.run(["ip", "link", "delete", name], stderr=subprocess.DEVNULL, check=False)
    with open("/dev/net/tun", "r+b", buffering=0) as tun:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        fcntl.ioctl(tun, TUNSETPERSIST, 1)
    subprocess.run(["ip", "addr", "add", address, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)

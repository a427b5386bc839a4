# SPDX-License-Identifier: Apache-2.0
"""Runs a script in a Debian tree, at the speed of this machine and with its network."""

import subprocess
from pathlib import Path

from .errors import TestbedError
from .shell import find_tool

# In a mount namespace of its own, so that nothing stays mounted whatever becomes of it.
ENTER = """
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t sysfs sys "$1/sys"
: >"$1/etc/resolv.conf"
mount --bind "$(realpath /etc/resolv.conf)" "$1/etc/resolv.conf"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 bash -e
"""


def run_in(tree: Path, script: str) -> str:
    """What the script said."""
    done = subprocess.run([find_tool("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "sh", tree], input=script,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise TestbedError(f"in the chroot: status {done.returncode}: {' / '.join(done.stdout.strip().splitlines()[-6:])}")
    return done.stdout

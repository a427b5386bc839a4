# SPDX-License-Identifier: Apache-2.0
"""Runs the few host tools that the build needs, with errors that name the tool and what it said."""

import shutil
import subprocess

from .errors import TestbedError

# Tool -> Debian package, for the message when it is absent.
PACKAGE_OF = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs", "lz4": "lz4", "depmod": "kmod",
    "busybox": "busybox-static", "g++": "g++", "ldd": "libc-bin", "dpkg": "dpkg", "apt-get": "apt", "apt-cache": "apt",
    "mkswap": "util-linux", "fio": "fio", "iperf3": "iperf3", "lspci": "pciutils", "ethtool": "ethtool", "xz": "xz-utils",
    "mmdebstrap": "mmdebstrap", "tar": "tar", "dpkg-deb": "dpkg", "unshare": "util-linux",
}


def find_tool(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise TestbedError(f"{name} is missing: install {PACKAGE_OF.get(name, name)} (scripts/install-deps.sh does)")
    return path


def run_tool(name: str, *arguments, cwd=None, stdin_text: str | None = None) -> str:
    done = subprocess.run([find_tool(name), *map(str, arguments)], cwd=cwd, input=stdin_text, text=True, capture_output=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise TestbedError(f"{name} {' '.join(map(str, arguments))}: status {done.returncode}: {' / '.join(said[-3:])}")
    return done.stdout

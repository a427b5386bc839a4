# SPDX-License-Identifier: Apache-2.0
"""Writes an initramfs (cpio "newc", Documentation/driver-api/early-userspace/buffer-format.rst), owned by root."""

import stat
from pathlib import Path


class Initramfs:
    def __init__(self):
        self._entries = []  # (name, mode, content, device)
        self._directories = set()
        self.device("dev/console", 5, 1)

    def add(self, name: str, content: bytes, mode: int = 0o755):
        self._parents(name)
        self._entries.append((name, stat.S_IFREG | mode, content, (0, 0)))

    def add_file(self, name: str, source: Path):
        self.add(name, source.read_bytes(), source.stat().st_mode & 0o777)

    def directory(self, name: str):
        if name and name not in self._directories:
            self._parents(name)
            self._directories.add(name)
            self._entries.append((name, stat.S_IFDIR | 0o755, b"", (0, 0)))

    def symlink(self, name: str, target: str):
        self._parents(name)
        self._entries.append((name, stat.S_IFLNK | 0o777, target.encode(), (0, 0)))

    def device(self, name: str, major: int, minor: int):
        self._parents(name)
        self._entries.append((name, stat.S_IFCHR | 0o600, b"", (major, minor)))

    def write(self, path: Path):
        with open(path, "wb") as out:
            for inode, (name, mode, content, device) in enumerate(self._entries, 1):
                out.write(_record(name, inode, mode, content, device))
            out.write(_record("TRAILER!!!", 0, 0, b"", (0, 0)))

    def _parents(self, name: str):
        if "/" in name:
            self.directory(name.rpartition("/")[0])


def _record(name: str, inode: int, mode: int, content: bytes, device) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _aligned(header) + _aligned(content)


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

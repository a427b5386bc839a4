# SPDX-License-Identifier: Apache-2.0
"""A list of files to be put into an image, which knows the libraries that programs need."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .cache import digest_of
from .cpio import Initramfs
from .errors import TestbedError
from .shell import find_tool, run_tool


class Tree:
    def __init__(self):
        self._files: dict[str, Path] = {}
        self._texts: dict[str, tuple[str, int]] = {}
        self._links: dict[str, str] = {}
        self._directories: set[str] = set()

    def file(self, destination: str, source: Path):
        if not source.is_file():
            raise TestbedError(f"{source} is missing; it goes into the testbed as {destination}")
        self._files[destination.lstrip("/")] = source

    def text(self, destination: str, content: str, mode: int = 0o644):
        self._texts[destination.lstrip("/")] = (content, mode)

    def link(self, destination: str, target: str):
        self._links[destination.lstrip("/")] = target

    def directory(self, destination: str):
        self._directories.add(destination.lstrip("/"))

    def folder(self, destination: str, source: Path, skip=()):
        """All files below a directory, without those whose relative path starts with one of `skip`."""
        for parent, _, names in os.walk(source):
            for name in names:
                path = Path(parent) / name
                relative = path.relative_to(source).as_posix()
                if not relative.startswith(tuple(skip)) and path.is_file():
                    self.file(f"{destination}/{relative}", path)

    def program(self, destination: str, source: Path):
        """An executable (or shared object), with the libraries that ldd names for it, at their own paths."""
        self.file(destination, source)
        for library in shared_libraries(source):
            self.file(str(library), library)

    def contains(self, destination: str) -> bool:
        return destination.lstrip("/") in self._files

    def digest(self) -> str:
        return digest_of(sorted(self._texts.items()), sorted(self._links.items()), sorted(self._directories),
                         *[part for item in sorted(self._files.items()) for part in item])

    def add_to(self, image: Initramfs):
        """The files, without texts, links and empty directories, into an initramfs."""
        for name, source in sorted(self._files.items()):
            image.add_file(name, source)

    def write_ext4(self, image: Path, size_mib: int, label: str):
        """The tree as an ext4 image. No journal: these images are read-only where they are used."""
        staging = image.with_name(image.name + ".tree")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            self._stage(staging)
            make_ext4(image, size_mib, label, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _stage(self, root: Path):
        root.mkdir(parents=True)
        for name in sorted(self._directories):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, source in self._files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / name)
        for name, (content, mode) in self._texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
            (root / name).chmod(mode)
        for name, target in self._links.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)


def make_ext4(image: Path, size_mib: int, label: str, source: Path | None = None):
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0", "-L", label,
               "-E", "root_owner=0:0,lazy_itable_init=1"]
    if source:
        options += ["-d", str(source)]
    run_tool("mke2fs", *options, image, f"{size_mib}m")


def shared_libraries(program: Path) -> list[Path]:
    done = subprocess.run([find_tool("ldd"), program], text=True, capture_output=True)
    if "not a dynamic executable" in done.stdout + done.stderr or "statically linked" in done.stdout:
        return []
    if "not found" in done.stdout or done.returncode != 0:
        raise TestbedError(f"ldd {program}: {(done.stderr or done.stdout).strip()}")
    return [Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+)", done.stdout, re.MULTILINE)]

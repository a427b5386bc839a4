# SPDX-License-Identifier: Apache-2.0
"""Our Debian packages (scripts/package.sh makes them), a Debian 12 that they can be installed in, and a later version of them."""

import re
import shutil
from pathlib import Path
from typing import Sequence

from .apt import own_archive_lines
from .cache import Cache, digest_of
from .shell import run_tool

PROGRAMS = ["balloon-sim", "balloon-vmm", "balloonctl", "balloond"]
PACKAGES = sorted([*PROGRAMS, "balloond-libvirt"], key=lambda name: f"{name}_")
RELEASE = "bookworm"
NEXT = "999.0"
# Beside what the packages depend on: a host that boots, and what uses pages and completions.
HOST = ["systemd", "systemd-sysv", "udev", "kmod", "man-db", "bash-completion"]


def field(deb: Path, name: str) -> str:
    return run_tool("dpkg-deb", "-f", deb, name).strip()


def dependencies(debs: list[Path]) -> list[str]:
    """Names only: the first of alternatives, as apt takes it."""
    names = {re.split(r"[ (|]", one.strip())[0] for deb in debs for one in field(deb, "Depends").split(",")}
    return sorted(names - set(PACKAGES))


def debian_root(cache: Cache, debs: list[Path], name: str = "debian/packages-root.tar", further: Sequence[str] = ()) -> Path:
    """That Debian with further packages, without ours, as an archive."""
    wanted = sorted({*dependencies(debs), *HOST, *further})

    def make(path: Path):
        run_tool("mmdebstrap", "--variant=minbase", "--quiet", "--format=tar", f"--include={','.join(wanted)}",
                 '--aptopt=APT::Install-Recommends "false"', RELEASE, path, "-",
                 stdin_text="".join(f"{line}\n" for line in own_archive_lines(RELEASE)))

    return cache.artefact(name, digest_of(1, wanted, RELEASE), make)


def next_version(debs: list[Path], into: Path):
    """The same packages as a later version, with another default in files that administrators change."""
    for deb in debs:
        tree = into / deb.stem
        run_tool("dpkg-deb", "-R", deb, tree)
        control = tree / "DEBIAN/control"
        this = field(deb, "Version")
        control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {NEXT}", control.read_text()).replace(f"(= {this})", f"(= {NEXT})"))
        for name in ("balloond.yaml", "policy.yaml"):
            if (file := tree / "etc/balloond" / name).exists():
                file.write_text(f"{file.read_text()}# of the next version\n")
        run_tool("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, into)
        shutil.rmtree(tree)

# SPDX-License-Identifier: Apache-2.0
"""Debian packages, of the machine's own release or of another one, from the mirror that the machine's apt uses."""

import re
from dataclasses import dataclass
from pathlib import Path

from .cache import Cache
from .errors import TestbedError
from .shell import run_tool

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Apt:
    """apt with these options; none: as the machine has it."""
    options: tuple[str, ...] = ()

    def names(self, prefix: str) -> list[str]:
        return run_tool("apt-cache", *self.options, "pkgnames", prefix).split()

    def dependency(self, package: str, prefix: str) -> str:
        """What the (meta) package depends on that starts so."""
        match = re.search(rf"Depends: ({re.escape(prefix)}\S+)", run_tool("apt-cache", *self.options, "depends", "--important", package))
        if not match:
            raise TestbedError(f"apt knows no {package}: run 'apt-get update' with a Debian 12 mirror")
        return match.group(1)

    def unpack(self, package: str, path: Path):
        """Downloads the package and unpacks its files there."""
        path.mkdir(parents=True)
        # As root, apt says on stderr that it downloads unsandboxed; that is fine here.
        try:
            run_tool("apt-get", *self.options, "download", "-qq", package, cwd=path)
        except TestbedError as error:
            raise TestbedError(f"cannot download {package} (is the package mirror reachable, is 'apt-get update' recent?): {error}")
        deb = next(path.glob("*.deb"))
        run_tool("dpkg", "-x", deb, path)
        deb.unlink()


def release(cache: Cache, codename: str) -> Apt:
    """apt for another Debian release: package lists of its own, which the machine's apt does not see."""
    root = cache.root / "apt" / codename
    for name in ("state/lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True, exist_ok=True)
    sources = root / "sources.list"
    sources.write_text("".join(f"{line}\n" for line in own_archive_lines(codename)))
    apt = Apt(("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State={root / 'state'}",
               "-o", f"Dir::Cache={root / 'cache'}", "-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root",
               # A release that Debian no longer updates has lists past their date.
               "-o", "Acquire::Check-Valid-Until=false"))
    try:
        run_tool("apt-get", *apt.options, "update", "-qq", "--error-on=any")
    except TestbedError as error:
        raise TestbedError(f"cannot read Debian {codename}'s package lists (is the package mirror reachable?): {error}")
    return apt


def _own_archives() -> list[tuple[str, str]]:
    """(label, URI) of the Debian archives that the machine's apt uses."""
    lines = run_tool("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages").splitlines()
    return [(label, uri) for origin, label, uri in (line.split("|") for line in lines) if origin == "Debian"]


def own_archive_lines(codename: str) -> list[str]:
    """Lines of sources for that release, from the mirror that the machine's apt uses."""
    return source_lines(_own_archives(), codename)


def source_lines(archives: list[tuple[str, str]], codename: str) -> list[str]:
    suites = {"Debian": codename, "Debian-Security": f"{codename}-security"}
    found = {f"deb [signed-by={KEYRING}] {uri} {suites[label]} main" for label, uri in archives if label in suites}
    if not found:
        raise TestbedError("apt has no package lists of a Debian mirror: run 'apt-get update' with one")
    return sorted(found)

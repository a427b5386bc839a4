# SPDX-License-Identifier: Apache-2.0
"""A Debian root filesystem for guests that run real programs: redis, PostgreSQL with pgbench, stress-ng, and the worker script."""

import shutil
from pathlib import Path

from .apt import own_archive_lines
from .cache import Cache, digest_of
from .shell import find_tool, run_tool
from .tree import make_ext4

HERE = Path(__file__).resolve().parent.parent
PACKAGES = ["redis-server", "redis-tools", "postgresql-15", "stress-ng"]
RELEASE = "bookworm"
# The guests' root: programs take 250 MiB of it, databases the rest. Sparse in the cache, and copied on write by each guest.
ROOT_MIB = 3072
DATABASE = "/var/lib/postgresql/work"  # guest/work.sh names it, too
INITDB = ("setpriv --reuid=postgres --regid=postgres --clear-groups /usr/lib/postgresql/15/bin/initdb --pgdata=" + DATABASE +
          " --auth=trust --no-sync --encoding=UTF8 --locale=C")
# What a guest does not need. Without LLVM PostgreSQL compiles nothing at run time (jit = off in work.conf, too).
NOT_NEEDED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n", "usr/share/X11",
              "usr/lib/x86_64-linux-gnu/libLLVM*", "usr/lib/x86_64-linux-gnu/libz3*",
              "usr/lib/postgresql/15/lib/bitcode", "usr/lib/postgresql/15/lib/llvmjit*", "var/lib/postgresql/15",
              "var/lib/apt", "var/cache/apt", "var/lib/dpkg/info", "boot"]


def build(cache: Cache, agent: Path) -> Path:
    """The image; a guest gets a qcow2 overlay on it."""
    archive = _debian(cache)
    init, work, conf = HERE / "guest/debian-init", HERE / "guest/work.sh", HERE / "guest/postgresql.conf"

    def make(path: Path):
        tree = path.with_name(path.name + ".tree")
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        try:
            # Who owns a file does not matter: guests run all but PostgreSQL as root, and give it its directory.
            run_tool("tar", "-x", "--no-same-owner", "-C", tree, "-f", archive, "--exclude=./dev/*")
            for source, destination in ((init, "usr/sbin/init"), (work, "usr/local/bin/work"), (agent, "usr/local/bin/agent")):
                shutil.copyfile(source, tree / destination)
                (tree / destination).chmod(0o755)
            with open(tree / f"{DATABASE[1:]}/postgresql.conf", "a") as out:
                out.write(conf.read_text())
            (tree / "data").mkdir(exist_ok=True)
            make_ext4(path, ROOT_MIB, "debian", tree)
        finally:
            shutil.rmtree(tree, ignore_errors=True)

    return cache.artefact("guest/debian.ext4", digest_of(1, archive, init, work, agent, conf, ROOT_MIB), make)


def _debian(cache: Cache) -> Path:
    """Debian's packages as an archive: downloaded and installed once; a newer package in the mirror does not count."""
    def make(path: Path):
        sources = "".join(f"{line}\n" for line in own_archive_lines(RELEASE))
        hooks = [f'chroot "$1" {INITDB} >/dev/null',
                 'cd "$1" && rm -rf ' + " ".join(NOT_NEEDED)]
        run_tool("mmdebstrap", "--variant=minbase", "--quiet", "--format=tar", f"--include={','.join(PACKAGES)}",
                 "--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*",
                 "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
                 *[f"--customize-hook={hook}" for hook in hooks], RELEASE, path, "-", stdin_text=sources)

    find_tool("mmdebstrap")
    return cache.artefact("debian/root.tar", digest_of(1, PACKAGES, RELEASE, INITDB, NOT_NEEDED), make)

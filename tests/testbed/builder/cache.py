# SPDX-License-Identifier: Apache-2.0
"""A directory of built artefacts, each remade only when the content of its inputs changed."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path


def default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "balloond-testbed"


def digest_of(*parts) -> str:
    """Digest of the given values; a Path stands for its content and mode."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            total.update(file_digest(part).encode())
            total.update(oct(part.stat().st_mode).encode())
        else:
            total.update(repr(part).encode())
        total.update(b"\0")
    return total.hexdigest()


def file_digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Cache:
    def __init__(self, root: Path):
        self.root = root
        self._steps, self._step = 0, 0
        root.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self):
        """Two builds in one cache take turns."""
        with open(self.root / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def begin(self, steps: int):
        """So many artefacts are wanted from here on: each that must be made says which step it is."""
        self._steps, self._step = steps, 0

    def artefact(self, name: str, digest: str, make) -> Path:
        """Path of `name`, after calling make(temporary path) if it is absent or was made from something else."""
        self._step += 1
        path = self.root / name
        stamp = self.root / (name + ".inputs")
        if path.exists() and stamp.exists() and stamp.read_text() == digest:
            return path
        step = f"step {self._step} of {self._steps}: " if self._step <= self._steps else ""
        print(f"testbed: {step}making {name}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        _remove(fresh)
        make(fresh)
        _remove(path)
        fresh.rename(path)
        stamp.write_text(digest)
        return path


def _remove(path: Path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

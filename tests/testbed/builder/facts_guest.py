# SPDX-License-Identifier: Apache-2.0
"""The plain guest that facts about Linux are measured in: QEMU without KVM, one CPU, a disk of random files, our probes."""

import json
import subprocess
import threading
from pathlib import Path

from . import guest_image
from .cache import Cache, digest_of
from .cpio import Initramfs
from .errors import TestbedError
from .kernel import Kernel
from .outer_host import end_with_parent
from .shell import find_tool, run_tool

HERE = Path(__file__).resolve().parent.parent / "guest/facts"
PROBES = ("reread", "noise", "lru", "zram")
MODULES = ["virtio_pci", "virtio_blk", "lzo", "lzo-rle", "zram"]
APPLETS = ["sh", "mount", "insmod", "echo", "cat", "poweroff", "sleep"]
SAMPLE_MIB = 8
# Text that every Debian has: licences, and the sources of Python's library.
TEXTS = (("/usr/share/common-licenses", "*"), ("/usr/lib/python3.11", "*.py"))
# A program's heap: that of a Python which has such sources as syntax trees and as words counted.
HEAP_PROGRAM = """
import ast, collections, pathlib, re, sys
sources = sorted(pathlib.Path(sys.argv[1]).glob("*.py"))[:60]
trees = [ast.parse(path.read_text()) for path in sources]
words = collections.Counter(word for path in sources for word in re.findall(r"\\w+", path.read_text()))
room = int(sys.argv[2])
with open("/proc/self/mem", "rb") as memory:
    for line in open("/proc/self/maps"):
        span, rights, _, _, inode, *name = line.split()
        if rights.startswith("rw") and inode == "0" and name in ([], ["[heap]"]) and room > 0:
            first, last = (int(part, 16) for part in span.split("-"))
            memory.seek(first)
            found = memory.read(min(last - first, room))
            # What was never touched is no page of the program's.
            pages = [found[at:at + 4096] for at in range(0, len(found), 4096)]
            kept = b"".join(page for page in pages if any(page))
            sys.stdout.buffer.write(kept)
            room -= len(kept)
"""


def build_probe(cache: Cache, name: str) -> Path:
    source, header = HERE / f"{name}.cc", HERE / "counters.h"
    return cache.artefact(f"guest/facts-{name}", digest_of(source, header, guest_image.GUEST_FLAGS),
                          lambda path: run_tool("g++", *guest_image.GUEST_FLAGS, "-o", path, source))


def build_text(cache: Cache) -> Path:
    def make(path: Path):
        left = SAMPLE_MIB << 20
        with open(path, "wb") as out:
            for directory, pattern in TEXTS:
                for file in sorted(Path(directory).glob(pattern)):
                    if file.is_file() and not file.is_symlink():
                        left -= out.write(file.read_bytes()[:left])
        if left > (SAMPLE_MIB << 20) // 2:
            raise TestbedError(f"found too little text in {', '.join(directory for directory, _ in TEXTS)}")

    return cache.artefact("guest/facts-text", digest_of(1, TEXTS, SAMPLE_MIB), make)


def build_heap(cache: Cache) -> Path:
    def make(path: Path):
        with open(path, "wb") as out:
            subprocess.run(["/usr/bin/python3", "-c", HEAP_PROGRAM, TEXTS[1][0], str(SAMPLE_MIB << 20)], stdout=out, check=True)
        if path.stat().st_size < (SAMPLE_MIB << 20) // 2:
            raise TestbedError(f"the sample of a heap has {path.stat().st_size} bytes only")

    return cache.artefact("guest/facts-heap", digest_of(1, HEAP_PROGRAM, SAMPLE_MIB), make)


class FactsGuest:
    """Boots anew for each script that it runs."""

    def __init__(self, cache: Cache, kernel: Kernel):
        self._cache, self._kernel = cache, kernel
        self._probes = {name: build_probe(cache, name) for name in PROBES}
        self._samples = {"text": build_text(cache), "heap": build_heap(cache)}
        self._data = guest_image.build_data_disk(cache)

    def probe(self, name: str) -> Path:
        return self._probes[name]

    def sample(self, name: str) -> Path:
        return self._samples[name]

    def run(self, name: str, script: str, memory_mib: int, timeout: float, on_fact=lambda fact: None) -> list[dict]:
        """What the probes that the script starts print. A script whose status is not 0, or that is late, is an error."""
        command = [find_tool("qemu-system-x86_64"), "-accel", "tcg,tb-size=256", "-cpu", "qemu64", "-M", "pc", "-m", str(memory_mib),
                   "-nodefaults", "-display", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio",
                   "-kernel", str(self._kernel.bzimage), "-initrd", str(self._initramfs(name, script)),
                   # On a busy machine the kernel finds its timer too slow, and would hang.
                   "-append", "console=ttyS0 quiet panic=-1 no_timer_check", "-device", "virtio-blk-pci,drive=data",
                   "-drive", f"file={self._data},format=raw,if=none,id=data,readonly=on,cache=unsafe"]
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=end_with_parent)
        timer = threading.Timer(timeout, qemu.kill)
        timer.start()
        facts, console = [], []
        try:
            for raw in qemu.stdout:
                text = raw.decode(errors="replace").strip("\r\n \0")
                fact = parse_fact(text)
                if fact is None:
                    console.append(text)
                else:
                    facts.append(fact)
                    on_fact(fact)
        finally:
            timer.cancel()
            if qemu.poll() is None:
                qemu.kill()
            qemu.wait()
            qemu.stdout.close()
        if not facts or facts[-1]["fact"] != "end" or facts[-1]["status"] != 0:
            raise TestbedError(f"measuring {name}: no end with status 0 within {timeout:.0f} s; the guest said: {console[-5:]}")
        return facts[:-1]

    def _initramfs(self, name: str, script: str) -> Path:
        busybox, modules = Path(find_tool("busybox")), self._kernel.module_order(MODULES)

        def make(path: Path):
            image = Initramfs()
            for directory in ("proc", "sys", "dev", "data"):
                image.directory(directory)
            image.add("init", (HERE / "init").read_bytes())
            image.add_file("bin/busybox", busybox)
            for applet in APPLETS:
                image.symlink(f"bin/{applet}", "busybox")
            for probe, program in self._probes.items():
                image.add_file(f"bin/{probe}", program)
            for sample, file in self._samples.items():
                image.add_file(f"samples/{sample}", file)
            for module in modules:
                image.add_file(f"modules/{module.name}", module)
            image.add("modules/order", "".join(f"/modules/{module.name}\n" for module in modules).encode(), 0o644)
            image.add("facts.sh", script.encode())
            image.write(path)

        inputs = digest_of(2, script, HERE / "init", busybox, *modules, *self._probes.values(), *self._samples.values())
        return self._cache.artefact(f"guest/facts-{name}.cpio", inputs, make)


def parse_fact(line: str) -> dict | None:
    """A probe's line; the kernel's own may stand before it."""
    start = line.find('{"fact"')
    if start < 0:
        return None
    try:
        return json.loads(line[start:])
    except ValueError:
        return None

# SPDX-License-Identifier: Apache-2.0
"""Builds a copy of the code with all chosen changes in it, each behind its switch, and leaves out those that do not compile."""

from __future__ import annotations

import pathlib
import random
import re
import subprocess

from find import Change

HEADER = pathlib.Path(__file__).with_name("mutant.h")


def copy_tree(root: pathlib.Path, to: pathlib.Path) -> None:
    """The files that git knows. What is the same already keeps its time, so that a second run builds little."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True, text=True)
    for name in filter(None, names.stdout.split("\0")):
        source = root / name
        if source.is_file():
            write(to / name, source.read_bytes(), source.stat().st_mode & 0o777)


def write(path: pathlib.Path, text: bytes, mode: int = 0o644) -> None:
    if path.exists() and path.read_bytes() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    path.chmod(mode)


def choose(found: list[Change], count: int, seed: int) -> list[Change]:
    """So many of them at random (0: all), without two that overlap."""
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    taken: dict[str, list[tuple[int, int]]] = {}
    chosen: list[Change] = []
    for change in shuffled:
        if count and len(chosen) == count:
            break
        ranges = taken.setdefault(change.file, [])
        if all(change.end <= start or end <= change.start for start, end in ranges):
            ranges.append((change.start, change.end))
            chosen.append(change)
    return chosen


class Build:
    def __init__(self, root: pathlib.Path, work: pathlib.Path) -> None:
        self.root, self.tree, self.directory = root, work / "tree", work / "tree" / "build"
        copy_tree(root, self.tree)
        write(self.tree / "mutant.h", HEADER.read_bytes())
        # As the preset `release` does, and where it does: so what no change touches comes out of ccache.
        self.run(["cmake", "-S", str(self.tree), "-B", str(self.directory), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"])

    @staticmethod
    def run(command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"mutate: {' '.join(command[:4])}: {(done.stdout + done.stderr)[-3000:]}")

    def build(self, targets: list[str]) -> None:
        self.run(["cmake", "--build", str(self.directory), "--target", *targets])

    def with_changes(self, changes: list[Change], candidates: list[Change], targets: list[str]) -> dict[int, Change]:
        """Those that compile, by the number that switches them on. Others take the place of those that do not."""
        wanted = len(changes)
        numbered = dict(enumerate(changes))
        spare = [each for each in candidates if each not in set(changes)]
        refused: set[Change] = set()
        touched: set[str] = set()
        while True:
            places = self.write_changed(numbered, touched)
            print(f"mutate: building {len(numbered)} changes in {len(places)} files", flush=True)
            done = subprocess.run(["cmake", "--build", str(self.directory), "--target", *targets, "--", "-k", "0"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return numbered
            bad = self.refused(done.stdout, places)
            if not bad:
                raise SystemExit(f"mutate: the build fails, and for no change's sake:\n{done.stdout[-4000:]}")
            refused |= {numbered[number] for number in bad}
            for number in bad:
                del numbered[number]
            self.fill(numbered, spare, refused, wanted)

    @staticmethod
    def fill(numbered: dict[int, Change], spare: list[Change], refused: set[Change], wanted: int) -> None:
        number = max(numbered, default=0) + 1
        while spare and len(numbered) < wanted:
            change = spare.pop()
            clash = any(each.file == change.file and change.start < each.end and each.start < change.end for each in numbered.values())
            if not clash and change not in refused:
                numbered[number] = change
                number += 1

    def write_changed(self, numbered: dict[int, Change], touched: set[str]) -> dict[str, list[tuple[int, int, int]]]:
        """Each changed file, with the lines that each change is on now: (first, last, number)."""
        files: dict[str, list[tuple[int, Change]]] = {}
        for number, change in numbered.items():
            files.setdefault(change.file, []).append((number, change))
        for name in touched - set(files):
            write(self.tree / name, (self.root / name).read_bytes())
        touched |= set(files)
        places: dict[str, list[tuple[int, int, int]]] = {}
        for name, changes in files.items():
            old = (self.root / name).read_bytes()
            new, at = b'#include "mutant.h"\n', 0
            for number, change in sorted(changes, key=lambda each: each[1].start):
                new += old[at:change.start]
                first = new.count(b"\n") + 1
                new += change.code.replace("@", str(number)).encode()
                places.setdefault(name, []).append((first, new.count(b"\n") + 1, number))
                at = change.end
            write(self.tree / name, new + old[at:])
        return places

    def refused(self, output: str, places: dict[str, list[tuple[int, int, int]]]) -> set[int]:
        bad: set[int] = set()
        for match in re.finditer(r"^(?:In file included from )?([^\s:]+):(\d+):\d+: (?:error|.*required from|.*in .constexpr)", output, re.MULTILINE):
            path, line = pathlib.Path(match[1]), int(match[2])
            path = (path if path.is_absolute() else self.directory / path).resolve()
            if not path.is_relative_to(self.tree.resolve()):
                continue
            name = str(path.relative_to(self.tree.resolve()))
            here = [number for first, last, number in places.get(name, []) if first <= line <= last]
            # A constant that is one no longer is complained about where it is used.
            bad |= set(here) or {number for _, _, number in self.named_in(name, line, places, output)}
        return bad

    def named_in(self, name: str, line: int, places: dict[str, list[tuple[int, int, int]]], output: str) -> list[tuple[int, int, int]]:
        text = (self.tree / name).read_text(errors="replace").splitlines()[line - 1]
        words = set(re.findall(r"\w+", text)) | set(re.findall(r"‘([\w:]+)’ is not usable in a constant expression", output))
        words = {word.rsplit("::", 1)[-1] for word in words}
        out = []
        for file, ranges in places.items():
            lines = (self.tree / file).read_text(errors="replace").splitlines()
            for first, last, number in ranges:
                declared = re.match(r".*?(\w+) = \(?MUTANT\(|.*?(\w+) = MUTANT\(", " ".join(lines[first - 1:last]))
                if declared and (declared[1] or declared[2]) in words:
                    out.append((first, last, number))
        return out

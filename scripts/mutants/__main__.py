# SPDX-License-Identifier: Apache-2.0
"""scripts/mutate.sh: asks whether tests would notice small changes."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import sys
import typing

import build
import find
import judge


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate.sh")
    parser.add_argument("directories", nargs="+", metavar="DIR")
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=85.0)
    parser.add_argument("--only", default=",".join(find.KINDS))
    parser.add_argument("--tests", default="unit", metavar="LABEL")
    parser.add_argument("--target", nargs="+", default=["unit_tests"])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build-mutate"))
    parser.add_argument("-o", "--output", type=pathlib.Path)
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(find.KINDS)
    if unknown:
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; there are {', '.join(find.KINDS)}")
    for directory in options.directories:
        if not pathlib.Path(directory).exists():
            parser.error(f"there is no {directory}")
    return options


def main() -> int:
    options = parse()
    root = pathlib.Path.cwd().resolve()
    kinds = options.only.split(",")
    tree = build.Build(root, options.work.resolve())
    tree.build(options.target)  # headers are made by it, too
    found = [change for change in find.find(tree.tree, tree.directory / "compile_commands.json", options.directories) if change.kind in kinds]
    chosen = build.choose(found, options.changes, options.seed)
    print(f"mutate: {len(found)} changes can be made, {len(chosen)} are drawn (seed {options.seed})")
    numbered = tree.with_changes(chosen, build.choose(found, 0, options.seed + 1), options.target)
    tests = judge.find_reached(judge.tests_of(tree.directory, options.tests, options.target), max(numbered) + 1)

    rows: list[dict[str, typing.Any]] = []
    survivors: list[tuple[find.Change, int]] = []
    try:
        for number, change in sorted(numbered.items()):
            by = judge.noticed_by(tests, number)
            reached = sum(number in test.reaches for test in tests)
            rows.append(dataclasses.asdict(change) | {"noticed_by": by, "tests_that_come_there": reached})
            if by is None:
                survivors.append((change, reached))
            print(f"\rmutate: {len(rows)} of {len(numbered)} tried, {len(survivors)} not noticed", end="", flush=True)
    except KeyboardInterrupt:
        print("\nmutate: interrupted; what was tried until now:")
    print()
    if not rows:
        return 1
    output = options.output or options.work / "changes.json"
    output.write_text(json.dumps(rows, indent=1) + "\n")

    for change, reached in sorted(survivors, key=lambda each: (each[0].file, each[0].line)):
        print(f"{change.file}:{change.line}: {change.kind}: {change.words} ({f'{reached} tests come there' if reached else 'no test comes there'})")
    files: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows:
        files[row["file"]]["all"] += 1
        files[row["file"]]["noticed"] += row["noticed_by"] is not None
    for name, counter in sorted(files.items()):
        print(f"{counter['noticed']:5} of {counter['all']:4}  {name}")
    noticed = len(rows) - len(survivors)
    percent = 100.0 * noticed / len(rows)
    print(f"mutate: {noticed} of {len(rows)} changes are noticed, {percent:.0f} % (at least {options.least:.0f} % are wanted); all are in {output}")
    return 0 if percent >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())

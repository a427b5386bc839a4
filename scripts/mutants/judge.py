# SPDX-License-Identifier: Apache-2.0
"""Runs the tests that come to a change, with it switched on: is it noticed?"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time

# A change may make an endless loop: that is noticed, too, by the processor time that it takes. One may make a test wait for ever:
# time of the clock tells that, and more of it, so that a busy machine is not taken for one.
TIMES_AS_LONG = 10.0
SECONDS_MORE = 5.0
CLOCK_TIMES = 4.0
# Or one that allocates until the machine has nothing left.
MEMORY_MAX = 4 << 30  # bytes of a test's data (RLIMIT_DATA)


@dataclasses.dataclass
class Test:
    name: str
    command: list[str]
    environment: dict[str, str]
    directory: str
    seconds: float = 0.0  # of the clock
    processor: float = 0.0  # seconds of it
    reaches: frozenset[int] = frozenset()
    said: str = ""

    @property
    def gtest(self) -> str:
        """Its name in a GoogleTest program; empty when it is none of these."""
        return next((word.partition("=")[2] for word in self.command if word.startswith("--gtest_filter=")), "")

    def run(self, processor: float, clock: float, **variables: str) -> bool:
        """Whether it passes within so many seconds of processor time, and of the clock."""

        def limit():
            for kind, most in ((resource.RLIMIT_DATA, MEMORY_MAX), (resource.RLIMIT_CPU, math.ceil(processor))):
                resource.setrlimit(kind, (most, most))

        try:
            done = subprocess.run(self.command, cwd=self.directory, env=os.environ | self.environment | variables, timeout=clock,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False,
                                  preexec_fn=limit)
        except subprocess.TimeoutExpired:
            return False
        self.said = done.stdout.decode(errors="replace")
        return done.returncode == 0


def tests_of(build: pathlib.Path, label: str, targets: list[str]) -> list[Test]:
    """Where all targets are programs, theirs alone: a program that an earlier run built is of other code."""
    programs = {target for target in targets if (build / "tests" / target).is_file()}
    only = programs if len(programs) == len(targets) else None
    listed = subprocess.run(["ctest", "--test-dir", str(build), "-L", f"^{label}$", "--show-only=json-v1"], capture_output=True, text=True, check=True)
    tests = []
    for entry in json.loads(listed.stdout)["tests"]:
        if "command" not in entry:
            continue
        properties = {each["name"]: each["value"] for each in entry.get("properties", [])}
        environment = dict(each.split("=", 1) for each in properties.get("ENVIRONMENT", []))
        program = pathlib.Path(entry["command"][0])
        if program.is_relative_to(build) and (only is None or program.name in only):  # programs of ours: scripts do not know the switch
            tests.append(Test(entry["name"], entry["command"], environment, properties.get("WORKING_DIRECTORY", str(build))))
    return tests


def processor_time() -> float:
    """Seconds that all tests so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def find_reached(tests: list[Test], numbers: int) -> list[Test]:
    """The tests that come to any change, the quick ones first. All must pass while no change is switched on."""
    out = []
    with tempfile.TemporaryDirectory() as directory:
        for at, test in enumerate(tests):
            print(f"\rmutate: which test comes where: {at + 1} of {len(tests)}", end="", flush=True)
            trace = pathlib.Path(directory) / str(at)
            begin, used = time.monotonic(), processor_time()
            if not test.run(600.0, 2400.0, MUTANT_TRACE=str(trace)):
                raise SystemExit(f"\nmutate: {test.name} fails without any change")
            test.seconds, test.processor = time.monotonic() - begin, processor_time() - used
            marks = trace.read_bytes() if trace.exists() else b""
            test.reaches = frozenset(number for number in range(min(numbers, len(marks))) if marks[number] == ord("1"))
            trace.unlink(missing_ok=True)
            if test.reaches:
                out.append(test)
    print()
    return sorted(out, key=lambda test: test.seconds)


def noticed_by(tests: list[Test], number: int) -> str | None:
    """A test that fails with this change; None: nobody notices. GoogleTest's tests of one program run in one process."""
    programs: dict[str, list[Test]] = {}
    for test in tests:
        if number in test.reaches:
            programs.setdefault(test.command[0] if test.gtest else test.name, []).append(test)
    for group in programs.values():
        processor = TIMES_AS_LONG * sum(test.processor for test in group) + SECONDS_MORE
        clock = CLOCK_TIMES * (TIMES_AS_LONG * sum(test.seconds for test in group) + SECONDS_MORE)
        names = ":".join(test.gtest for test in group)
        command = [group[0].command[0], f"--gtest_filter={names}", "--gtest_fail_fast", "--gtest_brief=1"] if names else group[0].command
        whole = dataclasses.replace(group[0], command=command)
        if not whole.run(processor, clock, MUTANT=str(number)):
            failed = re.search(r"\[  FAILED  \] ([^\s,]+)", whole.said)
            return failed[1] if failed else group[0].name if len(group) == 1 else group[0].command[0].rsplit("/", 1)[-1]
    return None

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the testbed's test cases (runner/cases.py) in one boot of the outer host and prints PASS or FAIL for each."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builder import direct_kit, guest_kernels, outer_host, outer_image  # noqa: E402
from builder.cache import Cache, default_cache_dir  # noqa: E402
from builder.errors import TestbedError  # noqa: E402
from report.summary import speed_line  # noqa: E402
from runner.cases import CASES, DIRECT_CASES, KERNELS_OF, NEEDS_DAEMON, NIGHTLY, WORKLOAD_CASES  # noqa: E402

# One case takes a minute on the quick day (runner/speed.py).
CASE_SECONDS = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_tests.py", description=__doc__)
    parser.add_argument("--build-dir", type=Path, help="CMake build directory with the programs in bin/")
    parser.add_argument("--cache", type=Path, default=default_cache_dir(), help="where images are kept (%(default)s)")
    parser.add_argument("--vmm", choices=("balloon-vmm", "qemu"), default="balloon-vmm", help="qemu: check the testbed itself with a peer")
    parser.add_argument("--console", type=Path, help="keep the outer host's console log there")
    parser.add_argument("--nightly", action="store_true", help="the cases that scripts/nightly.sh runs, instead of the others")
    parser.add_argument("--list-nightly", action="store_true", help="only say which these are")
    parser.add_argument("names", nargs="*", metavar="CASE", help=f"default: all but the nightly ones of {', '.join(sorted(CASES))}")
    options = parser.parse_args()
    if options.list_nightly:
        print(f"left to scripts/nightly.sh: testbed cases {', '.join(sorted(NIGHTLY))}")
        return 0
    names = options.names or [name for name in CASES if (name in NIGHTLY) == options.nightly
                              and (options.vmm == "balloon-vmm" or name not in NEEDS_DAEMON)]
    for name in names:
        if name not in CASES:
            raise TestbedError(f"there is no case {name}")
    wanted = (["balloon-vmm"] if options.vmm == "balloon-vmm" else []) + \
        (["balloond", "balloonctl"] if NEEDS_DAEMON & set(names) else []) + (["balloon-sim"] if DIRECT_CASES.keys() & set(names) else [])
    for program in wanted:
        if options.build_dir is None or not (options.build_dir / "bin" / program).is_file():
            raise TestbedError(f"{program} is not built: give --build-dir a directory that has bin/{program}")
    return run(options, names)


def run(options, names: list[str]) -> int:
    cache = Cache(options.cache)
    logs = cache.root / "runs/logs-cases"
    results: dict[str, bool] = {}
    pace = 1.0  # of the machine, as the cases told last

    def host_for(cases: list[str]) -> outer_image.OuterHost:
        command = f"cd /opt/testbed && python3 -m runner.cases --vmm {options.vmm} --events /dev/testbed-events {' '.join(cases)}"
        kernels = guest_kernels.files(cache, [series for name in cases for series in KERNELS_OF.get(name, [])])
        kit = direct_kit.files(cache, options.build_dir) if DIRECT_CASES.keys() & set(cases) else []
        return outer_image.build(cache, options.build_dir, command, kernels + kit, ["/scratch/run"], debian=bool(WORKLOAD_CASES.keys() & set(cases)))

    def restart(reason: str) -> outer_image.OuterHost:
        """For what has not passed: what failed may have failed because the host was about to be lost. One lost at its very end runs the last again."""
        return host_for([name for name in names if not results.get(name)] or names[-1:])

    def take(line: str):
        nonlocal pace
        event = json.loads(line)
        pace = event.get("factor", pace)
        if event["event"] == "speed":
            print(speed_line(event), flush=True)
        if event["event"] == "case":
            results[event["name"]] = event["passed"]
            print(f"{'PASS' if event['passed'] else 'FAIL'}  {event['what']} ({event['seconds']:.0f} s)", flush=True)
            for note in event["notes"]:
                print(f"        {note}", flush=True)
            if not event["passed"]:
                print(f"        {event['failure']}", flush=True)

    request = outer_host.Request(timeout=CASE_SECONDS * len(names) + 120, pace=lambda: pace, on_event=take, console_log=options.console,
                                 files_to=logs, on_restart=restart)
    result = outer_host.run(cache, host_for(names), request)
    missing = [name for name in names if name not in results]
    if missing:
        print(f"FAIL  not run to their end: {', '.join(missing)} (the outer host's command ended with status {result.status})")
    if result.restarts:
        print(f"note: the emulated outer host was lost {result.restarts} times ({'; '.join(result.crashes)}); what had not passed by then was run anew")
    failed = len(missing) + sum(not passed for passed in results.values())
    print(f"{len(names) - failed} of {len(names)} testbed cases passed" + (f"; logs: {logs}" if failed else ""))
    return 1 if failed or result.status != 0 else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TestbedError as error:
        print(f"run_tests: {error}", file=sys.stderr)
        sys.exit(1)

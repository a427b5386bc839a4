#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the compact record of a real run that the simulator is compared with.

    import_run.py [--lead SECONDS] [--every SECONDS] demo.json > demo-run.json

demo.json is what scripts/demo.sh writes. Kept are one row every few seconds (guests' sizes, targets and use in MiB, the host's free memory
and swap traffic) and each phase's figures. Time 0 is SECONDS before the first sample, as in the scenario beside it: balloons move before
that, and the simulated ones begin at nothing. When whose demand began, and how long files were read, goes to stderr: demo.yaml has these
times in its signals.
"""

import argparse
import json
import sys

MIB = 1 << 20
# A guest whose use grows or shrinks by this much in a phase was loaded or freed in it, and began to be once it had changed by that.
LOADED, BEGUN = 256, 16
GUEST_COLUMNS = {"size": "actual", "target": "target", "used": "used", "resident": "rss"}


def mib(value) -> int:
    return round((value or 0) / MIB)


def guest_row(guest: dict) -> list[int]:
    return [mib(guest.get(key)) for key in GUEST_COLUMNS.values()]


def rows(samples: list[dict], guests: list[str], start: float, every: float) -> list[list]:
    out, next_at = [], 0.0
    for sample in samples:
        at = sample["t"] - start
        if at < next_at:
            continue
        next_at = max(next_at + every, at)
        host = sample["host"]
        out.append([round(at, 1), mib(host["free"]), host["swap_in_pages"], host["swap_out_pages"]]
                   + [figure for name in guests for figure in guest_row(sample["guests"][name])])
    return out


def phases(run: dict, samples: list[dict], start: float) -> list[dict]:
    found = []
    for name, figures in run["figures"]["phases"].items():
        times = [sample["t"] for sample in samples if sample["phase"] == name]
        loads = figures["load_satisfaction"]
        found.append({"name": name, "from": round(times[0] - start, 1), "to": round(times[-1] - start, 1), "fits": figures["fits"],
                      "loads": loads["demands"], "satisfied": loads["satisfied"], "p50_seconds": loads["p50_seconds"],
                      "max_seconds": loads["max_seconds"], "moved_gib": figures["moved_gib"],
                      "host_swap_in_pages": figures["host_swap_in_pages"], "host_swap_out_pages": figures["host_swap_out_pages"]})
    return found


def changes(name: str, samples: list[dict], guests: list[str], start: float) -> str:
    """When which guests' use began to change in a phase."""
    mine = [sample for sample in samples if sample["phase"] == name]
    found = []
    for guest in guests:
        used = [mib(sample["guests"][guest].get("used")) for sample in mine]
        if abs(used[-1] - used[0]) < LOADED:
            continue
        begun = next(sample["t"] for sample, now in zip(mine, used) if abs(now - used[0]) >= BEGUN)
        found.append(f"{guest} {'grows' if used[-1] > used[0] else 'frees'} from {begun - start:.0f} s")
    return ", ".join(found) or "nobody changes"


def describe_demand(run: dict, samples: list[dict], guests: list[str], start: float):
    for phase in phases(run, samples, start):
        reads = run["figures"]["phases"][phase["name"]]["read_satisfaction"]["p50_seconds"]
        reading = f"; files read for {reads:.0f} s" if reads else ""
        print(f"{phase['name']}, {phase['from']:.0f} to {phase['to']:.0f} s: {changes(phase['name'], samples, guests, start)}"
              f"{reading}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lead", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--every", type=float, default=2, metavar="SECONDS", help="between rows; 2 is enough for curves of some minutes")
    parser.add_argument("run", metavar="demo.json")
    arguments = parser.parse_args()
    with open(arguments.run, encoding="utf-8") as file:
        document = json.load(file)
    run = document["runs"]["balloond"]
    samples = [sample for sample in run["series"] if sample.get("event") == "sample"]
    guests = sorted(samples[0]["guests"])
    start = samples[0]["t"] - arguments.lead
    describe_demand(run, samples, guests, start)
    columns = ["seconds", "host_free", "host_swap_in_pages", "host_swap_out_pages"]
    columns += [f"{name}.{column}" for name in guests for column in GUEST_COLUMNS]
    head = {"scenario": document["scenario"], "where": document["where"], "guests": guests, "phases": phases(run, samples, start),
            "columns": columns}
    # One row a line, so that a newer run shows as a readable change.
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows(samples, guests, start, arguments.every))
    print(json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + body + "\n]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

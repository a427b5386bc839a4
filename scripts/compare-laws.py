#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables for docs/comparison.md from what balloon-sim says.

  balloon-sim compare tests/scenarios/sim/*.yaml -o json | scripts/compare-laws.py [--ours LAW]
  balloon-sim sweep --seeds 1000 -o json | scripts/compare-laws.py [--ours LAW]
  balloon-sim sensitivity -o json | scripts/compare-laws.py
"""
import argparse
import json
import sys

FORESIGHT = "foresight-2s"
# Less than this is no difference: a thousandth, or a twentieth of a GiB·s; a hundredth of a GiB of host swap.
SLACK_RATIO, SLACK_DEFICIT, SLACK_SWAP = 0.001, 0.05, 0.02


def swap(scores):
    return scores["host_swap_in"] + scores["host_swap_out"]


def better(rival, ours):
    """Less deficit, at no more host swap and no more killed."""
    return (rival["deficit"] < ours["deficit"] * (1 - SLACK_RATIO) - SLACK_DEFICIT
            and swap(rival) <= swap(ours) + SLACK_SWAP
            and rival["oom_guest"] + rival["oom_host"] <= ours["oom_guest"] + ours["oom_host"])


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value):
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def cell(scores):
    """Cost, and host swap where there is any, and what was killed."""
    text = number(scores["cost"])
    if swap(scores) >= 0.05:
        text += f" ({number(swap(scores))})"
    killed = scores["oom_guest"] + scores["oom_host"]
    return text + (f" †{killed:.0f}" if killed else "")


# What is shown of random scenarios: score, heading, figures after the point.
SWEPT = (("cost", "cost, s", 0), ("deficit", "deficit, GiB·s", 0), ("stall", "stall, s", 0), ("t95_p99", "t95 p99, s", 1),
         ("host_swap_in", "host swap in, GiB", 2), ("oom_guest", "programs killed", 0), ("min_violations", "below minimum, s", 0),
         ("moved", "GiB moved", 0), ("reversals", "reversals", 0))


def swept(sweep):
    """Of each law: mean, median and worst cost, and of other scores median and worst; and in how many scenarios the first law's
    cost is less, the same, more."""
    def spread(score, digits):
        return f"{score['median']:.{digits}f} / {score['worst']:.{digits}f}"

    def row(law):
        cost = law["scores"]["cost"]
        verdict = f"{cost['first_is_better']} : {cost['equal']} : {cost['first_is_worse']}"
        return [law["law"], f"{cost['mean']:.0f}", verdict] + [spread(law["scores"][key], digits) for key, _, digits in SWEPT]

    bound = sweep["cost_bound"]
    print(table(["law", "mean cost, s", "better : same : worse"] + [heading for _, heading, _ in SWEPT],
                [row(law) for law in sweep["laws"]] +
                [["*bound*", f"{bound['mean']:.0f}", "", f"{bound['median']:.0f} / {bound['worst']:.0f}"] + [""] * (len(SWEPT) - 1)]))
    print(f"Runs with less cost than the bound: {bound['runs_below']}.\n")


def short(scenario):
    """S1 to S16 by their numbers, others by name."""
    name = scenario.split("-")[0]
    if not (name[0] == "s" and name[1:3].isdigit()):
        return scenario
    return name.upper().replace("B", "b").replace("C", "c") + (" " + scenario.rsplit("-", 1)[1] if name == "s16" else "")


def compared(scenarios, ours_is):
    laws = [law["law"] for law in scenarios[0]["laws"]]
    costs, ours_rows, behind = [], [], []
    for scenario in scenarios:
        by_law = {law["law"]: law["scores"] for law in scenario["laws"]}
        name = short(scenario["scenario"])
        ours = by_law[ours_is]
        costs.append([name] + [cell(by_law[law]) for law in laws] + [number(scenario["cost_bound"])])
        ours_rows.append([name, f"{ours['deficit']:.1f}", f"{ours['stall']:.1f}", f"{ours['t95_p50']:.1f} / {ours['t95_max']:.1f}",
                          f"{ours['jain']:.3f}", f"{ours['satisfaction_min']:.3f}", f"{ours['reversals']:.0f}",
                          f"{ours['moved']:.1f}", f"{ours['min_violations']:.0f}"])
        behind += [[name, law, f"{by_law[law]['deficit']:.1f}", f"{ours['deficit']:.1f}"] for law in laws
                   if law not in (ours_is, FORESIGHT) and better(by_law[law], ours)]
    print(table(["scenario"] + laws + ["*bound*"], costs))
    print(table(["scenario", "deficit, GiB·s", "stall, s", "t95 median / longest, s", "Jain", "worst satisfaction", "reversals",
                 "GiB moved", "below minimum, s"], ours_rows))
    print(table(["scenario", "rival", "its deficit", "ours"], behind))


def varied(sensitivity):
    laws = list(sensitivity["rows"][0]["cost"])
    print(table(["constant", "×"] + laws + ["laws that change places"],
                [[row["constant"] or "as they are", f"{row['factor']:g}"] + [number(row["cost"][law]) for law in laws] +
                 [", ".join(row["changed"]) or "none"] for row in sensitivity["rows"]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="balloond", help="the law that others are held against")
    arguments = parser.parse_args()
    found = json.load(sys.stdin)
    if isinstance(found, list):
        compared(found, arguments.ours)
    elif "rows" in found:
        varied(found)
    else:
        swept(found)


if __name__ == "__main__":
    main()

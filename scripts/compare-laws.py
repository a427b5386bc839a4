#!/usr/bin/env python3
"""Tables for docs/comparison.md from what balloon-sim says.

  balloon-sim compare tests/scenarios/sim/*.yaml -o json | scripts/compare-laws.py
  balloon-sim sweep --seeds 1000 -o json | scripts/compare-laws.py
"""
import json
import sys

OURS, BOUND = "balloond", "oracle"
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


def cell(scores):
    """Deficit, and host swap where there is any, and what was killed."""
    text = f"{scores['deficit']:.1f}"
    if swap(scores) >= 0.005:
        text += f" ({swap(scores):.2f})"
    killed = scores["oom_guest"] + scores["oom_host"]
    return text + (f" †{killed:.0f}" if killed else "")


# What is shown of random scenarios: score, heading, figures after the point.
SWEPT = (("cost", "cost, s", 0), ("deficit", "deficit, GiB·s", 0), ("stall", "stall, s", 0), ("t95_p99", "t95 p99, s", 1),
         ("host_swap_in", "host swap in, GiB", 2), ("oom_guest", "programs killed", 0), ("jain", "Jain", 3),
         ("moved", "GiB moved", 0), ("reversals", "reversals", 0))


def swept(sweep):
    """Of each law and score: median, worst, and in how many scenarios ours is better, as good, worse."""
    def spread(score, digits):
        return f"{score['median']:.{digits}f} / {score['worst']:.{digits}f}"

    def verdict(score):
        return f"{score['first_is_better']} : {score['equal']} : {score['first_is_worse']}"

    laws = sweep["laws"]
    header = ["law"] + [heading for _, heading, _ in SWEPT]
    print(table(header, [[law["law"]] + [spread(law["scores"][key], digits) for key, _, digits in SWEPT] for law in laws]))
    print(table(header, [[law["law"]] + [verdict(law["scores"][key]) for key, _, _ in SWEPT]
                         for law in laws if law["law"] != OURS]))


def compared(scenarios):
    laws = [law["law"] for law in scenarios[0]["laws"]]
    deficits, ours_rows, behind = [], [], []
    for scenario in scenarios:
        by_law = {law["law"]: law["scores"] for law in scenario["laws"]}
        name = scenario["scenario"].split("-")[0].upper().replace("B", "b").replace("C", "c")
        if name == "S16":
            name += " " + scenario["scenario"].rsplit("-", 1)[1]
        ours, bound, qmemman = by_law[OURS], by_law[BOUND], by_law["qmemman"]
        deficits.append([name] + [cell(by_law[law]) for law in laws])
        ours_rows.append([name, f"{ours['deficit'] - bound['deficit']:.1f}", f"{ours['t95_p50']:.1f} / {ours['t95_max']:.1f}",
                          f"{ours['stall']:.1f}", f"{ours['jain']:.3f}", f"{ours['satisfaction_min']:.3f}",
                          f"{ours['reversals']:.0f} / {qmemman['reversals']:.0f}", f"{ours['moved']:.1f} / {qmemman['moved']:.1f}"])
        behind += [[name, law, f"{by_law[law]['deficit']:.1f}", f"{ours['deficit']:.1f}"] for law in laws
                   if law not in (OURS, BOUND) and better(by_law[law], ours)]
    print(table(["scenario"] + laws, deficits))
    print(table(["scenario", "regret", "t95 median / longest, s", "stall, s", "Jain", "worst satisfaction",
                 "reversals, ours / qmemman", "GiB moved, ours / qmemman"], ours_rows))
    print(table(["scenario", "rival", "its deficit", "ours"], behind))


def main():
    found = json.load(sys.stdin)
    if "seeds" in found:
        swept(found)
    else:
        compared(found)


if __name__ == "__main__":
    main()

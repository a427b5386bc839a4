# SPDX-License-Identifier: Apache-2.0
"""The table of real programs under each controller: their own figures, and counters that do not know the machine's speed."""

import statistics
from dataclasses import dataclass

CONTROLLERS = ("balloond", "none", "static")
TITLES = {"balloond": "balloond", "none": "no controller", "static": "static partition"}
PAGE_MIB = 4096 / 2**20
# Two rounds' counters agree when they differ by less than this part of the larger one, or by less than is worth a word.
AGREE_RATIO = 0.05


@dataclass(frozen=True)
class Counter:
    key: str
    title: str
    scale: float
    trifle: float  # differences below this are none, in scaled units
    keys: tuple[str, ...]  # of the guest's or host's counters, which are added up


OF_GUEST = (
    Counter("read", "read from its disks, MiB", 2**-20, 4, ("disk_read_bytes",)),
    Counter("refaults", "refaults", 1, 500, ("workingset_refault_file", "workingset_refault_anon")),
    Counter("major", "major faults", 1, 100, ("pgmajfault",)),
    Counter("swap_in", "swapped in, MiB", PAGE_MIB, 4, ("pswpin",)),
    Counter("kills", "programs killed for memory", 1, 0, ("oom_kill",)),
)
OF_HOST = (
    Counter("host_in", "host swap in, MiB", PAGE_MIB, 4, ("swap_in_pages",)),
    Counter("host_out", "host swap out, MiB", PAGE_MIB, 4, ("swap_out_pages",)),
    Counter("host_kills", "killed by the host", 1, 0, ("oom_kills",)),
)


def rows_of(parts: list[dict]) -> list[dict]:
    """Of one mix: a row for each figure and counter, with each controller's values, round by round."""
    rows: dict[tuple, dict] = {}

    def put(place: tuple, title: str, unit: str, kind: str, controller: str, values: list[float], trifle: float = 0):
        row = rows.setdefault(place, {"phase": place[0], "guest": place[1], "work": place[2], "title": title, "unit": unit, "kind": kind,
                                      "trifle": trifle, "values": {}})
        row["values"].setdefault(controller, []).extend(values)

    for part in sorted(parts, key=lambda part: part["round"]):
        controller = part["controller"]
        for phase_name, phase in part["phases"].items():
            for work in phase["work"]:
                place = (phase_name, work["guest"], work["command"])
                if "error" in work:
                    put((*place, "failed"), f"failed: {work['error']}"[:60], "", "failure", controller, [1])
                    continue
                if work["figures"]:
                    put((*place, "figure"), work["unit"], work["unit"], "figure", controller, work["figures"])
                else:
                    put((*place, "figure"), "s", "s", "figure", controller, [work["seconds"]])
                for counter in OF_GUEST:
                    value = counter.scale * sum(work["counters"][key] for key in counter.keys)
                    put((*place, counter.key), counter.title, "", "counter", controller, [value], counter.trifle)
                for number, read in enumerate(work.get("pass_bytes", []), 1):
                    put((*place, f"pass {number}"), f"read in pass {number}, MiB", "", "counter", controller, [read / 2**20], 4)
            if "host" in phase:
                for counter in OF_HOST:
                    value = counter.scale * sum(phase["host"][key] for key in counter.keys)
                    put((phase_name, "host", "", counter.key), counter.title, "", "counter", controller, [value], counter.trifle)
    return list(rows.values())


def took(parts: list[dict]) -> str:
    """How long the parts took, and how fast their machine was."""
    measured = [part for part in parts if part["complete"]]
    if not measured:
        return "no part was measured"
    minutes, quick = ([part[key] for part in measured] for key in ("minutes", "quick_minutes"))
    factors = [speed["factor"] for part in measured for speed in part["speeds"]]
    return (f"measured parts took {sum(minutes):.1f} min together, {min(minutes):.1f} to {max(minutes):.1f} each, at a speed factor of"
            f" {statistics.fmean(factors):.1f} ({min(factors):.1f} to {max(factors):.1f}); in time of the quick day {sum(quick):.1f} min,"
            f" {min(quick):.1f} to {max(quick):.1f} each")


def disagreements(rows: list[dict]) -> list[str]:
    """Counters that differ between rounds of the same controller by more than AGREE_RATIO."""
    found = []
    for row in rows:
        for controller, values in row["values"].items():
            low, high = min(values), max(values)
            if row["kind"] == "counter" and high - low > max(row["trifle"], AGREE_RATIO * high):
                found.append(f"{row['phase']}, {row['guest']}{', ' + row['work'] if row['work'] else ''}, {row['title']}, "
                             f"{TITLES[controller]}: {_number(low)} to {_number(high)}")
    return found


def table(rows: list[dict], controllers: list[str]) -> str:
    lines = [("", *(TITLES[controller] for controller in controllers)), *cells(rows, controllers)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def cells(rows: list[dict], controllers: list[str]) -> list[tuple[str, ...]]:
    """A line a row, with a heading above those of one place; counters that are next to nothing everywhere are left out."""
    lines: list[tuple[str, ...]] = []
    head = None
    for row in rows:
        if row["kind"] == "counter" and max(max(values) for values in row["values"].values()) <= row["trifle"]:
            continue
        place = (row["phase"], row["guest"], row["work"])
        if place != head:
            head = place
            lines.append((f"{row['phase']}, {row['guest']}{': ' + row['work'] if row['work'] else ''}", *[""] * len(controllers)))
        lines.append((f"  {row['title']}", *(_cell(row["values"].get(controller)) for controller in controllers)))
    return lines


def _cell(values: list[float] | None) -> str:
    """Median, and the range when there is one."""
    if not values:
        return "–"
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

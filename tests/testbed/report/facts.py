# SPDX-License-Identifier: Apache-2.0
"""Figures about Linux out of what the probes counted (guest/facts): medians over repeats, with their spread."""

import statistics

MIB = 1 << 20
PAGE_BYTES = 4096
PAGES_PER_MIB = MIB // PAGE_BYTES
# Passes over the set before those that a case's one figure is of: the kernel finds out only slowly what is in use.
LEARNING_PASSES = 5
HUGE_PAGE_KEYS = ("before_mib", "resident_before_mib", "after_1_cycle_mib", "untouched_after_mib", "resident_untouched_mib",
                  "after_20_cycles_mib", "resident_after_mib")
# Counts of one kernel repeat within a few per cent; another one that behaves otherwise is off by more.
CHECK_RATIO, CHECK_ROOM = 0.2, 0.2
REREAD_ORDERS = ("random", "sequential", "advised_random")


class Figures:
    """A tree of medians as it goes into the file, and the spread of each beside it."""

    def __init__(self):
        self.tree: dict = {}
        self.spread: dict[str, dict] = {}

    def put(self, path: str, values: list[float]):
        *parents, last = path.split(".")
        node = self.tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = rounded(statistics.median(values))
        self.spread[path] = {"min": rounded(min(values)), "max": rounded(max(values)), "n": len(values)}

    def note(self, path: str, value):
        """What is no measurement: a setting, a count."""
        *parents, last = path.split(".")
        node = self.tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def reread(figures: Figures, facts: list[dict]):
    """The figures at the top are those of accesses in random order."""
    figures.note("reread.order", "random")
    for order in REREAD_ORDERS:
        prefix = "reread." if order == "random" else f"reread.{order}."
        for way in ("read", "mmap"):
            found = [fact for fact in facts if fact["fact"] == "reread" and (fact["way"], fact["order"]) == (way, order)]
            if not found:
                continue
            for key, count in (("major_faults_per_mib", "major_faults"), ("refaults_per_mib", "refaults")):
                figures.put(f"{prefix}{way}_{key}", [fact[count] / (fact["absent_bytes"] / MIB) for fact in found])
            figures.put(f"{prefix}{way}_disk_bytes_per_byte", [fact["disk_bytes"] / fact["absent_bytes"] for fact in found])


def without_trend(values: list[float]) -> list[float]:
    """What is left when the straight line that fits best is taken away."""
    slope, intercept = statistics.linear_regression(range(len(values)), values)
    return [value - (slope * number + intercept) for number, value in enumerate(values)]


def sigma(values: list[float]) -> float:
    """Of levels, about their trend."""
    return statistics.pstdev(without_trend(values))


def difference_sigma(values: list[float]) -> float:
    """Of the steps from one sample to the next."""
    return statistics.pstdev([after - before for before, after in zip(values, values[1:])])


def autocorrelation(values: list[float]) -> float:
    """Of neighbours, about the trend: 0 for independent samples, towards 1 for a slow drift."""
    levels = without_trend(values)
    square = sum(level * level for level in levels)
    return sum(before * after for before, after in zip(levels, levels[1:])) / square if square else 0.0


def noise(figures: Figures, facts: list[dict], names: dict[str, str]):
    """names: what a load is called by the probe, and in the file."""
    for load, name in names.items():
        found = [fact for fact in facts if fact["fact"] == "noise" and fact["load"] == load]
        if not found:
            continue
        for counter in ("available", "free"):
            for key, measure in (("sigma_ratio", sigma), ("difference_sigma_ratio", difference_sigma)):
                figures.put(f"noise.{name}.{counter}_{key}",
                            [measure(fact[f"{counter}_kib"]) / fact["total_kib"] for fact in found])
            figures.put(f"noise.{name}.{counter}_autocorrelation", [autocorrelation(fact[f"{counter}_kib"]) for fact in found])
        figures.put(f"noise.{name}.allocated_mib_per_second",
                    [fact["allocated_pages"] / PAGES_PER_MIB / len(fact["free_kib"]) for fact in found])
        figures.put(f"noise.{name}.scanned_pages_per_second", [fact["scanned_pages"] / len(fact["free_kib"]) for fact in found])
        figures.note(f"noise.{name}.samples", sum(len(fact["free_kib"]) for fact in found))
        figures.note(f"noise.{name}.period_seconds", 1)
        figures.note(f"noise.{name}.memory_mib", round(found[0]["total_kib"] / 1024))


def zram(figures: Figures, facts: list[dict], name: str, cpu_time: bool):
    """The CPU's time is a fact of the machine; held against a page's copy in the same round, of an emulated one, too."""
    figures.note(f"{name}.algorithm", "lzo-rle")
    copy_us = 0.0
    found: dict[str, list[float]] = {}
    for fact in facts:
        if fact["fact"] == "zram_reference":
            copy_us = fact["copy_us"]
            if cpu_time:
                found.setdefault("page_copy_us", []).append(copy_us)
                found.setdefault("page_first_touch_us", []).append(fact["first_touch_us"])
        elif fact["fact"] == "zram":
            for key, value in _of_a_page(fact, copy_us, cpu_time):
                found.setdefault(f"{key}_{fact['content']}", []).append(value)
    for key, values in found.items():
        figures.put(f"{name}.{key}", values)
    # One number for a program's memory: that of a real heap.
    for key in [key for key in found if key.startswith("cpu") and key.endswith("_heap")]:
        figures.put(f"{name}.{key.removesuffix('_heap')}", found[key])


def _of_a_page(fact: dict, copy_us: float, cpu_time: bool):
    yield "bytes_per_page", fact["used_bytes"] / fact["pages"]
    yield "compressed_bytes_per_page", fact["compressed_bytes"] / fact["pages"]
    for way in ("out", "in"):
        # The walk over the pages is the probe's own.
        cost = (fact[f"{way}_us"] - fact["walk_us"]) / fact["pages"]
        if cpu_time:
            yield f"cpu_us_per_page_{way}", cost
        yield f"cpu_relative_to_page_copy_{way}", cost / copy_us


def lru(figures: Figures, facts: list[dict], kind: str):
    """kind: "classic" or "mglru". A case is what was asked for; its ratio is of the bytes of the set that were absent when they were read."""
    streams: dict[tuple, list[dict]] = {}
    shrinks: dict[tuple, list[dict]] = {}
    for fact in facts:
        if fact["fact"] == "lru_stream":
            streams.setdefault((fact["set_bytes"], fact["stream_bytes"]), []).append(fact)
        elif fact["fact"] == "lru_shrink":
            shrinks.setdefault((fact["set_bytes"], fact["ratio"]), []).append(fact)
    for (set_bytes, stream_bytes), found in sorted(streams.items()):
        case = f"lru.{kind}.set_{set_bytes // MIB}_stream_{stream_bytes // MIB}"
        learned = [fact for fact in found if fact["pass"] >= LEARNING_PASSES]
        figures.note(f"{case}.set_mib", set_bytes // MIB)
        figures.note(f"{case}.stream_mib", stream_bytes // MIB)
        figures.put(f"{case}.set_to_memory_ratio", [set_bytes / (fact["available_kib"] * 1024) for fact in learned])
        figures.put(f"{case}.reread_evicted_ratio", [fact["absent_bytes"] / set_bytes for fact in learned])
        # In the first pass nothing is there yet.
        figures.note(f"{case}.evicted_ratio_by_pass", [rounded(fact["absent_bytes"] / set_bytes) for fact in found[1:]])
    for (set_bytes, ratio), found in sorted(shrinks.items()):
        case = f"lru.{kind}.set_{set_bytes // MIB}_taken_{round(100 * ratio)}_percent"
        figures.note(f"{case}.set_mib", set_bytes // MIB)
        figures.note(f"{case}.taken_ratio_of_stream", ratio)
        figures.put(f"{case}.taken_mib", [fact["ratio"] * fact["rest_bytes"] / MIB for fact in found])
        figures.put(f"{case}.evicted_ratio", [max(0, fact["absent_bytes"] - fact["absent_before_bytes"]) / set_bytes for fact in found])


def huge_pages(figures: Figures, facts: list[dict]):
    """One entry for each VMM and setting of the host; that of balloon-vmm under the testbed's own setting stands at the top."""
    cases: dict[tuple, list[dict]] = {}
    for fact in facts:
        if fact["fact"] == "huge_pages":
            cases.setdefault((fact["vmm"], fact["defrag"]), []).append(fact)
    for number, ((vmm, defrag), found) in enumerate(sorted(cases.items())):
        for case in ["huge_pages", f"huge_pages.{vmm}_defrag_{defrag}"] if number == 0 else [f"huge_pages.{vmm}_defrag_{defrag}"]:
            figures.note(f"{case}.vmm", vmm)
            figures.note(f"{case}.thp_setting", found[0]["thp"])
            figures.note(f"{case}.defrag", defrag)
            for key in ("memory_mib", "moved_mib"):
                figures.note(f"{case}.{key}", found[0][key])
            for key in HUGE_PAGE_KEYS:
                figures.put(f"{case}.{key}", [fact[key] for fact in found])


def merged(before: dict, figures: Figures, kernel: str) -> dict:
    """The file anew: what was measured now, and parts of the file before that were not."""
    kept = {path: spread for path, spread in before.get("spread", {}).items() if path.partition(".")[0] not in figures.tree}
    parts = {name: part for name, part in before.items() if name not in ("kernel", "spread")}
    return {"kernel": kernel, **parts, **figures.tree, "spread": kept | figures.spread}


def departures(figures: Figures, recorded: dict) -> list[str]:
    """Which figures are not what a file says, within CHECK_RATIO of it and CHECK_ROOM."""
    found = []
    for path in figures.spread:
        now, before = _at(figures.tree, path), _at(recorded, path)
        if abs(now - before) > CHECK_RATIO * abs(before) + CHECK_ROOM:
            found.append(f"{path} is {now:g}, recorded {before:g}")
    return found


def table(figures: Figures) -> str:
    rows: list[tuple[str, ...]] = [("", "median", "min", "max", "n")]
    rows += [(path, *(f"{value:.4g}" for value in (_at(figures.tree, path), spread["min"], spread["max"])), str(spread["n"]))
             for path, spread in figures.spread.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def _at(tree: dict, path: str):
    for name in path.split("."):
        tree = tree[name]
    return tree

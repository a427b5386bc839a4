# SPDX-License-Identifier: Apache-2.0
"""The end of a run in words: figures side by side, checks with PASS or FAIL."""

from .verdict import Outcome, Verdict

PAGE_MIB = 4096 / 2**20
TITLES = {"balloond": "with balloond", "none": "host swap only"}


def speed_line(speed: dict) -> str:
    return f"speed: factor {speed['factor']:.1f} {speed['when']} (1.0 is the quick day of docs/figures.md; {speed['slowdown']:.0f} times slower than hardware)"


def figure_rows(figures: dict) -> list[tuple[str, str]]:
    """(measure, value) of one phase of one run."""
    load, read = figures["load_satisfaction"], figures["read_satisfaction"]
    daemon, overhead, psi = figures["daemon"], figures["vmm_overhead"], figures["psi"]
    return [
        ("loads satisfied", f"{load['satisfied']} of {load['demands']}" if load["demands"] else "-"),
        ("  seconds to satisfaction, p50 / max", _pair(load["p50_seconds"], load["max_seconds"])),
        ("  seconds to read the files, p50 / max", _pair(read["p50_seconds"], read["max_seconds"])),
        ("memory moved", f"{figures['moved_gib']:.2f} GiB"),
        ("reversals", str(figures["reversals"])),
        ("host swap in / out", f"{_pages(figures['host_swap_in_pages'])} / {_pages(figures['host_swap_out_pages'])}"),
        ("load swapped in guests", f"{sum(figures['guest_swapped_mib'].values())} MiB"),
        ("host PSI memory some / full", f"{psi['some_ratio']:.1%} / {psi['full_ratio']:.1%}" if psi else "-"),
        ("daemon CPU / RSS", f"{daemon['cpu_seconds']:.1f} s / {daemon['rss_mib']:.0f} MiB" if daemon else "-"),
        ("VMM overhead a guest, private / PSS",
         f"{overhead['private_mib_median']:.1f} / {overhead['pss_mib_median']:.1f} MiB" if overhead else "-"),
        ("phase took", f"{figures['seconds']:.0f} s" if figures["seconds"] is not None else "not completed"),
        ("  on the quick day, and why it ended", f"{figures['quick_seconds']:.0f} s, {figures['why']}" if figures["quick_seconds"] is not None else "-"),
    ]


def print_runs(runs: dict[str, dict]):
    """A table a phase, one column a run."""
    phases = list(dict.fromkeys(name for run in runs.values() for name in run["figures"]["phases"]))
    for name in phases:
        columns = {mode: run["figures"]["phases"].get(name) for mode, run in runs.items()}
        rows = {mode: dict(figure_rows(figures)) if figures else {} for mode, figures in columns.items()}
        title = next(figures["title"] for figures in columns.values() if figures)
        print(f"\n{name}: {title}")
        print(f"  {'':<40}" + "".join(f"{TITLES[mode]:>24}" for mode in runs))
        for measure in next(iter(filter(None, rows.values()))):
            print(f"  {measure:<40}" + "".join(f"{rows[mode].get(measure, 'not reached'):>24}" for mode in runs))


def print_verdict(verdict: Verdict):
    judged = verdict.outcome in (Outcome.PASSED, Outcome.FAILED)
    print()
    for check in verdict.checks:
        word = "PASS" if check.passed else "FAIL" if judged else "OPEN"
        print(f"{word}  {check.name}\n        {check.found}")
    failed = sum(not check.passed for check in verdict.checks)
    print(f"\n{len(verdict.checks) - failed} of {len(verdict.checks)} checks passed" + (f", {failed} FAILED" if failed and judged else ""))
    if verdict.outcome == Outcome.TOO_SLOW:
        print(f"NOT JUDGED: this machine is too slow to tell a fault from its slowness: {verdict.reason}. Run it again when it has less else to do.")
    elif verdict.outcome == Outcome.HOST_LOST:
        print(f"NOT JUDGED: the emulated host was lost each time, which says nothing of the programs under test: {verdict.reason}")


def _pair(first, second) -> str:
    return "-" if first is None else f"{first:.0f} / {second:.0f}"


def _pages(count) -> str:
    return "-" if count is None else f"{count * PAGE_MIB:.0f} MiB"

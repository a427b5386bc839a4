# SPDX-License-Identifier: Apache-2.0
"""The table of a comparison of VMMs: medians, ratios to the peers, and what was asked of them (the bars)."""

import statistics
from dataclasses import dataclass, replace

from runner.vmm import OLD, OURS

PEERS = ("qemu-pc", "qemu-microvm")


@dataclass(frozen=True)
class Bar:
    """A bound on our median: on itself, or (`against`) on its ratio to a peer's."""
    at_most: float | None = None
    at_least: float | None = None
    against: str | None = None

    def met(self, ours: float, theirs: float | None) -> bool | None:
        """None: the peer has no figure to compare with."""
        value = ours
        if self.against is not None:
            if not theirs:
                return None
            value = ours / theirs
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def text(self, unit: str) -> str:
        bounds = [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        bounds += [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(bounds) + (f"× {self.against}" if self.against else f" {unit}".rstrip())


@dataclass(frozen=True)
class Metric:
    key: str
    part: str
    title: str
    unit: str
    bars: tuple[Bar, ...] = ()


def _at_least_both(ratio: float) -> tuple[Bar, ...]:
    return tuple(Bar(at_least=ratio, against=peer) for peer in PEERS)


def _net(prefix: str, part: str, ratio: float) -> list[Metric]:
    ways = [("to_guest_1", "host to guest, 1 stream"), ("to_guest_4", "host to guest, 4 streams"),
            ("from_guest_1", "guest to host, 1 stream"), ("from_guest_4", "guest to host, 4 streams")]
    return [Metric(f"{prefix}_{key}", part, title, "Mbit/s", _at_least_both(ratio)) for key, title in ways] + [
        Metric(f"{prefix}_round_trips_s", part, "TCP round trips", "/s", _at_least_both(ratio)),
        Metric(f"{prefix}_round_trip_p99_ms", part, "TCP round trip, p99", "ms")]


METRICS = [
    Metric("boot_bzimage_s", "boot", "start to init, bzImage", "s", (Bar(at_most=0.5, against="qemu-pc"), Bar(at_most=1, against="qemu-microvm"))),
    Metric("boot_vmlinux_s", "boot", "start to init, vmlinux (PVH)", "s", (Bar(at_most=0.5, against="qemu-pc"), Bar(at_most=1, against="qemu-microvm"))),
    Metric("private_mib", "memory", "own private memory, of six", "MiB", (Bar(at_most=5),)),
    Metric("pss_mib", "memory", "own PSS, of six", "MiB", (Bar(at_most=10),)),
    Metric("idle_percent", "idle", "CPU of an idle guest", "% of a core", (Bar(at_most=1),)),
    Metric("shrink_mib_s", "balloon", "shrink", "MiB/s", _at_least_both(3)),
    Metric("shrink_cpu_s_gib", "balloon", "CPU of the VMM's threads", "s/GiB", tuple(Bar(at_most=0.333, against=peer) for peer in PEERS)),
    Metric("shrink_cpu_all_s_gib", "balloon", "CPU, vCPUs included", "s/GiB"),
    Metric("grow_mib_s", "balloon", "grow", "MiB/s", _at_least_both(1)),
    Metric("rss_fall_percent", "balloon", "RSS fall of what it claims", "%", (Bar(at_least=98, at_most=102),)),
    Metric("reported_percent", "reporting", "back 5 s after the driver's own 8 s", "% of 1 GiB", (Bar(at_least=90),)),
    Metric("reported_90_s", "reporting", "until 90 % are back", "s"),
    Metric("stats_p50_ms", "statistics", "round trip, p50", "ms"),
    Metric("stats_p99_ms", "statistics", "round trip, p99", "ms"),
    Metric("stats_vmm_p50_ms", "statistics", "beyond the guest's own time, p50", "ms"),
    Metric("stats_vmm_p99_ms", "statistics", "beyond the guest's own time, p99", "ms", (Bar(at_most=5),)),
    Metric("stats_link_p50_ms", "statistics", "over the guest link, p50", "ms"),
    Metric("stats_link_p99_ms", "statistics", "over the guest link, p99", "ms"),
    Metric("block_randread_qd1", "block", "4 KiB random read, QD 1", "IOPS", _at_least_both(1)),
    Metric("block_randread_qd32", "block", "4 KiB random read, QD 32", "IOPS", _at_least_both(1)),
    Metric("block_randwrite_qd1", "block", "4 KiB random write, QD 1", "IOPS", _at_least_both(1)),
    Metric("block_randwrite_qd32", "block", "4 KiB random write, QD 32", "IOPS", _at_least_both(1)),
    Metric("block_randwrite_fsync", "block", "4 KiB random write + flush", "IOPS", _at_least_both(1)),
    Metric("block_seqread", "block", "1 MiB sequential read", "MiB/s", _at_least_both(1)),
    Metric("block_seqwrite", "block", "1 MiB sequential write", "MiB/s", _at_least_both(1)),
    *_net("net", "net", 1),
    *_net("vhost", "vhost", 0.95),
    Metric("lost_blocks", "durability", "flushed blocks lost", "blocks", (Bar(at_most=0),)),
    Metric("checked_blocks", "durability", "flushed blocks checked", "blocks"),
]


_THROUGHPUT = ("MiB/s", "Mbit/s", "IOPS", "/s")
_COSTS = ("shrink_cpu_s_gib", "private_mib")


def _against_old(metric: Metric) -> Metric:
    """The same, with what is asked of it beside its own old program: nearly as quick, and no dearer."""
    bars: tuple[Bar, ...] = ()
    if metric.unit in _THROUGHPUT:
        bars = (Bar(at_least=0.9, against=OLD),)
    elif metric.key in _COSTS:
        bars = (Bar(at_most=1.05, against=OLD),)
    return replace(metric, bars=bars)


class Results:
    """What a run has reported so far."""

    def __init__(self, against_old: bool = False):
        self.peers = (OLD,) if against_old else PEERS
        self._metrics = [_against_old(metric) for metric in METRICS] if against_old else METRICS
        self.samples: dict[str, dict[str, list[float]]] = {}  # metric -> VMM -> values, in the order in which they came
        self.failures: list[dict] = []
        self.part: str | None = None  # the one under way, or the last
        self.ended = False

    def take(self, event: dict):
        if event["event"] == "part":
            self.part = event["part"]
        elif event["event"] == "figures":
            for key, value in event["values"].items():
                found = self.samples.setdefault(key, {}).setdefault(event["subject"], [])
                found.extend(value if isinstance(value, list) else [value])
        elif event["event"] == "step_failed":
            self.failures.append({key: event[key] for key in ("part", "subject", "round", "reason")})
        elif event["event"] == "end":
            self.ended = True

    def forget_part(self):
        """Drops what is there of the part under way, for it to be measured anew."""
        for metric in self._metrics:
            if metric.part == self.part:
                self.samples.pop(metric.key, None)
        self.failures = [failure for failure in self.failures if failure["part"] != self.part]

    def figures(self) -> list[dict]:
        return [_figure(metric, self.samples[metric.key], self.peers) for metric in self._metrics if self.samples.get(metric.key)]


def _figure(metric: Metric, samples: dict[str, list[float]], peers: tuple[str, ...]) -> dict:
    medians = {vmm: statistics.median(values) for vmm, values in samples.items()}
    ours = medians.get(OURS)
    ratios = {peer: ours / medians[peer] for peer in peers if ours is not None and medians.get(peer)}
    bars = [{"bar": bar.text(metric.unit), "met": None if ours is None else bar.met(ours, medians.get(bar.against))} for bar in metric.bars]
    return {"metric": metric.key, "part": metric.part, "title": metric.title, "unit": metric.unit,
            "vmms": {vmm: {"median": medians[vmm], "min": min(values), "max": max(values), "n": len(values)} for vmm, values in samples.items()},
            "ratios": ratios, "bars": bars}


def table(figures: list[dict], peers: tuple[str, ...] = PEERS) -> str:
    rows = [("", OURS, *peers, *(f"× {peer}" for peer in peers), "n", "asked for", "")]
    words = (0, len(rows[0]) - 2, len(rows[0]) - 1)  # columns of text
    part = None
    for figure in figures:
        if figure["part"] != part:
            part = figure["part"]
            rows.append((f"{part}:", *[""] * (len(rows[0]) - 1)))
        medians = [_number(figure["vmms"].get(vmm, {}).get("median")) for vmm in (OURS, *peers)]
        ratios = [_number(figure["ratios"].get(peer)) for peer in peers]
        counts = sorted({vmm["n"] for vmm in figure["vmms"].values()})
        bars = figure["bars"]
        rows.append((f"  {figure['title']} [{figure['unit']}]", *medians, *ratios, "-".join(map(str, {counts[0]: 0, counts[-1]: 0})),
                     _asked(bars), _verdict(bars)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column in words else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def _asked(bars: list[dict]) -> str:
    """One bound for both peers is said once."""
    bounds: dict[str, list[str]] = {}
    for bar in bars:
        bound, times, peer = bar["bar"].partition("× ")
        bounds.setdefault(bound + times.strip(), []).append(peer.removeprefix("qemu-").removeprefix(f"{OURS}-"))
    return ", ".join(f"{bound} {' and '.join(peers)}".strip() for bound, peers in bounds.items())


def _verdict(bars: list[dict]) -> str:
    known = [bar["met"] for bar in bars if bar["met"] is not None]
    if not bars or not known:
        return ""
    return "met" if all(known) else "MISSED"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

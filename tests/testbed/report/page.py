# SPDX-License-Identifier: Apache-2.0
"""A run's report: one HTML page that needs nothing else. The page itself is policy/sim/report.html, which says what its data is."""

import json
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "policy/sim/report.html"
DATA = "const data=DATA;"
MIB = 2**20
# More than two a pixel cannot be seen.
MOST_SAMPLES = 600


def write(path: Path, data: dict):
    page = PAGE.read_text()
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    path.write_text(page.replace(DATA, f"const data={text};"))


def page_of(title: str, summary: str, runs: list[dict], tables: list[dict]) -> dict:
    return {"title": title, "summary": summary, "runs": runs, "tables": tables}


def run_of(group: str, name: str, note: str, events: list[dict]) -> dict | None:
    """Of the events that a runner sends; none when it had no sample."""
    samples = thinned([event for event in events if event["event"] == "sample"])
    if not samples:
        return None
    guests = sorted({guest for sample in samples for guest in sample["guests"]})
    host = [sample["host"] for sample in samples]
    return {"group": group, "name": name, "note": note, "time": [round(sample["t"], 1) for sample in samples],
            "host_total": _mib(host[0]["total"]),
            "guests": [{"name": guest, "given": [given(sample["guests"].get(guest)) for sample in samples],
                        "demand": [demand(sample["guests"].get(guest)) for sample in samples]} for guest in guests],
            "host": {"free": [_mib(each["free"]) for each in host], "swapped": [_mib(each.get("swap_used")) for each in host]},
            "phases": phases(events), "events": shown(events)}


def thinned(samples: list[dict]) -> list[dict]:
    every = -(-len(samples) // MOST_SAMPLES) or 1
    return samples[::every]


def given(guest: dict | None) -> int | None:
    """Its size; of a guest whose balloon nobody looks at, what it holds in the host's RAM."""
    if not guest or guest.get("alive") is False:
        return None
    return _mib(guest.get("actual", guest.get("rss")))


def demand(guest: dict | None) -> int | None:
    """What it needs, by the controller's word; without one, what it holds and what the host swapped of it."""
    if not guest or guest.get("alive") is False:
        return None
    return _mib(guest["need"]) if guest.get("need") is not None else _mib((guest.get("rss") or 0) + (guest.get("swap") or 0))


def phases(events: list[dict]) -> list[dict]:
    found: list[dict] = []
    for event in events:
        if event["event"] == "phase_start":
            found.append({"from": event["t"], "to": event["t"], "name": event["phase"], "title": event["title"]})
        elif found and found[-1]["to"] == found[-1]["from"] and event["event"] in ("phase_end", "failed", "end"):
            found[-1]["to"] = event["t"]
    return found


def shown(events: list[dict]) -> list[dict]:
    """What a person wants to see beside the curves."""
    texts = {
        "guest_up": lambda event: f"up after {event['seconds']:.0f} s",
        "guest_restarted": lambda event: "its agent started again",
        "guest_trouble": lambda event: f"said: {event['line']}",
        "demand": lambda event: f"is asked for: {event['command']}",
        "satisfied": lambda event: f"done after {event['seconds']:.0f} s: {event['command']}",
        "unsatisfied": lambda event: f"not done after {event['seconds']:.0f} s: {event['command']}",
        "work": lambda event: event["command"] + (f": {event['error']}" if "error" in event else f": {event['seconds']:.1f} s"),
        "failed": lambda event: event["reason"],
        "too_slow": lambda event: event["reason"],
        "host_lost": lambda event: event["reason"],
    }
    return [{"at": event["t"], "guest": event.get("guest", ""), "text": texts[event["event"]](event)}
            for event in events if event["event"] in texts]


def _mib(size: float | None) -> int | None:
    return None if size is None else round(size / MIB)

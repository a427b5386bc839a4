# SPDX-License-Identifier: Apache-2.0
"""Testbed cases of samepage merging on the host (part of runner/cases.py)."""

import json
from pathlib import Path

from . import vmm
from .case_bed import MIB, Bed, expect, expect_clean_power_off, wait_for, wait_for_event
from .scenario import GuestSpec

KSM = Path("/sys/kernel/mm/ksm")
PAGE = 4096
# Both guests have the same random files in their page caches: nothing else in them is so large and the same.
SAME = 64 * MIB
# What a round finds unchanged since the one before is merged; the round that is under way when the guests have read does not count.
ROUNDS = 4
# A round should take 5 s (ksm_scan below); an emulated ksmd may not keep up.
MERGE_TIMEOUT = 180


def _shown(name: str) -> int:
    return int((KSM / name).read_text())


def _saved() -> int:
    return _shown("pages_sharing") * PAGE


def case_ksm_run_by_the_daemon_merges_guests_until_one_opts_out(bed: Bed):
    """With ksm: on balloond starts KSM, which merges two guests' equal memory; one that opts out has its own again; without balloond KSM goes on."""
    expect(_shown("run") == 0, "KSM runs before the case")
    try:
        session = bed.open(with_daemon=True, policy={"host": {"ksm": "on"}, "states": {"actions": {"normal": {"ksm": True}}},
                                                     "engine": {"ksm_scan": "5s"}, "defaults": {"min": "100%"}})
        guests = [session.add_guest(GuestSpec(name, 512 * MIB), vmm.Extras(backing="merge=on")) for name in "AB"]
        for guest in guests:
            guest.wait_ready()
            read = session.expect(guest.name, "read")
            guest.ask(f"read /data {SAME // MIB}M")
            wait_for_event(f"{guest.name} to read {SAME // MIB} MiB", read, 60)
        wait_for("balloond to start KSM", lambda: _shown("run") == 1, 30)
        rounds = _shown("full_scans") + ROUNDS
        wait_for(f"{ROUNDS} rounds of ksmd", lambda: _shown("full_scans") >= rounds, MERGE_TIMEOUT)
        expect(_saved() > SAME * 3 / 4, f"after {ROUNDS} rounds KSM saves {_saved() / MIB:.0f} MiB, where {SAME / MIB:.0f} MiB are the same")
        host = json.loads(session.daemon.ctl("host", "-o", "json"))
        expect(host["ksm"]["running"] and host["ksm"]["controllable"] and int(host["ksm_saved_bytes"]) > 0, f"balloonctl host shows {host}")
        saved = _saved()
        session.daemon.ctl("merge", "A", "off")
        wait_for("A to have its own memory again", lambda: saved - _saved() > SAME / 2, 60)
        bed.notes.append(f"{_shown('pages_to_scan')} pages every {_shown('sleep_millisecs')} ms saved {saved / MIB:.0f} MiB, "
                         f"{_saved() / MIB:.0f} MiB without A")
        session.daemon.stop()
        expect(_shown("run") == 1, "KSM stopped with balloond")
        for guest in guests:
            expect_clean_power_off(guest)
    finally:
        (KSM / "run").write_text("0")


KSM_CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}

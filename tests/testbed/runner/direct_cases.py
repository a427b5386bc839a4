# SPDX-License-Identifier: Apache-2.0
"""The direct way, by which a machine with KVM of its own runs scenarios, in the emulated host: it is such a machine (part of runner/cases.py)."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from . import host
from .case_bed import Bed, expect
from .guest import VCPU_CPU
from .speed import MACHINE

DIRECT = Path("/opt/direct")  # builder/direct_kit.py puts it there
PROGRAMS = ("balloon-vmm", "balloond", "balloonctl")
SECONDS = 1500  # of the quick day
SCENARIO = {"name": "direct", "description": "one guest, directly", "guests": {"A": {"memory": "384M", "swap": "128M"}},
            "policy": {"engine": {"stale_after": "30s", "stuck_after": "30s", "progress_per_second": "32KiB"}},
            "phases": [{"name": "work", "work": {"A": ["load 128M", "read /data 32M"]}, "fits": True, "timeout": 240, "settle": 5}]}


def case_scenario_runs_directly_on_a_machine_with_kvm(bed: Bed):
    """The scenario command with --direct runs a guest with balloond on this host's own KVM, and its checks pass."""
    cache = _writable_cache(bed.images.scratch, bed.images.data)
    for program in PROGRAMS:
        (DIRECT / "build/bin" / program).symlink_to(f"/usr/local/bin/{program}")
    file, output = bed.images.scratch / "direct.yaml", bed.images.scratch / "direct.json"
    scenario = SCENARIO | {"host_memory": f"{host.meminfo()['MemTotal'] >> 20}M"}
    file.write_text(json.dumps(scenario))  # JSON is YAML
    # One CPU for all of it: the emulated host's SVM breaks when two of its CPUs run guests (tests/testbed/README.md).
    done = subprocess.run(["python3", str(DIRECT / "testbed/scenario"), "--direct", "--scenario", str(file), "--build-dir", str(DIRECT / "build"),
                           "--output", str(output), "--cache", str(cache)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=MACHINE.wall(SECONDS), preexec_fn=lambda: os.sched_setaffinity(0, {VCPU_CPU}))
    expect(done.returncode == 0, f"status {done.returncode}: {done.stdout[-1500:]}")
    found = json.loads(output.read_text())
    phases = found["runs"]["balloond"]["figures"]["phases"]
    expect(found["where"] == "direct" and phases["work"]["load_satisfaction"]["satisfied"] == 1, f"{json.dumps(phases)[:800]}")


def _writable_cache(scratch: Path, data: Path) -> Path:
    """The cache as it came, in a directory whose files can be opened past the page cache."""
    cache = scratch / "direct-cache"
    shutil.rmtree(cache, ignore_errors=True)
    (cache / "guest").mkdir(parents=True)
    (cache / "kernel").symlink_to(DIRECT / "cache/kernel")
    for file in (DIRECT / "cache/guest").iterdir():
        (cache / "guest" / file.name).symlink_to(file)
    (cache / "guest/data.ext4").symlink_to(os.path.realpath(data))
    return cache


DIRECT_CASES = {name.removeprefix("case_"): function for name, function in list(globals().items()) if name.startswith("case_")}

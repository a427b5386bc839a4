# SPDX-License-Identifier: Apache-2.0
"""What balloond's own recording of a run says, decided again: the same plans, within the budget."""

import json
import subprocess
from pathlib import Path

from .checks import Check

REPLAY_TIMEOUT = 600  # a recording of some minutes takes a second


def check_recording(balloon_sim: Path, recording: Path) -> list[Check]:
    return [_identical(balloon_sim, recording), _one_budget(balloon_sim, recording)]


def _identical(balloon_sim: Path, recording: Path) -> Check:
    name = "the recording replays to identical plans"
    try:
        done = _replay(balloon_sim, recording)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, str(error))
    said = [line for line in done.stdout.splitlines() if line.startswith(("Recording:", "Budget:", "Result:", "First:"))]
    found = "; ".join(" ".join(line.split(":", 1)[1].split()) for line in said) or done.stderr.strip()
    return Check(name, done.returncode == 0, found)


def _one_budget(balloon_sim: Path, recording: Path) -> Check:
    """All guests, whatever their hypervisors, share one budget: what they have or were promised, the greater, is within
    it. Only where the host itself takes more than the reserve it falls below what they have, which they then give
    back in ten seconds."""
    name = "all guests are within the one budget, or what it was ten seconds before"
    try:
        seen = json.loads(_replay(balloon_sim, recording, "--output", "json").stdout)
        over, most, decisions = seen["over_budget_ticks"], seen["over_budget_most_bytes"], seen["ticks"]
        promised = seen["over_promised_ticks"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}")
    found = f"beyond it in {over} of {decisions} decisions, by {most >> 20} MiB at most; in {promised} beyond what it had been"
    return Check(name, promised == 0 and decisions > 0, found)


def _replay(balloon_sim: Path, recording: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run([balloon_sim, "replay", recording, *options], text=True, capture_output=True,
                          timeout=REPLAY_TIMEOUT)

# SPDX-License-Identifier: Apache-2.0
"""Whether balloond's own recording of a run, decided again, gives the same plans."""

import subprocess
from pathlib import Path

from .checks import Check

REPLAY_TIMEOUT = 600  # a recording of some minutes takes a second


def check_recording(balloon_sim: Path, recording: Path) -> Check:
    name = "the recording replays to identical plans"
    try:
        done = subprocess.run([balloon_sim, "replay", recording], text=True, capture_output=True, timeout=REPLAY_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, str(error))
    said = [line for line in done.stdout.splitlines() if line.startswith(("Recording:", "Budget:", "Result:", "First:"))]
    found = "; ".join(" ".join(line.split(":", 1)[1].split()) for line in said) or done.stderr.strip()
    return Check(name, done.returncode == 0, found)

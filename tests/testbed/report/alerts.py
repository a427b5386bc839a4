# SPDX-License-Identifier: Apache-2.0
"""Which of the shipped alerts would have fired in a run, by what balloond exported meanwhile."""

import subprocess
from pathlib import Path

LOOK = Path(__file__).resolve().parents[2] / "observability/alerts.py"
TIMEOUT = 600  # fifteen rules on some minutes take seconds


def fired_in_words(scrapes: Path) -> str:
    """Says so when they cannot be looked at: whether a run passed does not go by this."""
    try:
        done = subprocess.run(["/usr/bin/python3", "-B", LOOK, scrapes], text=True, capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    return done.stdout.strip() if done.returncode == 0 else f"unknown: {(done.stderr.strip() or 'no word').splitlines()[-1]}"

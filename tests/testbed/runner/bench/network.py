# SPDX-License-Identifier: Apache-2.0
"""iperf3 and round trips over a tap, with the VMM moving the frames and with vhost-net."""

import json
import subprocess
import time

from .. import vmm
from ..tap import make_tap
from .bed import MIB, Bed, StepError, shell, tool, wait_until

TAP, HOST, GUEST = "tapbench", "10.78.0.1", "10.78.0.2"
IPERF_PORT, ROUND_TRIP_PORT = 5201, 5202
STREAM_SECONDS = 4
OMITTED_SECONDS = 1
ROUND_TRIP_SECONDS = 3
CALL_TIMEOUT = 40


def user_space(bed: Bed, subject: str) -> dict:
    return {f"net_{name}": value for name, value in _measure(bed, subject, vhost=False).items()}


def vhost(bed: Bed, subject: str) -> dict:
    return {f"vhost_{name}": value for name, value in _measure(bed, subject, vhost=True).items()}


def _measure(bed: Bed, subject: str, vhost: bool) -> dict:
    make_tap(TAP, f"{HOST}/24")
    extras = vmm.Extras(tap=TAP, vhost=vhost, cmdline=f"testbed.ip={GUEST}/24", disks=(bed.tools_disk(),))
    guest = bed.boot(subject, 512 * MIB, extras)
    for command in (f"iperf3 -s -p {IPERF_PORT}", f"round_trips serve {ROUND_TRIP_PORT}"):
        shell(guest, f"{tool(command)} >/dev/null 2>&1 </dev/null &")
    wait_until("the guest to answer a ping", lambda: _run(["ping", "-c", "1", "-w", "2", GUEST]).returncode == 0, 30, 0.2)
    wait_until("round_trips to listen", lambda: _run(["round_trips", "ask", GUEST, str(ROUND_TRIP_PORT), "0.1"]).returncode == 0, 30, 0.5)
    found = {}
    for streams in (1, 4):
        found[f"to_guest_{streams}"] = _iperf(streams, [])
        found[f"from_guest_{streams}"] = _iperf(streams, ["-R"])
    trips = _run(["round_trips", "ask", GUEST, str(ROUND_TRIP_PORT), str(ROUND_TRIP_SECONDS)])
    if trips.returncode != 0:
        raise StepError(f"round_trips: {trips.stderr.strip()}")
    answer = json.loads(trips.stdout)
    found["round_trips_s"] = answer["transactions"] / answer["seconds"]
    found["round_trip_p99_ms"] = answer["p99_us"] / 1000
    return found


def _iperf(streams: int, options: list[str]) -> float:
    """Mbit/s that arrived."""
    command = ["iperf3", "-c", GUEST, "-p", str(IPERF_PORT), "-t", str(STREAM_SECONDS), "-O", str(OMITTED_SECONDS), "-P", str(streams), "-J", *options]
    for pause in (1, 3, 0):
        done = _run(command)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise StepError(f"{' '.join(command)}: status {done.returncode}: {(done.stdout or done.stderr)[-200:]}")
        # The server in the guest may still start, or end the test before.
        if "error" not in answer:
            return answer["end"]["sum_received"]["bits_per_second"] / 1e6
        time.sleep(pause)
    raise StepError(f"{' '.join(command)}: {answer['error']}")


def _run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=CALL_TIMEOUT)

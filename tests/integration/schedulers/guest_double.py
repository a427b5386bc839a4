# SPDX-License-Identifier: Apache-2.0
"""A guest that is only its link: guest_double.py SOCKET NAME MIB DIRECTORY. It moves its balloon at once, as it is told. While it is
there its process id is in DIRECTORY/NAME.PID; the exit status is 3 when the daemon takes no second guest of that name."""
import mmap
import os
import queue
import sys
import time
from pathlib import Path

import grpc
from balloon.v1 import guest_link_pb2, guest_link_pb2_grpc, types_pb2

MIB = 1 << 20


def main() -> int:
    socket, name, mib, directory = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    # A daemon believes what the process could have.
    memory = mmap.mmap(-1, mib * MIB)
    balloon = guest_link_pb2.BalloonUpdate(actual_bytes=mib * MIB, target_bytes=mib * MIB, driver_ready=True, has_stats=True)
    said: queue.Queue = queue.Queue()
    said.put(guest_link_pb2.ConnectRequest(register=guest_link_pb2.Register(
        name=name, memory_bytes=mib * MIB, vcpus=1, balloon=balloon, vmm_version="double")))

    def messages():
        while True:
            try:
                yield said.get(timeout=0.2)
            except queue.Empty:
                stats = types_pb2.GuestStats(actual_bytes=balloon.actual_bytes, total_bytes=len(memory),
                                             available_bytes=balloon.actual_bytes // 2, free_bytes=balloon.actual_bytes // 2)
                stats.sampled_at.FromNanoseconds(time.time_ns())
                yield guest_link_pb2.ConnectRequest(stats=stats)

    mine = directory / f"{name}.{os.getpid()}"
    try:
        stub = guest_link_pb2_grpc.GuestLinkServiceStub(grpc.insecure_channel(f"unix:{socket}"))
        for told in stub.Connect(messages()):
            mine.touch()
            if told.HasField("set_target"):
                balloon.target_bytes = balloon.actual_bytes = told.set_target.target_bytes
                said.put(guest_link_pb2.ConnectRequest(target_result=guest_link_pb2.TargetResult(sequence=told.set_target.sequence)))
                said.put(guest_link_pb2.ConnectRequest(balloon=balloon))
    except grpc.RpcError as error:
        return 3 if error.code() == grpc.StatusCode.ALREADY_EXISTS else 1
    finally:
        mine.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

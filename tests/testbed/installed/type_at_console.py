# SPDX-License-Identifier: Apache-2.0
"""Somebody at a terminal: logs in as the page says, looks at `free`, and leaves with Ctrl-C.

  type_at_console.py COMMAND PATIENCE MEMORY_MIB
Exit status 0: what `free` shows as total is less than the guest's memory, by what the balloon holds."""

import os
import pty
import re
import select
import sys
import time

COMMAND, PATIENCE, MEMORY_MIB = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])


class Terminal:
    def __init__(self, command: str):
        self.said = ""
        self.process, self._fd = pty.fork()
        if self.process == 0:
            os.execvp("sh", ["sh", "-c", f"exec {command}"])

    def type(self, text: str):
        os.write(self._fd, text.encode())

    def wait_for(self, pattern: str, again: str = "") -> re.Match:
        """`again` is typed each 10 s: what was said before somebody looked is not said again."""
        end, at = time.monotonic() + PATIENCE, len(self.said)
        typed = 0.0
        while not (found := re.compile(pattern).search(self.said, at)):
            if time.monotonic() > end:
                sys.exit(f"'{pattern}' did not come; the console said: {self.said[-600:]!r}")
            if again and time.monotonic() - typed > 10:
                self.type(again)
                typed = time.monotonic()
            if select.select([self._fd], [], [], 1)[0]:
                self.said += os.read(self._fd, 4096).decode(errors="replace")
        return found


def main():
    terminal = Terminal(COMMAND.strip())
    terminal.wait_for(r"login: ", again="\r")
    terminal.type("root\r")
    terminal.wait_for(r"Password: ")
    terminal.type("balloon\r")
    terminal.wait_for(r"root@web-1:\S+# ")
    terminal.type("free -m\r")
    total = int(terminal.wait_for(r"Mem: +(\d+) ")[1])
    terminal.type("\x03")
    status = os.waitstatus_to_exitcode(os.waitpid(terminal.process, 0)[1])
    print(f"free shows {total} MiB of {MEMORY_MIB}; the command ended with status {status}")
    sys.exit(0 if 0 < total < MEMORY_MIB and status == 0 else 1)


main()

# SPDX-License-Identifier: Apache-2.0
"""oVirt's MOM, as Debian packages it, with its own example rules for balloons, as a controller of a libvirtd's domains."""

import configparser
import os
import re
import subprocess
import sys

from libvirtd import Libvirtd  # before builder: it says where that is
from builder import mom
from builder.cache import Cache, default_cache_dir

# Seconds. As installed: 5, and 10 from one move to the next.
INTERVAL = 1
POLICY_INTERVAL = 5


class Momd:
    def __init__(self, libvirtd: Libvirtd):
        root, directory = mom.unpacked(Cache(default_cache_dir())), libvirtd.directory
        self.log, self._said = directory / "mom.log", directory / "mom.stderr"
        configuration = configparser.RawConfigParser()
        configuration.read(root / "mom/etc/momd.conf")
        main = configuration["main"]
        for name in [name for name in main if name.endswith("-interval")]:
            main[name] = str(INTERVAL)
        main["policy-engine-interval"] = str(POLICY_INTERVAL)
        main["libvirt-hypervisor-uri"] = libvirtd.uri
        # The machine that tests keeps its KSM as it is.
        main["controllers"], configuration["host"]["collectors"] = "Balloon", "HostMemory"
        with open(directory / "momd.conf", "w") as file:
            configuration.write(file)
        path = os.pathsep.join(f"{root / name}{mom.PACKAGES}" for name in ("mom", "libvirt", "six"))
        with open(self._said, "ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, root / "mom/usr/sbin/momd", "-c", directory / "momd.conf", "-l", self.log, "-v", "info",
                 "-r", root / "mom/usr/share/doc/mom/examples/balloon.rules"],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=said, stderr=said)

    def targets(self, guest: str) -> list[int]:
        """What it has set the guest's balloon to, by its own log, in bytes."""
        return [int(kib) << 10 for kib in re.findall(rf"Ballooning guest:{guest} from \d+ to (\d+)", self.said())]

    def said(self) -> str:
        return "".join(file.read_text(errors="replace") for file in (self.log, self._said) if file.exists())

    def kill(self):
        self.process.kill()
        self.process.wait()

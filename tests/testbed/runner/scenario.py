# SPDX-License-Identifier: Apache-2.0
"""What a scenario file says, checked strictly: an unknown key or a wrong unit is refused with its place."""

import re
from dataclasses import dataclass, field

from . import devices

SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# What a guest of the testbed uses itself, when it has read some files.
OWN_MIB = 256
WORK_VERBS = ("load", "free", "read")
VMMS = ("balloon-vmm", "qemu", "libvirt")
BACKENDS = {"vmm": ["balloon-vmm"], "qemu": ["qemu"], "libvirt": ["libvirt"], "mixed": [*VMMS]}


class ScenarioError(Exception):
    pass


@dataclass
class GuestSpec:
    name: str
    memory: int
    cpus: int = 1
    swap: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    free_page_reporting: bool = True
    vmm: str = ""  # who runs it; empty: the scenario's


@dataclass
class PhaseSpec:
    name: str
    title: str
    work: dict[str, list[str]]  # guest -> agent commands
    # Seconds of the quick day (speed.py):
    timeout: float  # at most, though something still moves; a phase whose work stands still ends sooner (progress.py)
    settle: float  # from the last satisfaction, or rest, to the end of the phase
    rest: float  # sizes that have stood for so long are at rest, which ends a phase that does not fit
    fits: bool | None  # whether everybody can have what they ask for; None: nothing is claimed
    idle: list[str]  # guests that are expected to have given up what they do not use


@dataclass
class Scenario:
    name: str
    description: str
    host_memory: int
    vmm: str
    guests: list[GuestSpec]
    phases: list[PhaseSpec]
    policy: dict  # the daemon's policy file, as it is
    devices: str = "nvme"  # what the emulated host's swap and the guests' disks are slowed down to (devices.py)
    notes: list[str] = field(default_factory=list)  # what of the file does not count, for whoever runs it

    @property
    def vmms(self) -> list[str]:
        """Who runs its guests, each once."""
        return [vmm for vmm in VMMS if any(self.vmm_of(guest) == vmm for guest in self.guests)]

    def vmm_of(self, guest: GuestSpec) -> str:
        return guest.vmm or self.vmm


class Section:
    """A mapping whose keys must all be taken."""

    def __init__(self, value, place: str):
        if not isinstance(value, dict):
            raise ScenarioError(f"{place}: expected a mapping, got {value!r}")
        self.left, self.place = dict(value), place

    def take(self, key: str, kind, default=None, required=False):
        if key not in self.left:
            if required:
                raise ScenarioError(f"{self.place}: '{key}' is missing")
            return default
        value = self.left.pop(key)
        wrong_bool = isinstance(value, bool) and bool not in (kind if isinstance(kind, tuple) else (kind,))
        if not isinstance(value, kind) or wrong_bool:
            raise ScenarioError(f"{self.place}.{key}: {value!r} has the wrong type")
        return value

    def size(self, key: str, default=0, required=False) -> int:
        text = self.take(key, str, None, required)
        return default if text is None else parse_size(text, f"{self.place}.{key}")

    def done(self):
        if self.left:
            raise ScenarioError(f"{self.place}: unknown key '{sorted(self.left)[0]}'")


def parse_size(text: str, place: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match:
        raise ScenarioError(f"{place}: '{text}' is not a size such as 512M")
    return int(match.group(1)) * SIZE_UNITS[match.group(2)]


def parse(document) -> Scenario:
    root = Section(document, "scenario")
    name = root.take("name", str, required=True)
    description = root.take("description", str, "")
    host_memory = root.size("host_memory", 8 << 30)
    vmm = _vmm(root, "balloon-vmm")
    guests = [_guest(key, value) for key, value in root.take("guests", dict, required=True).items()]
    names = [guest.name for guest in guests]
    phases = [_phase(value, number, names) for number, value in enumerate(root.take("phases", list, required=True))]
    policy = root.take("policy", dict, {})
    device_class = root.take("devices", str, "nvme")
    if device_class not in devices.NAMES:
        raise ScenarioError(f"scenario.devices: '{device_class}' is not one of {', '.join(devices.NAMES)}")
    notes = _old_baseline(root.take("baseline", dict))
    root.done()
    return Scenario(name, description, host_memory, vmm, guests, phases, policy, device_class, notes)


def _old_baseline(value: dict | None) -> list[str]:
    """Files from before it was dropped still run."""
    if value is None:
        return []
    section = Section(value, "scenario.baseline")
    section.take("free_page_reporting", bool, True)
    section.done()
    return ["scenario.baseline is ignored: runs with and without balloond differ in balloond alone; a guest's free_page_reporting holds for both"]


def pace(policy: dict, factor: float) -> dict:
    """The policy for a machine of that factor (speed.py): what the scenario says about how slow a guest may be is for the quick day."""
    engine = dict(policy.get("engine", {}))
    factor = max(1.0, factor)
    for key in ("stale_after", "stuck_after"):
        if key in engine:
            engine[key] = f"{int(_number(engine[key], 's', f'policy.engine.{key}') * factor)}s"
    if "progress_per_second" in engine:
        kib = _number(engine["progress_per_second"], "KiB", "policy.engine.progress_per_second")
        engine["progress_per_second"] = f"{max(1, int(kib / factor))}KiB"
    return {**policy, "engine": engine} if engine else policy


def _number(text, unit: str, place: str) -> int:
    match = re.fullmatch(rf"(\d+){unit}", str(text))
    if not match:
        raise ScenarioError(f"{place}: '{text}' is not a number of {unit}, which a slow machine's could be made of")
    return int(match.group(1))


def with_backend(document: dict, backend: str) -> dict:
    """The scenario with its guests run by balloon-vmm, by QEMU, by libvirt, or (mixed) by all of them in turn."""
    run_by = BACKENDS[backend]
    guests = {name: dict(guest, vmm=run_by[number % len(run_by)]) for number, (name, guest) in enumerate(document["guests"].items())}
    return dict(document, guests=guests)


def scaled(document: dict, divisor: int) -> dict:
    """The scenario with all of its memory (host, guests, swap, work, policy) that much smaller. A guest's own kernel and programs do not
    shrink with it: loads are what is left beside them."""
    def smaller(value):
        if isinstance(value, dict):
            return {key: smaller(each) for key, each in value.items()}
        if isinstance(value, list):
            return [smaller(each) for each in value]
        return re.sub(r"\b(\d+)([MG])(i?B)?\b", lambda size: f"{int(size[1]) * (1024 if size[2] == 'G' else 1) // divisor}M{size[3] or ''}",
                      value) if isinstance(value, str) else value

    def smaller_load(command: str) -> str:
        return re.sub(r"^load (\d+)M$", lambda size: f"load {(int(size[1]) + OWN_MIB) // divisor - OWN_MIB}M", command)

    def smaller_work(phase: dict) -> dict:
        work = {guest: [smaller_load(each) if each.startswith("load") else smaller(each) for each in commands]
                for guest, commands in phase.get("work", {}).items()}
        return dict(smaller(phase), work=work)

    words = f", at 1/{divisor} of that size"
    phases = [dict(smaller_work(phase), title=phase.get("title", phase["name"]) + words) for phase in document["phases"]]
    return {**smaller(document), "name": f"{document['name']}-{divisor}", "description": document.get("description", "") + words, "phases": phases}


def _vmm(section: Section, default: str) -> str:
    vmm = section.take("vmm", str, default)
    if vmm not in (*VMMS, default):
        raise ScenarioError(f"{section.place}.vmm: '{vmm}' is not one of {', '.join(VMMS)}")
    return vmm


def _guest(name: str, value) -> GuestSpec:
    section = Section(value, f"guests.{name}")
    spec = GuestSpec(name=name, memory=section.size("memory", required=True), cpus=section.take("cpus", int, 1),
                     swap=section.size("swap"), labels=section.take("labels", dict, {}),
                     free_page_reporting=section.take("free_page_reporting", bool, True), vmm=_vmm(section, ""))
    section.done()
    return spec


def _phase(value, number: int, guests: list[str]) -> PhaseSpec:
    section = Section(value, f"phases[{number}]")
    name = section.take("name", str, required=True)
    work = section.take("work", dict, {})
    idle = section.take("idle", list, [])
    for guest in [*work, *idle]:
        if guest not in guests:
            raise ScenarioError(f"{section.place}: there is no guest '{guest}'")
    for guest, commands in work.items():
        if not isinstance(commands, list) or not all(isinstance(c, str) and c.split()[:1] and c.split()[0] in WORK_VERBS
                                                     for c in commands):
            raise ScenarioError(f"{section.place}.work.{guest}: expected a list of commands ({', '.join(WORK_VERBS)})")
    spec = PhaseSpec(name=name, title=section.take("title", str, name), work=work, idle=idle,
                     timeout=float(section.take("timeout", (int, float), 120)),
                     settle=float(section.take("settle", (int, float), 10)), rest=float(section.take("rest", (int, float), 60)),
                     fits=section.take("fits", bool, None))
    section.done()
    return spec

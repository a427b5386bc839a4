"""What a mix's file says (tests/scenarios/workloads/*.yaml), checked strictly."""

import re
from dataclasses import dataclass

from .. import devices
from ..scenario import GuestSpec, ScenarioError, Section

# What guest/work.sh takes: words after the program, of which those in capitals are amounts.
WORK = {"redis fill": ("SIZE",), "redis get": ("COUNT",), "postgres fill": ("COUNT",), "postgres run": ("COUNT",),
        "postgres select": ("COUNT",), "files read": ("SIZE", "COUNT"), "stress": ("SIZE", "COUNT")}
AMOUNTS = {"SIZE": r"[1-9]\d*M", "COUNT": r"[1-9]\d*"}
DEFAULT_TIMEOUT = 900


@dataclass
class MixGuest:
    spec: GuestSpec
    weight: int
    minimum: int  # no controller goes below


@dataclass
class Phase:
    name: str
    title: str
    work: dict[str, list[str]]  # guest -> what it does, one after the other; guests work side by side
    settle: float  # seconds that pass when all is done, in which nobody works
    timeout: float


@dataclass
class Mix:
    name: str
    description: str
    host_memory: int
    devices: str
    guests: list[MixGuest]
    phases: list[Phase]
    policy: dict


def parse(document) -> Mix:
    root = Section(document, "mix")
    name = root.take("name", str, required=True)
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ScenarioError(f"mix.name: '{name}' may have small letters, digits and '-' only")
    mix = Mix(name, root.take("description", str, ""), root.size("host_memory", required=True), root.take("devices", str, "nvme"),
              [_guest(*item) for item in root.take("guests", dict, required=True).items()], [], root.take("policy", dict, {}))
    if mix.devices not in devices.NAMES:
        raise ScenarioError(f"mix.devices: '{mix.devices}' is not one of {', '.join(devices.NAMES)}")
    names = [guest.spec.name for guest in mix.guests]
    mix.phases = [_phase(value, number, names) for number, value in enumerate(root.take("phases", list, required=True))]
    root.done()
    phase_names = [phase.name for phase in mix.phases]
    if len(set(phase_names)) != len(phase_names):
        raise ScenarioError("mix.phases: two have the same name")
    return mix


def _guest(name: str, value) -> MixGuest:
    section = Section(value, f"guests.{name}")
    spec = GuestSpec(name, section.size("memory", required=True), section.take("cpus", int, 1), section.size("swap"))
    guest = MixGuest(spec, section.take("weight", int, 100), section.size("min", 192 << 20))
    section.done()
    if not 0 < guest.minimum <= spec.memory:
        raise ScenarioError(f"guests.{name}.min: must be above 0 and at most the guest's memory")
    return guest


def _phase(value, number: int, guests: list[str]) -> Phase:
    section = Section(value, f"phases[{number}]")
    name = section.take("name", str, required=True)
    phase = Phase(name, section.take("title", str, name), section.take("work", dict, {}),
                  float(section.take("settle", (int, float), 0)), float(section.take("timeout", (int, float), DEFAULT_TIMEOUT)))
    section.done()
    for guest, commands in phase.work.items():
        place = f"{section.place}.work.{guest}"
        if guest not in guests:
            raise ScenarioError(f"{place}: there is no guest '{guest}'")
        if not isinstance(commands, list):
            raise ScenarioError(f"{place}: expected a list of work")
        for command in commands:
            if not is_work(command):
                raise ScenarioError(f"{place}: '{command}' is none of " + ", ".join(" ".join((verb, *words)) for verb, words in WORK.items()))
    return phase


def is_work(command) -> bool:
    return isinstance(command, str) and any(
        re.fullmatch(" ".join([verb, *(AMOUNTS[word] for word in words)]), command) for verb, words in WORK.items())


def policy_of(mix: Mix) -> dict:
    """balloond's policy file: the mix's own, with each guest's weight and minimum."""
    guests = [{"name": guest.spec.name, "weight": guest.weight, "min": f"{guest.minimum >> 20}M"} for guest in mix.guests]
    return {**mix.policy, "guests": [*guests, *mix.policy.get("guests", [])]}

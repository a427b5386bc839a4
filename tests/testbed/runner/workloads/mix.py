# SPDX-License-Identifier: Apache-2.0
"""What a mix's file says (tests/scenarios/workloads/*.yaml), checked strictly: what cannot be is refused before anything boots."""

import re
from dataclasses import dataclass

from .. import devices
from ..scenario import GuestSpec, ScenarioError, Section, pace
from .limits import (DATA_MIB, DEFAULT_MINIMUM_MIB, GUEST_MIN_MIB, GUESTS_MAX, HOST_MAX_MIB, HOST_MIN_MIB, MIB, SECONDS_MAX, SWAP_MAX_MIB,
                     VCPUS_MAX, WEIGHT_MAX)

# What guest/work.sh takes: words after the program, of which those in capitals are amounts.
WORK = {"redis fill": ("SIZE",), "redis get": ("COUNT",), "postgres fill": ("SIZE",), "postgres run": ("COUNT",),
        "postgres select": ("COUNT",), "files read": ("SIZE", "COUNT"), "stress": ("SIZE", "COUNT")}
AMOUNTS = {"SIZE": r"[1-9]\d{0,5}M", "COUNT": r"[1-9]\d{0,8}"}
# Who serves has been filled before.
NEEDS = {"redis get": "redis fill", "postgres run": "postgres fill", "postgres select": "postgres fill"}
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
    settle: float  # seconds of the quick day that nothing moves when all is done, at least
    timeout: float  # seconds of the quick day that the work may take


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
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name):
        raise ScenarioError(f"mix.name: '{name}' may have small letters, digits and '-' only, at most 64")
    mix = Mix(name, root.take("description", str, ""), _mib(root, "host_memory", HOST_MIN_MIB, HOST_MAX_MIB),
              root.take("devices", str, "nvme"), [], [], root.take("policy", dict, {}))
    if mix.devices not in devices.NAMES:
        raise ScenarioError(f"mix.devices: '{mix.devices}' is not one of {', '.join(devices.NAMES)}")
    mix.guests = [_guest(*item) for item in root.take("guests", dict, required=True).items()]
    if not 1 <= len(mix.guests) <= GUESTS_MAX:
        raise ScenarioError(f"mix.guests: {len(mix.guests)} guests; there may be 1 to {GUESTS_MAX}")
    mix.phases = _phases(root.take("phases", list, required=True), [guest.spec.name for guest in mix.guests])
    root.done()
    _check_policy(mix.policy)
    return mix


def _mib(section: Section, key: str, low: int, high: int, default: int | None = None) -> int:
    """A size in bytes that is a whole number of MiB."""
    if default is not None and key not in section.left:
        return default * MIB
    size = section.size(key, required=True)
    if size % MIB or not low * MIB <= size <= high * MIB:
        raise ScenarioError(f"{section.place}.{key}: must be a whole number of MiB from {low}M to {high}M")
    return size


def _whole(section: Section, key: str, default: int, high: int) -> int:
    value = section.take(key, int, default)
    if not 1 <= value <= high:
        raise ScenarioError(f"{section.place}.{key}: {value} is not between 1 and {high}")
    return value


def _guest(name, value) -> MixGuest:
    # balloond's rule for names (balloond/guests/sanitize.cc), and they become names of files.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise ScenarioError(f"guests: '{name}' is no name: 1 to 64 letters, digits, '_', '.' and '-' (a number or a word such as yes in quotes)")
    section = Section(value, f"guests.{name}")
    spec = GuestSpec(name, _mib(section, "memory", GUEST_MIN_MIB, HOST_MAX_MIB), _whole(section, "cpus", 1, VCPUS_MAX),
                     _mib(section, "swap", 0, SWAP_MAX_MIB, 0))
    own_minimum = "min" in section.left
    guest = MixGuest(spec, _whole(section, "weight", 100, WEIGHT_MAX), _mib(section, "min", 1, HOST_MAX_MIB, DEFAULT_MINIMUM_MIB))
    section.done()
    if not own_minimum:
        guest.minimum = min(guest.minimum, spec.memory)
    elif guest.minimum > spec.memory:
        raise ScenarioError(f"guests.{name}.min: is more than the guest's memory")
    return guest


def _phases(values: list, guests: list[str]) -> list[Phase]:
    if not values:
        raise ScenarioError("mix.phases: there is none")
    done: set[tuple[str, str]] = set()
    phases = [_phase(value, number, guests, done) for number, value in enumerate(values)]
    names = [phase.name for phase in phases]
    if len(set(names)) != len(names):
        raise ScenarioError("mix.phases: two have the same name")
    return phases


def _phase(value, number: int, guests: list[str], done: set[tuple[str, str]]) -> Phase:
    section = Section(value, f"phases[{number}]")
    name = section.take("name", str, required=True)
    phase = Phase(name, section.take("title", str, name), section.take("work", dict, {}), _seconds(section, "settle", 0, 0),
                  _seconds(section, "timeout", DEFAULT_TIMEOUT, 1))
    section.done()
    for guest, commands in phase.work.items():
        place = f"{section.place}.work.{guest}"
        if guest not in guests:
            raise ScenarioError(f"{place}: there is no guest '{guest}'")
        if not isinstance(commands, list):
            raise ScenarioError(f"{place}: expected a list of work")
        for command in commands:
            _check_work(command, place, guest, done)
    return phase


def _seconds(section: Section, key: str, default: float, low: float) -> float:
    value = float(section.take(key, (int, float), default))
    if not low <= value <= SECONDS_MAX:  # not a number is not, either
        raise ScenarioError(f"{section.place}.{key}: {value} is not between {low} and {SECONDS_MAX} seconds")
    return value


def _check_work(command, place: str, guest: str, done: set[tuple[str, str]]):
    if not is_work(command):
        raise ScenarioError(f"{place}: '{command}' is none of " + ", ".join(" ".join((verb, *words)) for verb, words in WORK.items())
                            + "; SIZE is as 300M, COUNT a number above 0")
    verb = next(verb for verb in WORK if command.startswith(verb))
    if verb in NEEDS and (guest, NEEDS[verb]) not in done:
        raise ScenarioError(f"{place}: '{command}' comes before any '{NEEDS[verb]}' of this guest")
    if verb == "files read" and int(command.split()[2][:-1]) > DATA_MIB:
        raise ScenarioError(f"{place}: '{command}': the data disk has {DATA_MIB} MiB of files")
    done.add((guest, verb))


def is_work(command) -> bool:
    return isinstance(command, str) and any(
        re.fullmatch(" ".join([verb, *(AMOUNTS[word] for word in words)]), command) for verb, words in WORK.items())


def _check_policy(policy: dict):
    """Its form, as far as it is used here. All else is balloond's to check."""
    if not isinstance(policy.get("guests", []), list):
        raise ScenarioError("mix.policy.guests: expected a list")
    if not isinstance(policy.get("engine", {}), dict):
        raise ScenarioError("mix.policy.engine: expected a mapping")
    pace(policy, 1.0)


def policy_of(mix: Mix) -> dict:
    """balloond's policy file: the mix's own, with each guest's weight and minimum."""
    guests = [{"name": guest.spec.name, "weight": guest.weight, "min": f"{guest.minimum >> 20}M"} for guest in mix.guests]
    return {**mix.policy, "guests": [*guests, *mix.policy.get("guests", [])]}

# SPDX-License-Identifier: Apache-2.0
"""The newcomer's page as commands: its blocks of code as they stand, and where each is run by installed_host."""

import re
from dataclasses import dataclass
from enum import Enum, auto


class Place(Enum):
    BELOW = auto()  # needs no KVM, only time and a package mirror: in a chroot of the same Debian, outside the emulation
    HOST = auto()  # in the host, by a shell
    TYPED = auto()  # in the host, by somebody at a terminal (installed/type_at_console.py)
    LEFT = auto()  # not here: what tests it is named in place_of()


@dataclass(frozen=True)
class Block:
    section: str
    text: str  # one command or more, each with its line end


def blocks(page: str) -> list[Block]:
    """Indented blocks of a page, without those within lists."""
    found: list[Block] = []
    section = ""
    lines: list[str] = []

    def end():
        while lines and not lines[-1]:
            lines.pop()
        if lines:
            found.append(Block(section, "".join(f"{line}\n" for line in lines)))
        lines.clear()

    for line in [*page.splitlines(), "#"]:
        if line.startswith("    "):
            lines.append(line[4:])
        elif not line and lines:
            lines.append("")
        else:
            end()
            if heading := re.match(r"#+ (.*)", line):
                section = heading[1]
    return found


def place_of(block: Block) -> Place:
    if "mmdebstrap" in block.text:
        return Place.BELOW
    if block.text.startswith("socat STDIO"):
        return Place.TYPED
    if "prometheus" in block.text:
        return Place.LEFT  # tests/observability/live_test.py: the shipped configuration, a real Prometheus and a real balloond
    return Place.HOST


# Of a block that is run below, this is the host's: the package makes that user.
HOSTS_OWN = re.compile(r"(?m)^(?:cd|chown) .*\n")
# What made the packages before the walk began.
OF_THE_TREE = re.compile(r"(?m)^scripts/package\.sh\b.*\n")


def below(page: str) -> str:
    return "".join(re.sub(r"(?m)^chown .*\n", "", block.text) for block in blocks(page) if place_of(block) is Place.BELOW)


def in_host(page: str) -> dict[str, str]:
    """By section, in the page's order: what a shell runs there."""
    found: dict[str, str] = {}
    for block in blocks(page):
        place = place_of(block)
        if place is Place.HOST:
            text = OF_THE_TREE.sub("", block.text)
        elif place is Place.BELOW:
            text = "".join(HOSTS_OWN.findall(block.text))
        else:
            continue
        found[block.section] = found.get(block.section, "") + text
    return found


def first_of(page: str, section: str) -> str:
    """The section's first block; what else it has is what the commands print."""
    return OF_THE_TREE.sub("", next(block.text for block in blocks(page) if block.section == section))


def typed(page: str) -> str:
    (block,) = [block for block in blocks(page) if place_of(block) is Place.TYPED]
    return block.text


def slug(section: str) -> str:
    return re.sub(r"\W+", "-", section.lower()).strip("-")

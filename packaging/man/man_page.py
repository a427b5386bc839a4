#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a compressed man page of a source in scdoc's language.

A source line that begins with @ stands for what the programs and schemas themselves say, so that a page cannot contradict them:
  @options PROGRAM   the options of `PROGRAM --help`
  @commands PROGRAM  its subcommands, each with its arguments and options
  @notes PROGRAM     what stands below the options there
  @keys SCHEMA       the keys of a configuration file, by its JSON Schema (a path from the tree's root)
  @file PATH         a file of the tree, word for word
"""
import argparse
import gzip
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ITEM = re.compile(r"^  (\S.*?)(?:\s{2,}(\S.*))?$")
# A name that fills the column is followed by one space only (CLI11's formatter pads names to 30 characters). One that is longer has its
# text in the next line, below the others' texts.
NAME_WIDTH = 28
BELOW = " " * (NAME_WIDTH + 2)
# What CLI11 says of an option's value, for programmers: type, check, default, and where else the value is taken from.
VALUE = re.compile(r"(?P<type>[A-Z]\w*)(?::(?:\{(?P<choices>[^}]*)\}|(?:INT|FLOAT) in \[(?P<low>\S+) - (?P<high>[^\]]+)\]|(?P<kind>NAME=VALUE|\w+)))?"
                   r"(?:=(?P<default>\S+))?(?P<several> \.\.\.)?(?: \(Env:(?P<env>\w+)\))?(?: REQUIRED)?")


@dataclass
class Help:
    """What `PROGRAM --help` says."""
    summary: str = ""
    usage: str = ""
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse_help(text: str) -> Help:
    found, section = Help(), None
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""]):
        heading = re.match(r"^(Options|Positionals|Subcommands|[A-Z][\w ]*):$", line)
        if heading and found.usage and not found.notes:
            section = found.sections.setdefault(heading.group(1), [])
        elif line.startswith("Usage: "):
            found.usage = line.removeprefix("Usage: ")
        elif section is not None and line.startswith("  "):
            _add_item(section, line, text_is_below=after.startswith(BELOW))
        elif not found.usage:
            found.summary += f"{line} " if line else ""
        elif line.strip() or found.notes:
            section = None
            found.notes.append(line)
    if not found.usage or "Options" not in found.sections:
        raise SystemExit(f"man_page: this is not the help of a program:\n{text}")
    return found


def _add_item(section: list[tuple[str, str]], line: str, text_is_below: bool):
    item = ITEM.match(line)
    if text_is_below and item and not item.group(2):
        section.append((item.group(1), ""))
    elif item is None:  # deeper: the text goes on
        if not section:
            raise SystemExit(f"man_page: a text without a name: {line!r}")
        name, words = section[-1]
        section[-1] = (name, f"{words} {line.strip()}".strip())
    elif item.group(2) is None and len(line) > NAME_WIDTH + 2 and line[NAME_WIDTH + 1] == " ":
        section.append((line[2:NAME_WIDTH + 1].rstrip(), line[NAME_WIDTH + 2:].strip()))
    else:
        section.append((item.group(1), item.group(2) or ""))


def help_of(bin_dir: Path, words: list[str]) -> Help:
    """Of the program words[0], or of its subcommand."""
    done = subprocess.run([*words, "--help"], executable=bin_dir / words[0], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"man_page: {' '.join(words)} --help: status {done.returncode}: {done.stderr.strip()}")
    return parse_help(done.stdout)


def escaped(text: str) -> str:
    """Text that scdoc takes for nothing else."""
    return re.sub(r"([\\*_~<>\[\]#])", r"\\\1", text).replace("\n", " ")


def option_name(name: str) -> str:
    """`--socket PATH=/run/x (Env:E)` with the flags in bold, and its value in a reader's words."""
    flags, _, value = name.partition(" ")
    bold = ", ".join(f"*{escaped(flag)}*" for flag in flags.split(","))
    return f"{bold} {value_of_option(value)}".strip()


def value_of_option(value: str) -> str:
    known = VALUE.fullmatch(value)
    if known is None:
        return escaped(value)
    type_name = "NUMBER" if known["type"] in ("UINT", "INT", "FLOAT") else known["type"]
    kind = known["kind"] if known["kind"] not in (None, "POSITIVE") else type_name
    shown = escaped(known["choices"].replace(",", "|")) if known["choices"] else f"_{escaped(kind)}_"
    more = [f"{known['low']} to {known['high']}"] if known["low"] else []
    more += [f"default {known['default']}"] if known["default"] else []
    more += [f"environment {known['env']}"] if known["env"] else []
    return shown + ("..." if known["several"] else "") + (f" ({escaped(', '.join(more))})" if more else "")


def definition_list(items: list[tuple[str, str]]) -> list[str]:
    lines = []
    for name, text in items:
        lines += [name, f"\t{escaped(text) if text else 'See below.'}", ""]
    return lines


def options(bin_dir: Path, words: list[str]) -> list[str]:
    return definition_list([(option_name(name), text) for name, text in help_of(bin_dir, words).sections["Options"]])


def commands(bin_dir: Path, words: list[str]) -> list[str]:
    """Without those of their options that the program's own section has."""
    shared = [_place_and_text(option) for option in help_of(bin_dir, words[:1]).sections["Options"]]
    lines: list[str] = []
    for name, _ in help_of(bin_dir, words).sections.get("Subcommands", []):
        inner = [*words, name.split(" ")[0]]
        said = help_of(bin_dir, inner)
        operands = said.usage.partition("[OPTIONS]")[2].replace("[SUBCOMMAND]", "").replace("SUBCOMMAND", "").strip()
        own = [(option_name(option[0]), option[1]) for option in said.sections["Options"] if _place_and_text(option) not in shared]
        # Nothing is markup in scdoc's headings.
        lines += [f"## {' '.join(inner[1:])} {operands}".rstrip(), "", escaped(said.summary.strip()), ""]
        lines += definition_list([(f"_{option.split(' ')[0]}_", text) for option, text in said.sections.get("Positionals", [])])
        lines += definition_list(own)
        lines += commands(bin_dir, inner)
    return lines


def _place_and_text(option: tuple[str, str]) -> tuple[str, str]:
    """What makes it the same option: its value may be said in more words at one place."""
    return option[0].split(" ")[0], option[1]


def paragraphs(text: list[str]) -> list[str]:
    """Lines of --help, in which a line that ends a sentence ends a paragraph; what is indented there are commands."""
    lines: list[str] = []
    open_ended = False
    for line in text:
        said = escaped(line.strip())
        if line.startswith(" "):
            lines += [f"\t*{said}*", ""]
        elif open_ended:
            lines[-2] += f" {said}"
        else:
            lines += [said, ""]
        open_ended = bool(said) and not line.startswith(" ") and said[-1] not in ".:"
    return lines


def notes(bin_dir: Path, words: list[str]) -> list[str]:
    return paragraphs(help_of(bin_dir, words).notes)


def keys(schema: Path) -> list[str]:
    whole = json.loads(schema.read_text())
    lines: list[str] = []

    def resolve(node: dict) -> dict:
        if "$ref" not in node:
            return node
        target = whole
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return {**resolve(target), **node}

    def walk(node: dict, path: str, seen: tuple[str, ...]):
        for name, value in node.get("properties", {}).items():
            here = f"{path}.{name}" if path else name
            inner = resolve(value)
            item = resolve(inner.get("items", {}))
            default = inner.get("default")
            shown = f" (default {escaped(default if isinstance(default, str) else json.dumps(default))})" if default is not None else ""
            choices = inner.get("enum")
            said = inner.get("description", "") + (f" One of {', '.join(map(str, choices))}." if choices else "")
            lines.extend([f"*{escaped(here)}*{shown}", f"\t{escaped(said) if said else 'See below.'}", ""])
            reference = value.get("$ref", "") + inner.get("items", {}).get("$ref", "")
            if reference and reference in seen:
                continue  # the same keys again: they are listed where they came first
            again = (*seen, reference) if reference else seen
            walk(inner, here, again)
            if item:
                walk(item, f"{here}[]", again)

    walk(whole, "", ())
    return lines


def verbatim(path: Path) -> list[str]:
    return ["```", *path.read_text().rstrip("\n").split("\n"), "```", ""]


def expand(source: str, bin_dir: Path) -> str:
    lines = []
    for line in source.splitlines():
        marker = re.match(r"^@(\w+) (\S+)$", line)
        if marker is None:
            lines.append(line)
            continue
        kind, what = marker.groups()
        makers = {"options": lambda: options(bin_dir, [what]), "commands": lambda: commands(bin_dir, [what]),
                  "notes": lambda: notes(bin_dir, [what]), "keys": lambda: keys(ROOT / what), "file": lambda: verbatim(ROOT / what)}
        if kind not in makers:
            raise SystemExit(f"man_page: unknown marker @{kind}")
        lines += makers[kind]()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def date_of_version() -> int:
    """Of the newest entry in the packages' changelog: a page is the same whenever it is made."""
    changelog = (ROOT / "packaging/debian/changelog").read_text()
    return int(parsedate_to_datetime(re.search(r"^ -- .*>  (.+)$", changelog, re.MULTILINE).group(1)).timestamp())


def render(source: str, bin_dir: Path) -> str:
    done = subprocess.run(["scdoc"], input=expand(source, bin_dir), text=True, capture_output=True,
                          env={**os.environ, "SOURCE_DATE_EPOCH": str(date_of_version())})
    if done.returncode != 0:
        raise SystemExit(f"man_page: scdoc: {done.stderr.strip()}")
    return without_idle_paragraphs(done.stdout)


def without_idle_paragraphs(roff: str) -> str:
    """scdoc ends each block by a paragraph, also where a heading begins or ends one: mandoc complains about each of them."""
    kept: list[str] = []
    for line in roff.replace(".P\n.RE\n", ".RE\n.P\n").splitlines():
        heading = line.startswith((".SH", ".SS", ".TH"))
        while heading and kept and kept[-1] in (".P", ".PP"):
            kept.pop()
        if line in (".P", ".PP") and kept and (kept[-1] == line or kept[-1].startswith((".SH", ".SS"))):
            continue
        kept.append(line)
    while kept and kept[-1] in (".P", ".PP"):
        kept.pop()
    return "\n".join(kept) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--bin", type=Path, required=True, help="where the programs are")
    arguments = parser.parse_args()
    page = render(arguments.source.read_text(), arguments.bin)
    with open(arguments.output, "wb") as out, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(page.encode())


if __name__ == "__main__":
    sys.exit(main())

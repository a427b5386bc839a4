# SPDX-License-Identifier: Apache-2.0
"""Commands of the docs are ones that the programs take: their subcommands and options are named by --help."""
import os
import re
import shlex
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging/man"))
from man_page import Help, help_of  # noqa: E402

BIN = Path(os.environ["BALLOON_BIN"])
PROGRAMS = ("balloond", "balloon-vmm", "balloonctl", "balloon-sim")
START = re.compile(r"^(?:# |\$ |sudo |exec )*(?:\S*/)?(balloond|balloon-vmm|balloonctl|balloon-sim)(?= |$)")


def commands(text: str) -> list[str]:
    """Lines of code blocks, and code within lines, that call a program."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"(?m)^(?:    | {8}|\t)(\S.*)$", text) + [
        line for block in re.findall(r"(?ms)^ *```[a-z]*\n(.*?)^ *```", text) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", text)
    return [line.strip() for line in [*blocks, *inline] if START.match(line.strip())]


def names(said: Help, section: str) -> set[str]:
    return {one for name, _ in said.sections.get(section, []) for one in name.split(" ")[0].split(",")}


class Programs:
    def __init__(self):
        self._said: dict[tuple[str, ...], Help] = {}

    def help(self, *words: str) -> Help:
        if words not in self._said:
            self._said[words] = help_of(BIN, list(words))
        return self._said[words]

    def complaint(self, command: str) -> str | None:
        """What is wrong with a command; None: nothing."""
        program = START.match(command).group(1)
        rest = command[START.match(command).end():]
        try:
            words = shlex.split(re.split(r" [|>&;#]|$", rest)[0], comments=True)
        except ValueError:  # it goes on in the next line of a script
            return None
        path, options = [program], names(self.help(program), "Options")
        for word in words:
            if word.startswith("-") and len(word) > 1 and not word[1].isdigit():
                if word.split("=")[0] not in options:
                    return f"{' '.join(path)} has no option {word}"
            elif word in names(self.help(*path), "Subcommands"):
                path.append(word)
                options |= names(self.help(*path), "Options")
            elif len(path) == 1 and self.help(program).sections.get("Subcommands") and re.fullmatch(r"[a-z]+", word) and \
                    not takes_a_value(words, word):
                return f"{program} has no command {word}"
        return None


def takes_a_value(words: list[str], word: str) -> bool:
    """Whether it stands behind an option, as its value may."""
    at = words.index(word)
    return at > 0 and words[at - 1].startswith("-")


class DocsTest(unittest.TestCase):
    programs = Programs()

    def test_every_command_of_the_docs_is_one_that_the_programs_take(self):
        found = [(page, command) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] for command in commands(page.read_text())]
        self.assertGreater(len(found), 60, "the docs' commands are not where this test looks for them")
        wrong = [f"{page.name}: {command}: {complaint}" for page, command in found
                 if (complaint := self.programs.complaint(command))]
        self.assertEqual(wrong, [])

    def test_a_command_that_nobody_takes_is_noticed(self):
        text = "    balloonctl lst\n    balloonctl list --wide\n`balloond --check-confg`\n    balloonctl -o json list | jq .\n"
        self.assertEqual([self.programs.complaint(command) for command in commands(text)],
                         ["balloonctl has no command lst", "balloonctl list has no option --wide", None,
                          "balloond has no option --check-confg"])


if __name__ == "__main__":
    unittest.main()

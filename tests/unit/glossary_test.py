# SPDX-License-Identifier: Apache-2.0
"""The glossary has the words of the law's own types."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "docs/glossary.md").read_text()


def enumerators(header: str, name: str) -> list[str]:
    body = re.search(rf"enum class {name} : [^{{]*{{(.*?)}};", (ROOT / header).read_text(), re.DOTALL).group(1)
    return re.findall(r"\b[a-z]\w*", re.sub(r"///.*", "", body))


class GlossaryTest(unittest.TestCase):
    def missing(self, header: str, name: str) -> list[str]:
        words = [word.replace("_", " ") for word in enumerators(header, name) if word != "unspecified"]
        self.assertGreater(len(words), 4)
        return [word for word in words if not re.search(rf"^\| {word} \|", GLOSSARY, re.MULTILINE)]

    def test_every_level_has_a_line(self):
        self.assertEqual(self.missing("policy/levels.h", "Level"), [])

    def test_levels_stand_in_their_order(self):
        names = [word.replace("_", " ") for word in enumerators("policy/levels.h", "Level")]
        section = GLOSSARY[GLOSSARY.index("## Levels"):GLOSSARY.index("## Host")]
        self.assertEqual([line.split(" | ")[0].lstrip("| ") for line in section.splitlines() if line.startswith("| ")][2:], names)

    def test_every_state_has_a_line(self):
        self.assertEqual(self.missing("policy/types.h", "GuestState"), [])
        self.assertEqual(self.missing("policy/types.h", "HostState"), [])


if __name__ == "__main__":
    unittest.main()

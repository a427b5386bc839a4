# SPDX-License-Identifier: Apache-2.0
"""Each test that docs/bad-input.md names for a class of bad input exists, and each class has one."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/bad-input.md").read_text()
TESTS = {
    f"{suite}.{name}"
    for source in (ROOT / "tests").rglob("*_test.cc")
    for suite, name in re.findall(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", source.read_text(), re.MULTILINE)
}


class BadInputTest(unittest.TestCase):
    def test_every_test_that_is_named_exists(self):
        named = re.findall(r"`(\w+\.[A-Z]\w+)`", PAGE)
        self.assertGreater(len(named), 50)
        self.assertEqual([name for name in named if name not in TESTS], [])

    def test_every_class_has_a_test(self):
        rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
        classes = [row for row in rows if row[0] not in ("| class", "| ---")]
        self.assertGreater(len(classes), 40)
        self.assertEqual([row[0] for row in classes if not re.search(r"`\w+\.[A-Z]\w+`", row[-1])], [])


if __name__ == "__main__":
    unittest.main()

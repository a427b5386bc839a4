# SPDX-License-Identifier: Apache-2.0
"""Each test that docs/faults.md names exists, and each fault there has one."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/faults.md").read_text()
CPP = re.compile(r"(?m)^(?:TEST(?:_F|_P)?|INSTANTIATE_TEST_SUITE_P)\(\s*(\w+),\s*(\w+)")
PYTHON = re.compile(r"(?m)^class (\w+)|^    def (test_\w+)")


def names_of_tests() -> set[str]:
    """Suites and tests, alone and together."""
    names: set[str] = set()
    for file in (ROOT / "tests").rglob("*_test.cc"):
        for suite, test in CPP.findall(file.read_text()):
            names |= {suite, test, f"{suite}.{test}"}
    for file in (ROOT / "tests").rglob("*_test.py"):
        for suite, test in PYTHON.findall(file.read_text()):
            names.add(suite or test)
    return names


def is_test(name: str, tests: set[str], files: set[str]) -> bool:
    """Of tests with parameters, the suite; of a file, its path or the end of it."""
    name = re.sub(r"\.\*/.*", "", name)
    suite, _, python = name.partition(".test_")
    if python:
        return suite in tests and f"test_{python}" in tests
    return name in tests or any(file == name or file.endswith(f"/{name}") or file.startswith(f"{name}/") for file in files)


class FaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tests = names_of_tests()
        cls.files = {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("*") if file.is_file()}
        rows = [re.split(r" \| ", line.strip("| \n")) for line in PAGE.splitlines() if line.startswith("| ")]
        cls.rows = [row for row in rows if row[0] not in ("fault", "---")]

    def test_every_fault_has_a_test_and_every_test_that_is_named_exists(self):
        self.assertGreater(len(self.rows), 50)
        for row in self.rows:
            with self.subTest(row[1]):
                named = re.findall(r"`([^`]+)`", row[2])
                self.assertNotEqual(named, [])
                self.assertEqual([name for name in named if not is_test(name, self.tests, self.files)], [])

    def test_a_test_that_is_not_there_is_noticed(self):
        for name in ("LoopTest.NoSuchTest", "NoSuchTest", "tests/unit/no_such_test.py", "PackagesTest.test_no_such"):
            self.assertFalse(is_test(name, self.tests, self.files), name)
        for name in ("LoopTest", "LoopTest.TicksEveryPeriod", "GreedyGuestTest.*/Console", "docs_test.py", "tests/integration/qmp"):
            self.assertTrue(is_test(name, self.tests, self.files), name)


if __name__ == "__main__":
    unittest.main()

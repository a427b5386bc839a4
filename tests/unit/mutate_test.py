# SPDX-License-Identifier: Apache-2.0
"""scripts/mutate.sh on a small program with a test that notices some of what can be changed in it."""
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CMAKE = """cmake_minimum_required(VERSION 3.25)
project(small CXX)
set(CMAKE_CXX_STANDARD 20)
enable_testing()
add_executable(code_test code/code_test.cc code/code.cc)
target_include_directories(code_test PRIVATE ${CMAKE_SOURCE_DIR})
add_test(NAME code COMMAND code_test)
set_tests_properties(code PROPERTIES LABELS unit)
"""
CODE = """#include <algorithm>
constexpr int kPlaces = 3;
int places[kPlaces];
int bounded(int value) { return std::min(value, 10); }
bool is_small(int value) { return value < 100; }
int never_called(int value) { return value + 1; }
"""
TEST = """int bounded(int);
bool is_small(int);
int main() { return bounded(5) == 5 && bounded(50) == 10 && is_small(1) && !is_small(1000) ? 0 : 1; }
"""
# A class that is a number, and is named in find.py.
SIZES = """#include <compare>
struct Bytes {
  unsigned long count;
  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes other) { count += other.count; return *this; }
};
constexpr Bytes operator+(Bytes a, Bytes b) { return Bytes{a.count + b.count}; }
constexpr Bytes operator-(Bytes a, Bytes b) { return Bytes{a.count - b.count}; }
bool fits(Bytes size, Bytes room) { return size < room; }
Bytes both(Bytes one, Bytes two) { return one + two; }
Bytes doubled(Bytes size) {
  size += Bytes{size};
  return size;
}
"""
TEST_OF_SIZES = """struct Bytes { unsigned long count; };
bool fits(Bytes, Bytes);
Bytes both(Bytes, Bytes);
Bytes doubled(Bytes);
int main() { return fits({1}, {3}) && !fits({4}, {3}) && both({1}, {2}).count == 3 && doubled({0}).count == 0 ? 0 : 1; }
"""


class MutateTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        for name, text in {"CMakeLists.txt": CMAKE, "code/code.cc": CODE, "code/code_test.cc": TEST}.items():
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text(text)
        subprocess.run(["git", "init", "-q"], cwd=self.root, check=True)

    def mutate(self, *options):
        return subprocess.run(["/usr/bin/python3", "-B", ROOT / "scripts/mutants", "code/code.cc", "--target", "all", *options],
                              cwd=self.root, text=True, capture_output=True, check=False)

    def test_what_no_test_notices_is_named_with_its_place(self):
        done = self.mutate("--changes", "0", "--only", "bound,comparison,arithmetic,constant")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        changes = {(change["line"], change["kind"]): change for change in json.loads((self.root / "build-mutate/changes.json").read_text())}
        self.assertEqual(changes[4, "bound"]["noticed_by"], "code")
        self.assertIsNone(changes[5, "comparison"]["noticed_by"])
        self.assertIn("code/code.cc:5: comparison: value < 100 -> value <= 100 (1 tests come there)", done.stdout)
        self.assertIn("code/code.cc:6: arithmetic: value + 1 -> value - 1 (no test comes there)", done.stdout)
        self.assertNotIn((2, "constant"), changes, "the size of an array must be known when it is compiled")
        self.assertEqual((self.root / "code/code.cc").read_text(), CODE, "the code itself is left alone")

    def test_sizes_are_changed_as_numbers_are(self):
        (self.root / "code/code.cc").write_text(SIZES)
        (self.root / "code/code_test.cc").write_text(TEST_OF_SIZES)
        done = self.mutate("--changes", "0")
        changes = {(change["line"], change["kind"]): change for change in json.loads((self.root / "build-mutate/changes.json").read_text())}
        self.assertIn("code/code.cc:9: comparison: size < room -> size <= room (1 tests come there)", done.stdout)
        self.assertEqual(changes[10, "arithmetic"]["noticed_by"], "code")
        self.assertIn("code/code.cc:12: statement: size += Bytes{size} -> (left out) (1 tests come there)", done.stdout)

    def test_a_small_part_that_is_wanted_is_enough(self):
        done = self.mutate("--changes", "0", "--only", "bound", "--least", "100")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("1 of 1 changes are noticed, 100 %", done.stdout)

    def test_a_test_that_fails_anyway_says_nothing_about_changes(self):
        (self.root / "code/code_test.cc").write_text("int main() { return 1; }\n")
        done = self.mutate()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("code fails without any change", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()

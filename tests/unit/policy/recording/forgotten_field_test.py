# SPDX-License-Identifier: Apache-2.0
"""A field that is added to a recorded type and not recorded does not compile. COMPILER: the C++ compiler."""
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
# Where the recorded types are, and what names all their fields.
HEADERS = ("policy/types.h", "policy/tunables.h", "policy/recording/record.h")
NAMING = ("policy/recording/fields.h", "policy/recording/tunable_fields.h", "tests/unit/policy/recording/file_fields.h")
STRUCT = re.compile(r"^struct (\w+) \{$", re.MULTILINE)


class ForgottenFieldTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def compile(self, change):
        """What the compiler says of the recording's code, with the recorded types as `change` makes them of what they are."""
        for header in HEADERS:
            changed = self.scratch / header
            changed.parent.mkdir(parents=True, exist_ok=True)
            changed.write_text(change((ROOT / header).read_text()))
        source = self.scratch / "source.cc"
        source.write_text("".join(f'#include "{header}"\n' for header in NAMING))
        return subprocess.run([os.environ["COMPILER"], "-std=c++23", "-fsyntax-only", "-I", str(self.scratch), "-I", str(ROOT),
                               str(source)], text=True, capture_output=True, check=False)

    def test_the_types_as_they_are_compile(self):
        done = self.compile(lambda text: text)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_forgotten_field_of_any_type_does_not_compile_however_small_it_is(self):
        types = [name for header in HEADERS for name in STRUCT.findall((ROOT / header).read_text())]
        self.assertGreaterEqual(len(types), 24)
        done = self.compile(lambda text: STRUCT.sub(r"\g<0> bool forgotten = false;", text))
        self.assertNotEqual(done.returncode, 0)
        missed = [name for name in types if not re.search(rf"\b{name}\b.* decomposes into", done.stderr)]
        self.assertEqual(missed, [], "a forgotten field of these would compile")


if __name__ == "__main__":
    unittest.main()

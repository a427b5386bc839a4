# SPDX-License-Identifier: Apache-2.0
"""What a man page is made of: the text of --help, schemas, and sources with markers."""
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "packaging/man"))
import man_page  # noqa: E402

HELP = """Runs a thing.
Usage: thing run [OPTIONS] GUEST

Positionals:
  GUEST TEXT REQUIRED         The guest's name

Options:
  -h,--help                   Print this help message and exit
  --socket TEXT=/run/thing.sock (Env:THING)
                              Where it listens
  --swap TEXT:{nvme,hdd,zram} the host's swap device

Subcommands:
  go                          Goes

Exit codes: 0 ok.
Example:
  thing run web-1
"""


class HelpTest(unittest.TestCase):
    def setUp(self):
        self.help = man_page.parse_help(HELP)

    def test_options_have_their_texts_beside_or_below_them(self):
        self.assertEqual(self.help.sections["Options"], [
            ("-h,--help", "Print this help message and exit"),
            ("--socket TEXT=/run/thing.sock (Env:THING)", "Where it listens"),
            ("--swap TEXT:{nvme,hdd,zram}", "the host's swap device")])

    def test_operands_and_subcommands_are_found(self):
        self.assertEqual(self.help.sections["Positionals"], [("GUEST TEXT REQUIRED", "The guest's name")])
        self.assertEqual(self.help.sections["Subcommands"], [("go", "Goes")])

    def test_what_stands_below_is_notes_even_where_it_looks_like_options(self):
        self.assertEqual(self.help.notes, ["Exit codes: 0 ok.", "Example:", "  thing run web-1"])
        self.assertEqual(self.help.summary.strip(), "Runs a thing.")

    def test_a_text_that_is_no_help_stops_the_build(self):
        with self.assertRaises(SystemExit):
            man_page.parse_help("thing: unknown option --help\n")


class RenderTest(unittest.TestCase):
    def test_names_are_bold_and_nothing_in_them_is_markup(self):
        self.assertEqual(man_page.option_name("-o,--out_put TEXT:{a_b,c}=a_b REQUIRED"), r"*-o*, *--out\_put* TEXT:{a\_b,c}=a\_b")

    def test_keys_come_with_path_default_and_choices(self):
        lines = man_page.keys(ROOT / "config/schema/balloond.schema.json")
        self.assertIn("*socket.path* (default /run/balloond/balloond.sock)", lines)
        self.assertIn(r"*backends.qmp\[\].exclusive* (default false)", lines)
        self.assertTrue(any("One of debug, info, warning, error." in line for line in lines))

    def test_an_unknown_marker_stops_the_build(self):
        with self.assertRaises(SystemExit):
            man_page.expand("@optoins balloond\n", Path("/nowhere"))

    def test_paragraphs_that_say_nothing_go(self):
        self.assertEqual(man_page.without_idle_paragraphs(".SH NAME\n.P\ntext\n.P\n.RE\nmore\n.P\n.SH OTHER\n.P\n"),
                         ".SH NAME\ntext\n.RE\n.P\nmore\n.SH OTHER\n")


if __name__ == "__main__":
    unittest.main()

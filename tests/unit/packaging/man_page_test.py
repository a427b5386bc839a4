# SPDX-License-Identifier: Apache-2.0
"""What a man page is made of: the text of --help, schemas, and sources with markers."""
import sys
import unittest
import unittest.mock
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
  --priority NUMBER:INT in [1 - 10000]=100
                              As a guest's weight

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
            ("--swap TEXT:{nvme,hdd,zram}", "the host's swap device"),
            ("--priority NUMBER:INT in [1 - 10000]=100", "As a guest's weight")])

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
        self.assertEqual(man_page.option_name("-o,--out_put TEXT:{a_b,c}=a_b REQUIRED"), r"*-o*, *--out\_put* a\_b|c (default a\_b)")

    def test_a_value_is_said_in_a_readers_words(self):
        for said, shown in (("TEXT:DURATION=5s", "_DURATION_ (default 5s)"), ("NUMBER:POSITIVE", "_NUMBER_"), ("TEXT ...", "_TEXT_..."),
                            ("UINT:INT in [1 - 10000]=100", "_NUMBER_ (1 to 10000, default 100)"), ("NAME REQUIRED", "_NAME_"),
                            ("FLOAT:FLOAT in [0 - 10]=0", "_NUMBER_ (0 to 10, default 0)"), ("TEXT:NAME=VALUE ...", "_NAME=VALUE_..."),
                            ("PATH=/run/x (Env:E)", "_PATH_ (default /run/x, environment E)"), ("something else", "something else")):
            with self.subTest(said):
                self.assertEqual(man_page.value_of_option(said), shown)

    def test_lines_of_help_are_paragraphs_that_end_where_a_sentence_does(self):
        self.assertEqual(man_page.paragraphs(["Sizes are bytes", "and kilobytes.", "Exit codes: 0 ok.", "Example:", "  run it"]),
                         ["Sizes are bytes and kilobytes.", "", "Exit codes: 0 ok.", "", "Example:", "", "\t*run it*", ""])

    def test_a_command_has_its_operands_as_it_takes_them_and_not_the_options_that_all_have(self):
        said = {("thing",): HELP, ("thing", "go"): HELP.replace("run [OPTIONS] GUEST", "go [OPTIONS] [GUEST...]")
                .replace("  go                          Goes\n", "").replace(" (Env:THING)", "")
                .replace("the host's swap device", "the guest's swap device")}
        with unittest.mock.patch.object(man_page, "help_of", lambda _, words: man_page.parse_help(said[tuple(words)])):
            lines = man_page.commands(Path("/nowhere"), ["thing"])
        self.assertIn("## go [GUEST...]", lines)
        self.assertIn("*--swap* nvme|hdd|zram", lines)
        self.assertEqual([line for line in lines if line.startswith(("*--socket*", "*-h*"))], [])

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

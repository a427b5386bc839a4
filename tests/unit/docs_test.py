# SPDX-License-Identifier: Apache-2.0
"""Links of the docs lead somewhere, to a file of the tree and to a heading in it, and messages are what the programs say."""
import os
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "tests/testbed/README.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^ *```.*?^ *```", "", re.sub(r"(?m)^    .*$", "", text)))


def anchors(page: Path) -> set[str]:
    """As the common hosts of Markdown make them of headings."""
    headings = re.findall(r"(?m)^#+ +(.*?) *$", re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{page.relative_to(ROOT)}: {link}")
    return broken


# What a message has from elsewhere: the words of errno, of QEMU, and of libvirt's client library.
OTHERS = {os.strerror(number) for number in range(1, 134)} | {
    "The command query-memory-size-summary has not been found",
    "Failed to connect socket to", "End of file while reading data", "Cannot recv data", "bytes received from server too large", "packet"}
MESSAGE_ROW = re.compile(r"^\| (`.*?`[^|]*) \|", re.MULTILINE)


def texts_of_programs() -> str:
    """What stands in quotes in their sources, a text that goes on in the next line as one."""
    files = [file for top in ("base", "policy", "balloond", "vmm") for file in (ROOT / top).rglob("*") if file.suffix in (".h", ".cc")]
    return "\n".join(re.sub(r'"\s*\n\s*"', "", file.read_text()) for file in files)


def unknown_messages(page: str, texts: str) -> list[str]:
    """Of tables of messages, those with words that no program says. What differs from case to case is … or ... there, a number, a
    name in capitals or what is quoted."""
    tables = re.findall(r"(?m)^\| message \| (?:meaning|what to do) \|\n((?:\|.*\n?)+)", page)
    messages = [message for table in tables for row in MESSAGE_ROW.findall(table) for message in re.findall(r"`([^`]*)`", row)]
    unknown = []
    for message in messages:
        words = [part.strip(" :,.()") for part in re.split(r"…|\.\.\.|'[^']*'|\b[A-Z]{4,}\b|\b\d+\b|\bweb\b|: ", message)]
        if any(part and part not in texts and part not in OTHERS for part in words):
            unknown.append(message)
    return unknown


class MessagesTest(unittest.TestCase):
    def test_messages_of_the_docs_are_ones_that_the_programs_say(self):
        texts = texts_of_programs()
        self.assertEqual([f"{page.relative_to(ROOT)}: {message}" for page in PAGES for message in unknown_messages(page.read_text(), texts)], [])

    def test_a_message_that_nobody_says_is_noticed(self):
        page = "| message | meaning |\n| --- | --- |\n| `socket … is busy`, `socket … is served` in a log | … |\n| `cannot open x: Permission denied` | |\n"
        self.assertEqual(unknown_messages(page, 'fail("socket {} is served"); fail("cannot open x")'), ["socket … is busy"])


class DocsTest(unittest.TestCase):
    def test_every_link_leads_to_a_file_and_a_heading(self):
        self.assertGreater(len(PAGES), 25, "the docs are not where this test looks for them")
        self.assertEqual([link for page in PAGES for link in broken_links(page, page.read_text())], [])

    def test_a_link_to_nowhere_is_noticed(self):
        page = ROOT / "docs/install.md"
        self.assertEqual(broken_links(page, "[a](no-such-page.md) [b](net.md#no-such-heading) [c](net.md) `[d](x.md)`"),
                         ["docs/install.md: no-such-page.md", "docs/install.md: net.md#no-such-heading"])

    def test_lines_of_prose_have_120_characters_at_most(self):
        """Tables, code and headings are as long as they must be."""
        long = []
        for page in PAGES:
            prose = re.sub(r"(?ms)^ *```.*?^ *```", lambda code: "\n" * code[0].count("\n"), page.read_text())
            long += [f"{page.relative_to(ROOT)}:{number}" for number, line in enumerate(prose.splitlines(), 1)
                     if len(line) > 120 and not re.match(r" *\||    |#", line)]
        self.assertEqual(long, [])

    def test_the_readme_is_one_screen_and_begins_with_what_it_is_and_how_it_is_installed(self):
        readme = (ROOT / "README.md").read_text()
        self.assertLessEqual(len(readme.splitlines()), 60)
        self.assertEqual(re.findall(r"(?m)^## (.*)", readme)[0], "Install")

    def test_every_page_is_reached_from_the_readme(self):
        linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
        orphans = [str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md") if page not in linked]
        further = {(page.parent / link.partition("#")[0]).resolve() for page in ROOT.glob("docs/**/*.md")
                   for link in LINK.findall(page.read_text())}
        self.assertEqual([page for page in orphans if ROOT / page not in further], [])


if __name__ == "__main__":
    unittest.main()

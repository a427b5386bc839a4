# SPDX-License-Identifier: Apache-2.0
"""The newcomer's page is run as it stands: each of its blocks has a place (builder/walk.py)."""

import unittest
from pathlib import Path

from builder.walk import Block, Place, below, blocks, first_of, in_host, place_of, slug, typed

PAGE_OF_INSTALLATION = Path(__file__).resolve().parents[2] / "docs/install.md"
PAGE = PAGE_OF_INSTALLATION.read_text()


class WalkTest(unittest.TestCase):
    def test_blocks_are_found_with_their_sections_and_keep_their_empty_lines(self):
        page = "# Page\n## One\n    a\n\n    b\ntext\n\n    c\n## Two\n| t |\n    d\\\n        e\n"
        self.assertEqual(blocks(page), [Block("One", "a\n\nb\n"), Block("One", "c\n"), Block("Two", "d\\\n    e\n")])

    def test_every_block_of_the_page_is_commands(self):
        for block in blocks(PAGE):
            with self.subTest(block.section):
                self.assertRegex(block.text, r"\A[a-z][a-z/.-]+ ", "what is no command cannot be copied to a shell")

    def test_nothing_of_the_page_is_lost(self):
        """What is run together is the page, but for what made the packages and what is tested elsewhere."""
        run = (below(PAGE) + "".join(in_host(PAGE).values()) + typed(PAGE)).splitlines()
        left = {block.text for block in blocks(PAGE) if place_of(block) is Place.LEFT}
        self.assertEqual(len(left), 1, "one block is tested elsewhere: Prometheus")
        lost = {line for block in blocks(PAGE) if block.text not in left for line in block.text.splitlines()} - set(run)
        self.assertEqual({line.split()[0] for line in lost}, {"scripts/package.sh"})

    def test_the_packages_are_installed_in_the_host_and_the_guests_root_is_made_below(self):
        self.assertEqual(in_host(PAGE)["Install"].splitlines()[0], "apt install ./build/packages/*.deb")
        self.assertIn("mmdebstrap --variant", below(PAGE))
        self.assertNotIn("chown", below(PAGE))
        self.assertIn("chown balloon-vmm: web-1.*", in_host(PAGE)["The first guest"])

    def test_a_host_with_libvirt_and_nothing_else_takes_five_commands(self):
        page = (PAGE_OF_INSTALLATION.with_name("libvirt.md")).read_text()
        commands = first_of(page, "Five commands").replace("\\\n", "").splitlines()
        self.assertEqual([command.split()[0] for command in commands], ["apt", "echo", "systemctl", "balloonctl"], "and scripts/package.sh")

    def test_sections_are_names_of_files(self):
        self.assertEqual(slug("Why is this guest small?"), "why-is-this-guest-small")


if __name__ == "__main__":
    unittest.main()

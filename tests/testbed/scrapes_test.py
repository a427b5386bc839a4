# SPDX-License-Identifier: Apache-2.0
"""What is kept of a daemon's metrics during a run."""

import http.server
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runner import scrapes  # noqa: E402

PATIENCE = 60
PAGE = b"# HELP up Whether\nup 1\n"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


class ScrapesTest(unittest.TestCase):
    def setUp(self):
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "metrics"
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Page)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.addCleanup(self.end_server)
        self.enterContext(mock.patch.object(scrapes, "METRICS_ADDRESS", f"127.0.0.1:{self.server.server_port}"))
        self.enterContext(mock.patch.object(scrapes, "EVERY", 0.05))

    def end_server(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def kept(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []

    def wait_for(self, condition):
        until = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), until, self.kept()[-10:])
            time.sleep(0.01)

    def test_each_page_comes_after_its_time_and_a_daemon_that_is_gone_is_told(self):
        followed = scrapes.Scrapes(self.file).start()
        self.addCleanup(followed.stop)
        self.wait_for(lambda: self.kept().count("up 1") >= 3)
        self.end_server()
        self.wait_for(lambda: self.kept()[-1].endswith("of the quick day, failed"))
        head, *page = self.kept()[:3]
        self.assertRegex(head, r"^# scrape \d+ at \d+ of the quick day$")
        self.assertEqual("\n".join(page) + "\n", PAGE.decode())

    def test_a_page_that_breaks_off_is_a_scrape_that_failed_and_the_next_one_comes(self):
        whole = Page.do_GET

        def breaks_off(page):
            page.send_response(200)
            page.send_header("Content-Length", str(len(PAGE)))
            page.end_headers()
            page.wfile.write(PAGE[:-4])
            Page.do_GET = whole

        with mock.patch.object(Page, "do_GET", breaks_off):
            followed = scrapes.Scrapes(self.file).start()
            self.addCleanup(followed.stop)
            self.wait_for(lambda: "up 1" in self.kept())
        self.assertTrue(self.kept()[0].endswith("of the quick day, failed"), self.kept())

    def test_nothing_is_written_once_it_was_stopped(self):
        followed = scrapes.Scrapes(self.file).start()
        self.wait_for(lambda: "up 1" in self.kept())
        followed.stop()
        kept = self.kept()
        time.sleep(0.2)
        self.assertEqual(self.kept(), kept)


if __name__ == "__main__":
    unittest.main()

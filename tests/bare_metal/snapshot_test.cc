// SPDX-License-Identifier: Apache-2.0
// A snapshot that is being written holds nobody up. On this host's KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/bare_metal/line.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::TemporaryDirectory;

TEST(SnapshotTest, TheMonitorAnswersOthersWhileItIsWritten) {
  const TemporaryDirectory directory;
  std::ifstream image(GREEDY_GUEST, std::ios::binary);  // it has 40 MiB in use
  const std::vector<std::uint8_t> code{std::istreambuf_iterator<char>(image), {}};
  const auto kernel = make_kernel(code);
  directory.write("kernel", std::string(kernel.begin(), kernel.end()));
  const Background vmm({BALLOON_VMM, "--name=saved", "--memory=64MiB", "--kernel=" + directory.file("kernel"),
                        "--cmdline=inflate", "--serial=unix:" + directory.file("serial"),
                        "--monitor=" + directory.file("monitor")},
                       directory.file("log"));
  Line serial(directory.file("serial"));
  ASSERT_NE(serial.line_with("ready"), "") << vmm.log();
  Line saving(directory.file("monitor")), asking(directory.file("monitor"));
  for (Line* client : {&saving, &asking}) {
    client->send(R"({"execute":"qmp_capabilities"})");
    ASSERT_NE(client->line_with("return"), "");
  }
  bool seen = false;
  for (int i = 0; i < 20 && !seen; ++i) {  // it may be written between two questions
    saving.send(R"({"execute":"snapshot-to-file","arguments":{"path":")" + directory.file("snapshot") +
                R"("}})");
    std::jthread answered([&] { EXPECT_NE(saving.line_with(R"({"return":{}})"), "") << vmm.log(); });
    for (int j = 0; j < 200 && !seen; ++j) {
      asking.send(R"({"execute":"query-status"})");
      seen = asking.line_with("status").find("save-vm") != std::string::npos;
    }
  }
  EXPECT_TRUE(seen) << "nobody was answered while a snapshot was written";
  asking.send(R"({"execute":"query-status"})");
  EXPECT_NE(asking.line_with("running"), "");
}

}  // namespace
}  // namespace balloon::vmm::test

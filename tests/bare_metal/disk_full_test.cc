// SPDX-License-Identifier: Apache-2.0
// A guest whose image lies on a full filesystem: it is told, or stopped until there is room, as werror says;
// and the monitor's clients see it as they see it with QEMU. On this host's KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bare_metal/line.h"
#include "tests/integration/process.h"
#include "tests/integration/small_filesystem.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::eventually;
using balloon::test::SmallFilesystem;
using balloon::test::TemporaryDirectory;
using nlohmann::json;
using testing::HasSubstr;

/// The guest writes 32 MiB, 32 times, to the start of its disk (greedy_guest.cc).
constexpr Bytes kRoom = 48 * kMiB;

class DiskFullTest : public testing::TestWithParam<const char*> {
 protected:
  void start(const std::string& disk_options) {
    std::ifstream image(GREEDY_GUEST, std::ios::binary);
    const std::vector<std::uint8_t> code{std::istreambuf_iterator<char>(image), {}};
    const auto kernel = make_kernel(code);
    directory.write("kernel", std::string(kernel.begin(), kernel.end()));
    std::filesystem::create_directory(directory.file("small"));
    filesystem = std::make_unique<SmallFilesystem>(directory.file("small"), kRoom);
    const std::string disk = filesystem->file("disk");
    const std::string make = std::string("qemu-img create -q -f ") + GetParam() + " " + disk + " 40M";
    ASSERT_EQ(std::system(make.c_str()), 0) << make;
    filesystem->fill();
    vmm = std::make_unique<Background>(
        std::vector<std::string>{BALLOON_VMM, "--name=full", "--kernel=" + directory.file("kernel"),
                                 "--cmdline=write", "--memory=64MiB",
                                 "--serial=unix:" + directory.file("serial"),
                                 "--monitor=" + directory.file("monitor"),
                                 "--disk=path=" + disk + ",format=" + GetParam() + disk_options},
        directory.file("log"));
    serial = std::make_unique<Line>(directory.file("serial"));
    ASSERT_NE(serial->line_with("ready"), "") << vmm->log();
    monitor = std::make_unique<Line>(directory.file("monitor"));
    monitor->send(R"({"execute":"qmp_capabilities"})");
    ASSERT_NE(monitor->line_with("return"), "");
    serial->send("g");  // the answer may not come: it is stopped in the midst of asking
  }
  json event(const std::string& name) const {
    const std::string line = monitor->line_with("\"" + name + "\"");
    return line.empty() ? json("no event") : json::parse(line);
  }
  json answer(const std::string& command) const {
    monitor->send(R"({"execute":")" + command + "\"}");
    const std::string line = monitor->line_with(R"({"return")");
    return line.empty() ? json("no answer") : json::parse(line)["return"];
  }

  TemporaryDirectory directory;
  std::unique_ptr<SmallFilesystem> filesystem;
  std::unique_ptr<Background> vmm;
  std::unique_ptr<Line> serial, monitor;
};

INSTANTIATE_TEST_SUITE_P(Formats, DiskFullTest, testing::Values("raw", "qcow2"),
                         [](const auto& format) { return std::string(format.param); });

TEST_P(DiskFullTest, TheGuestIsToldAndSoAreTheMonitorsClients) {
  start("");
  const json data = event("BLOCK_IO_ERROR")["data"];
  EXPECT_EQ(data["device"], "disk0");
  EXPECT_EQ(data["operation"], "write");
  EXPECT_EQ(data["action"], "report");
  EXPECT_EQ(data["nospace"], true);
  EXPECT_EQ(answer("query-block")[0]["io-status"], "nospace");
  EXPECT_EQ(answer("query-status")["status"], "running");
  EXPECT_TRUE(eventually([this] { return vmm->log().find("No space left on device") != std::string::npos; }))
      << vmm->log();
}

TEST_P(DiskFullTest, TheGuestStopsUntilThereIsRoomAndItIsToldToGoOn) {
  start(",werror=enospc");
  EXPECT_EQ(event("BLOCK_IO_ERROR")["data"]["action"], "stop");
  EXPECT_NE(event("STOP"), "no event");
  EXPECT_EQ(answer("query-status")["status"], "io-error");
  EXPECT_EQ(answer("query-block")[0]["io-status"], "nospace");
  monitor->send(R"({"execute":"snapshot-to-file","arguments":{"path":")" + directory.file("snapshot") +
                R"("}})");
  EXPECT_THAT(monitor->line_with("error"), HasSubstr("could not do what the guest asked for"));
  answer("cont");  // too early; its answer may come behind the next STOP
  EXPECT_TRUE(eventually([this] { return answer("query-status")["status"] == "io-error"; })) << vmm->log();
  filesystem->make_room();
  answer("cont");
  EXPECT_TRUE(eventually([this] { return answer("query-blockstats")[0]["stats"]["wr_operations"] == 32; }))
      << vmm->log();
  EXPECT_EQ(answer("query-status")["status"], "running");
  EXPECT_EQ(answer("query-block")[0]["io-status"], "ok");
}

}  // namespace
}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
// The bare-metal guest (guest.cc) on this host's KVM: every way that a driver can talk to our devices, from
// its first instruction to power-off, in a second each. They need /dev/kvm and fail without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "tests/bare_metal/tap.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::read_text;
using balloon::test::TemporaryDirectory;
using testing::HasSubstr;

struct Way {
  const char* name;
  const char* virtio;   ///< of balloon-vmm
  const char* command;  ///< of the guest
};

class BareMetalTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    std::ifstream image(BARE_GUEST, std::ios::binary);
    const std::vector<std::uint8_t> code{std::istreambuf_iterator<char>(image), {}};
    ASSERT_FALSE(code.empty()) << BARE_GUEST;
    const auto kernel = make_kernel(code);
    directory.write("kernel", std::string(kernel.begin(), kernel.end()));
    directory.write("disk", std::string(64 * 1024, '\0'));
  }
  std::vector<std::string> command_of(const std::vector<std::string>& more) const {
    std::vector<std::string> command{BALLOON_VMM,
                                     "--name=bare-metal",
                                     "--memory=64MiB",
                                     "--kernel=" + directory.file("kernel"),
                                     std::string("--cmdline=") + GetParam().command,
                                     "--serial=file:" + directory.file("serial"),
                                     "--disk=path=" + directory.file("disk") + ",serial=metal-0001",
                                     std::string("--virtio=") + GetParam().virtio,
                                     "--no-reboot"};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  /// Runs the guest to its power-off; what it said.
  std::string run(const std::vector<std::string>& more = {}) {
    Background vmm(command_of(more), directory.file("log"));
    const int status = vmm.wait(std::chrono::seconds(60));
    EXPECT_EQ(status, 0) << vmm.log();
    return read_text(directory.file("serial"));
  }
  TemporaryDirectory directory;
};

using RebootTest = BareMetalTest;

INSTANTIATE_TEST_SUITE_P(
    Ways, BareMetalTest,
    testing::Values(Way{"Modern", "modern", "messages"}, Way{"ModernByPin", "modern", "pin"},
                    Way{"Packed", "modern,packed=on", "packed"},
                    Way{"PackedByPin", "modern,packed=on", "packed pin"}, Way{"Legacy", "legacy", "legacy"},
                    Way{"LegacyByPin", "legacy", "legacy pin"},
                    Way{"TransitionalAsModern", "transitional", "messages"},
                    Way{"TransitionalAsPacked", "transitional,packed=on", "packed"},
                    Way{"TransitionalAsLegacy", "transitional", "legacy"}, Way{"Mmio", "mmio", "mmio"},
                    Way{"MmioPacked", "mmio,packed=on", "mmio packed"}),
    [](const auto& way) { return std::string(way.param.name); });

TEST_P(BareMetalTest, BalloonAndDiskWorkAndInterruptsCome) {
  const std::string said = run();
  EXPECT_THAT(said, HasSubstr("balloon: 512 pages inflated and deflated\n"));
  EXPECT_THAT(said, HasSubstr("block: 300 writes, read back, serial metal-0001\n"));
  EXPECT_THAT(said, HasSubstr("done\n"));
  const std::string disk = read_text(directory.file("disk"));
  for (int i = 0; i < 512; ++i)
    ASSERT_EQ(disk[3 * 512 + static_cast<std::size_t>(i)], static_cast<char>(i * 7)) << i;
}

TEST_P(BareMetalTest, AFrameReachesTheTapWhole) {
  const Tap tap;
  ASSERT_TRUE(tap.made()) << "cannot make a tap in a network namespace: run as root, with /dev/net/tun";
  EXPECT_THAT(run({"--net=tap=tapmetal"}), HasSubstr("net: a frame sent\n"));
  const std::string frame = tap.frame();
  ASSERT_EQ(frame.size(), 60U);
  EXPECT_THAT(frame.substr(14, 21), "hello from bare metal");
}

INSTANTIATE_TEST_SUITE_P(Reboot, RebootTest, testing::Values(Way{"Modern", "modern", "address"}),
                         [](const auto& way) { return std::string(way.param.name); });

TEST_P(RebootTest, AnAddressThatWasChosenForTheGuestStaysItsOwn) {
  const Tap tap;
  ASSERT_TRUE(tap.made()) << "cannot make a tap in a network namespace: run as root, with /dev/net/tun";
  auto command = command_of({"--net=tap=tapmetal"});
  std::erase(command, "--no-reboot");
  Background vmm(command, directory.file("log"));
  const auto said = [&] {
    std::vector<std::string> lines;
    std::istringstream text(read_text(directory.file("serial")));
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("address ")) lines.push_back(line);
    }
    return lines;
  };
  ASSERT_TRUE(balloon::test::eventually([&] { return said().size() >= 4; })) << vmm.log();
  const auto lines = said();
  EXPECT_EQ(lines[1], lines[0]);
  EXPECT_EQ(lines[2], lines[0]);
}

}  // namespace
}  // namespace balloon::vmm::test

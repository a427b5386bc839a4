// SPDX-License-Identifier: Apache-2.0
// Small guests of a few instructions on this host's own KVM: the whole machine, from the first instruction to
// its end. They need /dev/kvm and fail without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/unit/vmm/machine/bare_kernel.h"
#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

class BareGuestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory);
    config.name = "bare";
    config.memory = 64 * kMiB;
    config.boot.kernel = directory / "kernel";
    config.serial = {SerialConfig::Kind::file, directory / "serial"};
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm = std::make_unique<Kvm>(std::move(*opened));
    serial = std::move(*SerialBackend::create(config.serial, *loop));
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  /// Boots `code` and waits for the machine's end.
  Outcome run(const Code& code) {
    write_kernel(config.boot.kernel, code);
    auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    if (!machine) return {Ending::failed, machine.error().message};
    (*machine)->start();
    pollfd ended{.fd = (*machine)->outcome().fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 30'000) != 1) return {Ending::failed, "it did not end within 30 s"};
    return *(*machine)->outcome().get();
  }
  std::string printed() const {
    std::ifstream file(config.serial.path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("bare-guest-" + std::to_string(::getpid()));
  VmmConfig config;
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<SerialBackend> serial;
};

TEST_F(BareGuestTest, ItPrintsAndPowersOff) {
  const Outcome outcome = run(Code().print("hello").power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), "hello");
}

TEST_F(BareGuestTest, ATripleFaultIsAReboot) {
  // An empty interrupt table, then an exception.
  const Outcome outcome = run(Code().raw({0x6a, 0x00, 0x6a, 0x00}).raw({0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b}));
  EXPECT_EQ(outcome.ending, Ending::reboot) << outcome.why;
}

TEST_F(BareGuestTest, TheResetPortsReboot) {
  EXPECT_EQ(run(Code().out8(0x602, 1).halt()).ending, Ending::reboot);
  EXPECT_EQ(run(Code().out8(0x64, 0xfe).halt()).ending, Ending::reboot);
  EXPECT_EQ(run(Code().out8(0xcf9, 0x06).halt()).ending, Ending::reboot);
}

TEST_F(BareGuestTest, UnknownPortsAndAddressesReadAsAllOnes) {
  const Outcome outcome = run(Code()
                                  .in32(0x1234)
                                  .print_eax()
                                  .fetch_eax(0xd0000000)
                                  .print_eax()
                                  .out32(0x1234, 7)
                                  .load_eax(7)
                                  .store_eax(0xd0000000)
                                  .power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), std::string(8, '\xff'));
}

TEST_F(BareGuestTest, ItFindsTheBalloonOnThePciBus) {
  const Outcome outcome = run(Code().out32(0xcf8, 0x80000800).in32(0xcfc).print_eax().power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), "\xf4\x1a\x45\x10");
}

TEST_F(BareGuestTest, ItReachesTheBalloonThroughItsBar) {
  // Command: memory on. Then the device's status (acknowledge) written and read back through BAR 0, the first
  // in the window.
  const Outcome outcome =
      run(Code()
              .out32(0xcf8, 0x80000804)
              .out32(0xcfc, 0x6)
              .raw({0xb0, 0x01, 0xa2, 0x14, 0x00, 0x00, 0xc0})  // mov al, 1; mov [0xc0000014], al
              .fetch_eax(0xc0000014)
              .print_eax()
              .power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  ASSERT_EQ(printed().size(), 4U);
  EXPECT_EQ(printed()[0], 1);
}

TEST_F(BareGuestTest, MachineAfterMachineRunsInOneProcess) {
  for (int life = 0; life < 5; ++life)
    ASSERT_EQ(run(Code().print("x").power_off()).ending, Ending::power_off);
  EXPECT_EQ(printed(), "xxxxx");
}

TEST_F(BareGuestTest, AGuestThatSpinsIsStopped) {
  write_kernel(config.boot.kernel, Code().raw({0xeb, 0xfe}));
  config.cpus = 2;
  auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_TRUE(machine) << machine.error().message;
  (*machine)->start();
  const auto start = std::chrono::steady_clock::now();
  machine->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(BareGuestTest, TheBalloonsFirstTargetIsTheConfigurations) {
  config.balloon.initial_target = 32 * kMiB;
  write_kernel(config.boot.kernel, Code().halt());
  auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_TRUE(machine) << machine.error().message;
  EXPECT_EQ((*machine)->balloon().state().target, 32 * kMiB);
}

TEST_F(BareGuestTest, AKernelThatIsNoneIsNamedInTheError) {
  std::ofstream(config.boot.kernel) << "this is no kernel";
  const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_FALSE(machine);
  EXPECT_THAT(machine.error().message, HasSubstr(config.boot.kernel));
}

TEST_F(BareGuestTest, ADiskThatIsAbsentIsNamedInTheError) {
  write_kernel(config.boot.kernel, Code().halt());
  config.disks.push_back({.path = directory / "absent.img", .read_only = false, .serial = ""});
  const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_FALSE(machine);
  EXPECT_THAT(machine.error().message, HasSubstr("absent.img"));
}

TEST(KvmOpen, AnAbsentDeviceSaysWhatToDo) {
  const auto kvm = Kvm::open("/no/such/kvm");
  ASSERT_FALSE(kvm);
  EXPECT_THAT(kvm.error().message, HasSubstr("kvm-intel or kvm-amd"));
}

TEST(KvmOpen, AnotherDeviceIsNotKvm) {
  const auto kvm = Kvm::open("/dev/null");
  ASSERT_FALSE(kvm);
  EXPECT_THAT(kvm.error().message, HasSubstr("/dev/null"));
}

}  // namespace
}  // namespace balloon::vmm::test

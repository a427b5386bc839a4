// SPDX-License-Identifier: Apache-2.0
// What a guest keeps through its reboots: what it has, and what was set while it ran. On this host's own KVM.
#include "vmm/machine/guest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/unit/vmm/devices/net/host_tap.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

[[maybe_unused]] const auto* const kNamespace = testing::AddGlobalTestEnvironment(new Namespace);

class GuestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory);
    config.name = "kept";
    config.memory = 64 * kMiB;
    config.boot.kernel = directory / "kernel";
    config.serial = {SerialConfig::Kind::none, {}};
    config.nets.push_back({.tap = kTap});
    write_kernel(config.boot.kernel, Code().raw({0xeb, 0xfe}));
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm = std::make_unique<Kvm>(std::move(*opened));
    serial = std::move(*SerialBackend::create(config.serial, *loop));
  }
  void TearDown() override {
    if (guest) guest->detach();
    machine.reset();
    guest.reset();
    std::filesystem::remove_all(directory);
  }

  void open() {
    auto opened = Guest::open(config);
    ASSERT_TRUE(opened) << opened.error().message;
    guest = std::move(*opened);
  }
  /// The guest's machine ends, and nothing follows yet.
  void end_machine() {
    guest->detach();
    machine.reset();
  }
  void next_machine() {
    auto made = guest->make_machine({.kvm = *kvm, .loop = *loop, .serial = *serial});
    ASSERT_TRUE(made) << made.error().message;
    machine = std::move(*made);
    ASSERT_TRUE(guest->attach(*machine));
    machine->start();
  }
  void reboot() {
    end_machine();
    next_machine();
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("guest-test-" + std::to_string(::getpid()));
  const HostTap tap;
  VmmConfig config;
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<SerialBackend> serial;
  std::unique_ptr<Guest> guest;
  std::unique_ptr<Machine> machine;
};

TEST_F(GuestTest, AfterAnyRebootEachSettingIsWhatItWasLastSetTo) {
  config.balloon.initial_target = 60 * kMiB;
  open();
  next_machine();
  EXPECT_EQ(machine->balloon().state().target, 60 * kMiB);
  ASSERT_TRUE(guest->set_balloon(48 * kMiB));
  ASSERT_TRUE(guest->linked_balloon().set_target(40 * kMiB));
  ASSERT_TRUE(guest->set_merging(true));
  ASSERT_TRUE(guest->set_link(0, false));
  ASSERT_TRUE(guest->stop());
  const MacAddress address = machine->nets()[0]->state().own_mac;
  for (int i = 0; i < 3; ++i) {
    reboot();
    EXPECT_EQ(machine->balloon().state().target, 40 * kMiB) << "the daemon's, which came last";
    EXPECT_TRUE(machine->merging());
    EXPECT_FALSE(machine->nets()[0]->state().link);
    EXPECT_EQ(machine->nets()[0]->state().own_mac, address);
    EXPECT_TRUE(machine->paused());
  }
  ASSERT_TRUE(guest->set_balloon(56 * kMiB));
  ASSERT_TRUE(guest->set_merging(false));
  ASSERT_TRUE(guest->set_link(0, true));
  ASSERT_TRUE(guest->cont());
  reboot();
  EXPECT_EQ(guest->linked_balloon().state().target, 56 * kMiB);
  EXPECT_FALSE(guest->merging());
  EXPECT_FALSE(machine->merging());
  EXPECT_TRUE(machine->nets()[0]->state().link);
  EXPECT_FALSE(machine->paused());
}

TEST_F(GuestTest, WhatIsSetBetweenTwoMachinesIsSoInTheNext) {
  open();
  next_machine();
  end_machine();
  ASSERT_TRUE(guest->set_balloon(32 * kMiB));
  ASSERT_TRUE(guest->set_merging(true));
  ASSERT_TRUE(guest->set_link(0, false));
  ASSERT_TRUE(guest->stop());
  EXPECT_EQ(guest->balloon().target, 32 * kMiB);
  next_machine();
  EXPECT_EQ(machine->balloon().state().target, 32 * kMiB);
  EXPECT_TRUE(machine->merging());
  EXPECT_FALSE(machine->nets()[0]->state().link);
  EXPECT_TRUE(machine->paused());
}

TEST_F(GuestTest, ARefusedSettingChangesNothingWithAMachineOrWithout) {
  config.memory_backing.merge = false;
  config.memory_backing.lock = true;
  open();
  next_machine();
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(guest->set_balloon(65 * kMiB));
    const auto merging = guest->set_merging(true);
    ASSERT_FALSE(merging);
    EXPECT_THAT(merging.error().message, HasSubstr("lock"));
    end_machine();
  }
  next_machine();
  EXPECT_EQ(machine->balloon().state().target, 64 * kMiB);
  EXPECT_FALSE(guest->merging());
}

TEST_F(GuestTest, AGuestWithoutABalloonHasNoneBetweenItsMachinesEither) {
  config.balloon.enabled = false;
  open();
  next_machine();
  EXPECT_THAT(guest->set_balloon(32 * kMiB).error().message, HasSubstr("no balloon"));
  end_machine();
  EXPECT_THAT(guest->set_balloon(32 * kMiB).error().message, HasSubstr("no balloon"));
  next_machine();
  EXPECT_EQ(guest->balloon().target, 64 * kMiB);
}

TEST_F(GuestTest, WhatASnapshotHadIsTheGuestsFromThenOn) {
  const std::string snapshot = directory / "snapshot";
  open();
  next_machine();
  const MacAddress address = machine->nets()[0]->state().own_mac;
  ASSERT_TRUE(guest->set_balloon(40 * kMiB));
  ASSERT_TRUE(guest->set_link(0, false));
  ASSERT_TRUE(guest->save_snapshot(snapshot));
  end_machine();
  guest.reset();
  config.restore = snapshot;
  open();
  for (int i = 0; i < 3; ++i) {
    next_machine();
    EXPECT_EQ(machine->balloon().state().target, 40 * kMiB) << "machine " << i;
    EXPECT_FALSE(machine->nets()[0]->state().link) << "machine " << i;
    EXPECT_EQ(machine->nets()[0]->state().own_mac, address) << "machine " << i;
    end_machine();
  }
}

}  // namespace
}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
// Pausing, snapshots and the monitor's commands on machines that run: small guests on this host's own KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <mutex>

#include "tests/unit/vmm/devices/net/host_tap.h"
#include "tests/unit/vmm/machine/bare_kernel.h"
#include "vmm/machine/guest.h"
#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

[[maybe_unused]] const auto* const kNamespace = testing::AddGlobalTestEnvironment(new Namespace);

/// Answers each byte that it is sent with the next letter, and powers off after z. Where it is lies in
/// memory, in registers and in the program counter.
Code alphabet() {
  return Code()
      .raw({0x66, 0xba, 0xfd, 0x03})                    // again: mov dx, line status
      .raw({0xec, 0xa8, 0x01, 0x74, 0xfb})              // in al, dx; test al, data ready; jz to the in
      .raw({0x66, 0xba, 0xf8, 0x03, 0xec})              // mov dx, data; in al, dx
      .raw({0xff, 0x05, 0x00, 0x00, 0x20, 0x00})        // inc dword [0x200000]
      .raw({0xa0, 0x00, 0x00, 0x20, 0x00, 0x04, 0x60})  // mov al, [0x200000]; add al, 'a' - 1
      .raw({0xee, 0x3c, 0x7a, 0x75, 0xe0})              // out dx, al; cmp al, 'z'; jne again
      .power_off();
}
constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz";

class PauseTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory);
    config.name = "bare";
    config.memory = 64 * kMiB;
    config.cpus = 2;
    config.boot.kernel = directory / "kernel";
    config.serial = {SerialConfig::Kind::unix_socket, directory / "serial"};
    write_kernel(config.boot.kernel, alphabet());
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm = std::make_unique<Kvm>(std::move(*opened));
    serial = std::move(*SerialBackend::create(config.serial, *loop));
    connect();
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  void connect() {
    client = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, config.serial.path.data(), config.serial.path.size());
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  /// Asks for `count` letters.
  void ask(std::size_t count) const {
    const std::string text(count, '.');
    ASSERT_EQ(::send(client.get(), text.data(), text.size(), 0), static_cast<ssize_t>(count));
  }
  /// What comes until there are `count` letters, or nothing more comes for `patience`.
  std::string answer(std::size_t count, int patience_ms = 30'000) const {
    std::string text;
    char letter = 0;
    pollfd readable{.fd = client.get(), .events = POLLIN, .revents = 0};
    while (text.size() < count && ::poll(&readable, 1, patience_ms) > 0 &&
           ::recv(client.get(), &letter, 1, 0) == 1)
      text += letter;
    return text;
  }
  std::string letters(std::size_t count) const {
    ask(count);
    return answer(count);
  }

  std::unique_ptr<Machine> make() {
    auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    EXPECT_TRUE(machine) << machine.error().message;
    return machine ? std::move(*machine) : nullptr;
  }
  std::unique_ptr<Machine> make(Guest& guest) {
    auto machine = guest.make_machine({.kvm = *kvm, .loop = *loop, .serial = *serial});
    EXPECT_TRUE(machine) << machine.error().message;
    return machine ? std::move(*machine) : nullptr;
  }
  std::string create_error() {
    const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    return machine ? "" : machine.error().message;
  }
  static Ending wait_end(const Machine& machine) {
    pollfd ended{.fd = machine.outcome().fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 60'000) != 1) return Ending::failed;
    return machine.outcome().get()->ending;
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("pause-test-" + std::to_string(::getpid()));
  std::string snapshot = directory / "guest.snapshot";
  VmmConfig config;
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<SerialBackend> serial;
  UniqueFd client;
};

TEST_F(PauseTest, APausedGuestStandsStillAndGoesOnWhereItWas) {
  const auto machine = make();
  machine->start();
  ASSERT_EQ(letters(3), "abc");
  std::string all = "abc";
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine->pause());
    ask(2);
    EXPECT_EQ(answer(1, 100), "");
    ASSERT_TRUE(machine->resume());
    all += answer(2);
  }
  all += letters(13);
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  EXPECT_EQ(all, kAlphabet);
}

TEST_F(PauseTest, PausingAndResumingTwiceIsOnce) {
  const auto machine = make();
  machine->start();
  EXPECT_TRUE(machine->resume());
  EXPECT_TRUE(machine->pause());
  EXPECT_TRUE(machine->pause());
  EXPECT_TRUE(machine->paused());
  EXPECT_TRUE(machine->resume());
  EXPECT_EQ(letters(26), kAlphabet);
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
}

TEST_F(PauseTest, APausedMachineCanBeDestroyed) {
  auto machine = make();
  machine->start();
  ASSERT_TRUE(machine->pause());
  machine.reset();
  // The loop goes on for the next machine.
  machine = make();
  machine->start();
  EXPECT_EQ(letters(1), "a");
}

TEST_F(PauseTest, AMachinePausedBeforeItsStartRunsOnlyWhenResumed) {
  const auto machine = make();
  ASSERT_TRUE(machine->pause());
  machine->start();
  ask(1);
  EXPECT_EQ(answer(1, 100), "");
  ASSERT_TRUE(machine->resume());
  EXPECT_EQ(answer(1), "a");
}

TEST_F(PauseTest, ARestoredGuestGoesOnWithTheNextLetter) {
  auto machine = make();
  machine->start();
  EXPECT_EQ(letters(5), "abcde");
  ASSERT_TRUE(machine->pause());
  const auto saved = machine->save(snapshot);
  ASSERT_TRUE(saved) << saved.error().message;
  machine.reset();
  // A few pages of a guest of 64 MiB.
  EXPECT_LT(std::filesystem::file_size(snapshot), kMiB.count());
  config.restore = snapshot;
  machine = make();
  ASSERT_TRUE(machine);
  machine->start();
  EXPECT_EQ(letters(21), kAlphabet.substr(5));
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
}

TEST_F(PauseTest, ASnapshotOfASnapshotIsAsGoodAndInputOnItsWayIsNotLost) {
  std::string all;
  for (int life = 0; life < 4; ++life) {
    const auto machine = make();
    ASSERT_TRUE(machine);
    machine->start();
    all += letters(4);
    ASSERT_TRUE(machine->pause());
    ASSERT_TRUE(machine->save(snapshot));
    config.restore = snapshot;
    ask(1);  // between two lives
  }
  const auto machine = make();
  ASSERT_TRUE(machine);
  machine->start();
  all += letters(26 - 4 * 4 - 4);
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  all += answer(26, 200);
  EXPECT_EQ(all, kAlphabet);
}

TEST_F(PauseTest, ABalloonsTargetIsRestored) {
  auto machine = make();
  ASSERT_TRUE(machine->balloon().set_target(48 * kMiB));
  ASSERT_TRUE(machine->pause());
  ASSERT_TRUE(machine->save(snapshot));
  machine.reset();
  config.restore = snapshot;
  machine = make();
  ASSERT_TRUE(machine);
  EXPECT_EQ(machine->balloon().state().target, 48 * kMiB);
}

TEST_F(PauseTest, AMachineWithoutPciIsRestoredAndItsSnapshotFitsNoOther) {
  config.virtio.interface = VirtioInterface::mmio;
  auto machine = make();
  machine->start();
  EXPECT_EQ(letters(5), "abcde");
  ASSERT_TRUE(machine->balloon().set_target(48 * kMiB));
  ASSERT_TRUE(machine->pause());
  ASSERT_TRUE(machine->save(snapshot));
  machine.reset();
  config.restore = snapshot;
  config.virtio.interface = VirtioInterface::modern;
  EXPECT_THAT(create_error(), HasSubstr("start it with --virtio mmio"));
  config.virtio.interface = VirtioInterface::mmio;
  config.rng.enabled = false;
  EXPECT_THAT(create_error(), HasSubstr("there is more in it"));
  config.rng.enabled = true;
  machine = make();
  ASSERT_TRUE(machine);
  EXPECT_EQ(machine->balloon().state().target, 48 * kMiB);
  machine->start();
  EXPECT_EQ(letters(21), kAlphabet.substr(5));
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
}

TEST_F(PauseTest, ASnapshotThatDoesNotFitOrIsDamagedIsRefusedWithTheReason) {
  auto machine = make();
  EXPECT_FALSE(machine->save(snapshot)) << "of a guest that may run";
  ASSERT_TRUE(machine->pause());
  ASSERT_TRUE(machine->save(snapshot));
  machine.reset();
  const VmmConfig good = config;
  config.restore = snapshot;
  config.cpus = 1;
  EXPECT_THAT(create_error(), HasSubstr("64 MiB of memory and 2 CPUs, this one has 64 MiB and 1"));
  config.cpus = good.cpus;
  config.rng.enabled = false;
  EXPECT_THAT(create_error(), HasSubstr("PCI devices"));
  config.rng.enabled = true;
  config.balloon.free_page_reporting = false;
  EXPECT_THAT(create_error(), HasSubstr("queues"));
  config.balloon = good.balloon;
  EXPECT_EQ(create_error(), "");
  std::filesystem::resize_file(snapshot, std::filesystem::file_size(snapshot) - 1);
  EXPECT_THAT(create_error(), HasSubstr("cut off"));
  config.restore = directory / "absent";
  EXPECT_THAT(create_error(), HasSubstr("absent"));
}

TEST_F(PauseTest, TheMonitorStopsContinuesAndResetsTheGuest) {
  const auto opened = Guest::open(config);
  Guest& guest = **opened;
  std::vector<MonitorEvent::Kind> events;
  std::mutex mutex;
  guest.listen([&](const MonitorEvent& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event.kind);
  });
  auto machine = make(guest);
  ASSERT_TRUE(guest.attach(*machine));
  machine->start();
  ASSERT_TRUE(guest.stop());
  EXPECT_TRUE(machine->paused());
  EXPECT_EQ(guest.run_state(), RunState::paused);
  EXPECT_EQ(guest.vcpu_threads().size(), 2U);
  EXPECT_GT(guest.vcpu_threads()[0], 0);
  ASSERT_TRUE(guest.save_snapshot(snapshot));
  EXPECT_TRUE(machine->paused()) << "it was, before";
  ASSERT_TRUE(guest.reset());
  EXPECT_EQ(machine->outcome().get()->ending, Ending::reboot);
  EXPECT_FALSE(machine->outcome().get()->by_guest);
  guest.detach();
  EXPECT_FALSE(guest.power_button()) << "there is no machine";
  // The next one inherits that it is stopped.
  machine = make(guest);
  ASSERT_TRUE(guest.attach(*machine));
  machine->start();
  EXPECT_TRUE(machine->paused());
  ASSERT_TRUE(guest.power_button());
  ASSERT_TRUE(guest.cont());
  ASSERT_TRUE(guest.set_balloon(32 * kMiB));
  EXPECT_EQ(guest.balloon().target, 32 * kMiB);
  guest.quit();
  EXPECT_EQ(wait_end(*machine), Ending::quit);
  guest.detach();
  const std::lock_guard lock(mutex);
  using Kind = MonitorEvent::Kind;
  EXPECT_THAT(events, ElementsAre(Kind::stop, Kind::powerdown, Kind::resume));
}

TEST_F(PauseTest, APulledCableStaysPulledInARestoredGuestAndThroughItsReboots) {
  const HostTap tap;
  config.nets.push_back({.tap = kTap});
  {
    const auto opened = Guest::open(config);
    Guest& guest = **opened;
    const auto machine = make(guest);
    ASSERT_TRUE(guest.attach(*machine));
    machine->start();
    EXPECT_TRUE(machine->nets()[0]->state().link);
    ASSERT_TRUE(guest.set_link(0, false));
    ASSERT_TRUE(guest.save_snapshot(snapshot));
    guest.detach();
  }
  config.restore = snapshot;
  const auto opened = Guest::open(config);
  Guest& guest = **opened;
  auto machine = make(guest);
  ASSERT_TRUE(machine);
  ASSERT_TRUE(guest.attach(*machine));
  EXPECT_FALSE(machine->nets()[0]->state().link);
  EXPECT_FALSE(tap.has_carrier());
  guest.detach();
  machine.reset();
  machine = make(guest);
  ASSERT_TRUE(guest.attach(*machine));
  EXPECT_FALSE(machine->nets()[0]->state().link);
  ASSERT_TRUE(guest.set_link(0, true));
  EXPECT_TRUE(machine->nets()[0]->state().link);
  guest.detach();
}

TEST_F(PauseTest, ASnapshotOfARunningGuestLeavesItRunning) {
  const auto opened = Guest::open(config);
  Guest& guest = **opened;
  const auto machine = make(guest);
  ASSERT_TRUE(guest.attach(*machine));
  machine->start();
  EXPECT_EQ(letters(3), "abc");
  ASSERT_TRUE(guest.save_snapshot(snapshot));
  EXPECT_EQ(letters(23), kAlphabet.substr(3));
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  guest.detach();
}

}  // namespace
}  // namespace balloon::vmm::test

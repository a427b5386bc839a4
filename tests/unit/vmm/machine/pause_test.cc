// Pausing, snapshots and the monitor's commands on machines that run: small guests on this host's own KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/unit/vmm/machine/bare_kernel.h"
#include "vmm/machine/guest_control.h"
#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Prints a to z, each once, with a pause of some milliseconds after each, then powers off. Where it is lies
/// in memory, in registers and in the program counter.
Code alphabet() {
  return Code()
      .set_dx(0x3f8)
      .raw({0xff, 0x05, 0x00, 0x00, 0x20, 0x00})        // again: inc dword [0x200000]
      .raw({0xa0, 0x00, 0x00, 0x20, 0x00, 0x04, 0x60})  // mov al, [0x200000]; add al, 'a' - 1
      .raw({0xee})                                      // out dx, al
      .raw({0xb9, 0x00, 0x00, 0x40, 0x01, 0xe2, 0xfe})  // mov ecx, 20 Mi; loop to itself
      .raw({0x3c, 0x7a, 0x75, 0xe7})                    // cmp al, 'z'; jne again
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
    config.serial = {SerialConfig::Kind::file, directory / "serial"};
    write_kernel(config.boot.kernel, alphabet());
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm = std::make_unique<Kvm>(std::move(*opened));
    serial = std::move(*SerialBackend::create(config.serial, *loop));
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  std::unique_ptr<Machine> make() {
    auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    EXPECT_TRUE(machine) << machine.error().message;
    return machine ? std::move(*machine) : nullptr;
  }
  std::string create_error() {
    const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    return machine ? "" : machine.error().message;
  }
  std::string printed() const {
    std::ifstream file(config.serial.path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  bool wait_printed(std::size_t characters) const {
    for (int i = 0; i < 6000 && printed().size() < characters; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return printed().size() >= characters;
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
};

TEST_F(PauseTest, APausedGuestStandsStillAndGoesOnWhereItWas) {
  const auto machine = make();
  machine->start();
  ASSERT_TRUE(wait_printed(3));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine->pause());
    const std::string before = printed();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(printed(), before);
    ASSERT_TRUE(machine->resume());
    ASSERT_TRUE(wait_printed(std::min(before.size() + 2, kAlphabet.size())));
  }
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  EXPECT_EQ(printed(), kAlphabet);
}

TEST_F(PauseTest, PausingAndResumingTwiceIsOnce) {
  const auto machine = make();
  machine->start();
  EXPECT_TRUE(machine->resume());
  EXPECT_TRUE(machine->pause());
  EXPECT_TRUE(machine->pause());
  EXPECT_TRUE(machine->paused());
  EXPECT_TRUE(machine->resume());
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
}

TEST_F(PauseTest, APausedMachineCanBeDestroyed) {
  auto machine = make();
  machine->start();
  ASSERT_TRUE(machine->pause());
  machine.reset();
  // The loop goes on for the next machine.
  EXPECT_TRUE(loop->watch_event([] {}).has_value());
  make()->start();
}

TEST_F(PauseTest, AMachinePausedBeforeItsStartRunsOnlyWhenResumed) {
  const auto machine = make();
  ASSERT_TRUE(machine->pause());
  machine->start();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(printed(), "");
  ASSERT_TRUE(machine->resume());
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
}

TEST_F(PauseTest, ARestoredGuestGoesOnWithTheNextLetter) {
  auto machine = make();
  machine->start();
  ASSERT_TRUE(wait_printed(5));
  ASSERT_TRUE(machine->pause());
  const auto saved = machine->save(snapshot);
  ASSERT_TRUE(saved) << saved.error().message;
  machine.reset();
  // A few pages of a guest of 64 MiB.
  EXPECT_LT(std::filesystem::file_size(snapshot), kMiB);
  config.restore = snapshot;
  machine = make();
  ASSERT_TRUE(machine);
  machine->start();
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  EXPECT_EQ(printed(), kAlphabet);
}

TEST_F(PauseTest, ASnapshotOfASnapshotIsAsGood) {
  for (std::size_t letters = 4; letters <= 12; letters += 4) {
    const auto machine = make();
    ASSERT_TRUE(machine);
    machine->start();
    ASSERT_TRUE(wait_printed(letters));
    ASSERT_TRUE(machine->pause());
    ASSERT_TRUE(machine->save(snapshot));
    config.restore = snapshot;
  }
  const auto machine = make();
  ASSERT_TRUE(machine);
  machine->start();
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  EXPECT_EQ(printed(), kAlphabet);
}

TEST_F(PauseTest, ABalloonsTargetIsRestored) {
  auto machine = make();
  ASSERT_TRUE(machine->balloon(BalloonHub::User::link).set_target(48 * kMiB));
  ASSERT_TRUE(machine->pause());
  ASSERT_TRUE(machine->save(snapshot));
  machine.reset();
  config.restore = snapshot;
  machine = make();
  ASSERT_TRUE(machine);
  EXPECT_EQ(machine->balloon(BalloonHub::User::link).state().target, 48 * kMiB);
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
  GuestControl control(config);
  std::vector<MonitorEvent::Kind> events;
  std::mutex mutex;
  control.listen([&](const MonitorEvent& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event.kind);
  });
  auto machine = make();
  ASSERT_TRUE(control.attach(machine.get()));
  machine->start();
  ASSERT_TRUE(control.stop());
  EXPECT_TRUE(machine->paused());
  EXPECT_EQ(control.run_state(), RunState::paused);
  EXPECT_EQ(control.vcpu_threads().size(), 2U);
  EXPECT_GT(control.vcpu_threads()[0], 0);
  ASSERT_TRUE(control.save_snapshot(snapshot));
  EXPECT_TRUE(machine->paused()) << "it was, before";
  ASSERT_TRUE(control.reset());
  EXPECT_EQ(machine->outcome().get()->ending, Ending::reboot);
  EXPECT_FALSE(machine->outcome().get()->by_guest);
  ASSERT_TRUE(control.attach(nullptr));
  EXPECT_FALSE(control.power_button()) << "there is no machine";
  // The next one inherits that it is stopped.
  machine = make();
  ASSERT_TRUE(control.attach(machine.get()));
  machine->start();
  EXPECT_TRUE(machine->paused());
  ASSERT_TRUE(control.power_button());
  ASSERT_TRUE(control.cont());
  ASSERT_TRUE(control.set_balloon(32 * kMiB));
  EXPECT_EQ(control.balloon().target, 32 * kMiB);
  control.quit();
  EXPECT_EQ(wait_end(*machine), Ending::quit);
  ASSERT_TRUE(control.attach(nullptr));
  const std::lock_guard lock(mutex);
  using Kind = MonitorEvent::Kind;
  EXPECT_THAT(events, ElementsAre(Kind::stop, Kind::powerdown, Kind::resume));
}

TEST_F(PauseTest, ASnapshotOfARunningGuestLeavesItRunning) {
  GuestControl control(config);
  const auto machine = make();
  ASSERT_TRUE(control.attach(machine.get()));
  machine->start();
  ASSERT_TRUE(wait_printed(3));
  ASSERT_TRUE(control.save_snapshot(snapshot));
  EXPECT_EQ(wait_end(*machine), Ending::power_off);
  EXPECT_EQ(printed(), kAlphabet);
  ASSERT_TRUE(control.attach(nullptr));
}

}  // namespace
}  // namespace balloon::vmm::test

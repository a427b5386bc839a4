// SPDX-License-Identifier: Apache-2.0
// Pins on disk: what was answered holds again after a restart, and what cannot be written was not taken.
#include "balloond/control/pin_keeper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/files.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using namespace std::chrono_literals;

constexpr const char* kBoot = "6e5f0a3e-0000-4000-8000-000000000001";

class PinFileTest : public ::testing::Test {
 protected:
  Moment now(const char* boot = kBoot) const {
    return {.now = clock_.now(), .wall = clock_.wall(), .boot = boot};
  }
  PinRecord pin(Bytes target, std::chrono::nanoseconds left) const {
    return {.target = target,
            .expires = clock_.now() + left,
            .until = clock_.wall() + std::chrono::duration_cast<WallTime::duration>(left)};
  }
  test::FakeClock clock_;
  test::FakeTree tree_;
};

TEST_F(PinFileTest, PinsAreThereAgainForWhatIsLeftOfTheirTime) {
  const std::string text = write_pins({{"a", pin(kGiB, 10min)}, {"b", pin(2 * kGiB, 1min)}}, kBoot);
  clock_.advance(4min);
  const auto read = read_pins(text, now());
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->size(), 1U) << "the other one is over";
  EXPECT_EQ(read->at("a").target, kGiB);
  EXPECT_EQ(read->at("a").expires - clock_.now(), 6min);
  EXPECT_EQ(read->at("a").until - clock_.wall(), 6min);
}

TEST_F(PinFileTest, ASteppedWallClockChangesNothingWithinABootAndNeverMakesAPinEndless) {
  const std::string text = write_pins({{"a", pin(kGiB, 10min)}}, kBoot);
  Moment at = now();
  at.wall -= 48h;
  EXPECT_EQ(read_pins(text, at)->at("a").expires - at.now, 10min);
  at.boot = "another";
  EXPECT_EQ(read_pins(text, at)->at("a").expires - at.now, 24h) << "no pin is longer";
  at.wall += 96h;
  EXPECT_TRUE(read_pins(text, at)->empty());
}

TEST_F(PinFileTest, WhatIsDamagedOrNewerIsRefusedWithWhatToDo) {
  const std::string text = write_pins({{"a", pin(kGiB, 10min)}}, kBoot);
  for (std::size_t size = 0; size + 2 < text.size(); ++size)
    EXPECT_FALSE(read_pins(text.substr(0, size), now()));
  EXPECT_EQ(read_pins(R"({"version": 2, "more": 1})", now()).error().message,
            "it has version 2 of the format, this program reads version 1");
  EXPECT_FALSE(read_pins(R"({"version": 1, "pins": [{"guest": "../a", "target_bytes": "1"}]})", now()));
  for (const char* part : {R"("until": )", R"("until_since_boot": )"}) {
    std::string spoilt = text;
    spoilt.insert(spoilt.find(part) + std::string_view(part).size() + 1, "-");
    const auto read = read_pins(spoilt, now());
    ASSERT_FALSE(read) << spoilt;
    EXPECT_TRUE(read.error().message.starts_with("it is damaged: ")) << read.error().message;
  }
  const auto directory = PinFile(clock_, tree_.root(), kBoot).load();
  ASSERT_FALSE(directory);
  EXPECT_TRUE(directory.error().message.starts_with("the pins cannot be read")) << directory.error().message;
  tree_.write("/pins.json", std::string((4 << 20) + 1, ' '));
  EXPECT_EQ(PinFile(clock_, tree_.root() + "/pins.json", kBoot).load().error().message.find("damaged"),
            std::string::npos)
      << "it is not even read";
  tree_.write("/pins.json", "{");
  const auto loaded = PinFile(clock_, tree_.root() + "/pins.json", kBoot).load();
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().message.ends_with("/pins.json.damaged), which ends the pins in it"))
      << loaded.error().message;
}

class PinKeeperTest : public PinFileTest {
 protected:
  struct Run {
    Run(const Clock& clock, const std::string& root) : guests(clock, root) {}
    Registry guests;
    std::unique_ptr<PinKeeper> keeper;
  };
  std::unique_ptr<Run> start() {
    auto run = std::make_unique<Run>(clock_, tree_.root());
    run->keeper = std::make_unique<PinKeeper>(run->guests);
    const auto started = run->keeper->start(PinFile(clock_, file(), kBoot));
    EXPECT_TRUE(started) << started.error().message;
    return run;
  }
  void join(Registry& guests, const std::string& name) {
    tree_.process(42, "1024");
    ASSERT_TRUE(guests.joined(test::registration(name, 2 * kGiB, 2 * kGiB), {.pid = 42, .uid = 0},
                              std::make_shared<test::FakeChannel>()));
  }
  static bool keep(PinKeeper& keeper) {
    std::atomic<int> kept{-1};
    keeper.keep([&](const Result<void>& result) { kept = result ? 1 : 0; });
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (kept < 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    EXPECT_GE(kept, 0) << "no answer";
    return kept == 1;
  }
  std::string file() const { return tree_.root() + "/state/pins.json"; }
};

TEST_F(PinKeeperTest, APinThatWasAnsweredHoldsInTheNextRunAsSoonAsItsGuestJoins) {
  {
    const auto run = start();
    join(run->guests, "a");
    ASSERT_TRUE(run->guests.set_pin("a", kGiB, 10min));
    ASSERT_TRUE(keep(*run->keeper));
  }
  clock_.advance(1min);
  {
    const auto run = start();
    EXPECT_EQ(run->guests.all_pins().size(), 1U) << "though its guest has not joined yet";
    ASSERT_TRUE(keep(*run->keeper)) << "what is written meanwhile has it, too";
  }
  const auto run = start();
  join(run->guests, "a");
  join(run->guests, "b");
  EXPECT_EQ(run->guests.find("a")->pin->target, kGiB);
  EXPECT_EQ(run->guests.find("a")->pin->expires, clock_.now() + 9min);
  EXPECT_FALSE(run->guests.find("b")->pin);
  run->guests.clear_pin("a");
  ASSERT_TRUE(keep(*run->keeper));
  EXPECT_TRUE(start()->guests.all_pins().empty()) << "and its end is kept";
}

TEST_F(PinKeeperTest, OneHoldsForItsTimeThoughItsVmmEndsAndStartsAgain) {
  const auto run = start();
  join(run->guests, "a");
  ASSERT_TRUE(run->guests.set_pin("a", kGiB, 10min));
  run->guests.left(run->guests.find("a")->session);
  tree_.end_process(42);
  run->guests.refresh();
  ASSERT_FALSE(run->guests.find("a")) << "its process is gone";
  EXPECT_EQ(run->guests.all_pins().at("a").target, kGiB) << "what is written meanwhile has it, too";
  join(run->guests, "a");
  EXPECT_EQ(run->guests.find("a")->pin->target, kGiB);
}

TEST_F(PinKeeperTest, OneThatIsOverWhenItsGuestJoinsIsNone) {
  Registry guests(clock_, tree_.root());
  guests.await_pins({{"a", pin(kGiB, 1min)}});
  clock_.advance(2min);
  EXPECT_TRUE(guests.all_pins().empty());
  join(guests, "a");
  EXPECT_FALSE(guests.find("a")->pin);
}

TEST_F(PinKeeperTest, WhatCannotBeWrittenIsSaidAndUndone) {
  const auto run = start();
  join(run->guests, "a");
  run->guests.set_pin("a", kGiB, 10min);
  ASSERT_TRUE(keep(*run->keeper));
  const auto before = run->guests.find("a")->pin;
  const auto mine = run->guests.set_pin("a", 2 * kGiB, 10min)->pin;
  std::filesystem::create_symlink("/dev/full", file() + ".new");
  EXPECT_FALSE(keep(*run->keeper));
  run->guests.undo_pin("a", mine, before);
  EXPECT_EQ(run->guests.find("a")->pin->target, kGiB);
  run->guests.undo_pin("a", mine, std::nullopt);
  EXPECT_TRUE(run->guests.find("a")->pin) << "a later one is somebody else's";
}

TEST_F(PinKeeperTest, ADamagedFileIsLeftAsItIsAndNothingStarts) {
  tree_.write("/state/pins.json", "{");
  Registry guests(clock_, tree_.root());
  PinKeeper keeper(guests);
  EXPECT_FALSE(keeper.start(PinFile(clock_, file(), kBoot)));
  EXPECT_TRUE(keep(keeper)) << "what it is told is not written";
  EXPECT_EQ(*read_file(file(), 100), "{");
}

TEST_F(PinKeeperTest, WithoutAFileTheAnswerIsThereAtOnce) {
  Registry guests(clock_, tree_.root());
  PinKeeper keeper(guests);
  EXPECT_TRUE(keep(keeper));
}

}  // namespace
}  // namespace balloon::daemon

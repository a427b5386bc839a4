// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "base/pages.h"
#include "policy/executor.h"
#include "policy/recording/encoder.h"
#include "policy/recording/wire.h"
#include "policy/sim/generator.h"
#include "policy/sim/runner.h"
#include "tests/unit/policy/random_host.h"

namespace balloon::policy::sim {
namespace {

namespace fs = std::filesystem;
using recording::Labels;
using std::chrono::milliseconds;

/// A directory with recordings of a host with guests that come and go, decided upon by the engine.
class ReplayTest : public ::testing::Test {
 protected:
  ReplayTest() {
    std::string pattern = (fs::temp_directory_path() / "balloon-replay-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~ReplayTest() override { fs::remove_all(directory_); }

  /// The recorder starts: it knows nothing yet.
  void begin_run(std::uint64_t run) {
    run_ = run;
    sequence_ = 0;
    number_ = 0;
    tunables_ = {};
    engine_.emplace(tunables_);
    begin_file();
  }
  void begin_file() {
    file_ = directory_ / fmt::format("{:04}-{:06}{}", run_, ++sequence_, recording::kSuffix);
    std::string bytes;
    encoder_.begin({.run = run_, .sequence = sequence_, .version = "test"}, bytes);
    encoder_.tunables(tunables_, bytes);
    append(bytes);
  }
  void retune() {
    tunables_.margin_min = random_.between(16, 512) * kMiB;
    engine_->set_tunables(tunables_);
    std::string bytes;
    encoder_.tunables(tunables_, bytes);
    append(bytes);
  }
  void decide(int ticks) {
    for (int i = 0; i < ticks; ++i) {
      random_.live(host_);
      Snapshot seen = host_.snapshot();
      std::ranges::sort(seen.guests, {}, &GuestSnapshot::name);
      Plan plan = engine_->decide(seen);
      ++number_;
      if (tamper_ && number_ == tamper_) plan.guests.at(0).target += Bytes{4096};
      if (budget_) plan.budget = *budget_;
      wall_ += milliseconds(1000);
      host_.settle(std::chrono::seconds(1));
      if (std::ranges::find(unrecorded_, number_) != unrecorded_.end()) continue;
      const std::vector<const Labels*> labels(seen.guests.size(), &kLabels);
      std::string bytes;
      ASSERT_TRUE(encoder_.tick(number_, wall_, seen, labels, plan, bytes));
      append(bytes);
    }
  }
  void append(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary | std::ios::app) << bytes;
  }
  static std::string content(const fs::path& file) {
    std::ostringstream out;
    out << std::ifstream(file, std::ios::binary).rdbuf();
    return out.str();
  }
  static void overwrite(const fs::path& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  ReplayReport good(const fs::path& path, const Alternate& alternate = {},
                    const std::string& guest = "") const {
    auto report = replay(path.string(), alternate, {.guest = guest});
    EXPECT_TRUE(report) << report.error().message;
    return report.value_or(ReplayReport{});
  }
  static std::string error(const fs::path& path) {
    const auto report = replay(path.string(), {}, {});
    return report ? "" : report.error().message;
  }

  inline static const Labels kLabels{{"tier", "db"}};
  fs::path directory_;
  fs::path file_;
  std::uint64_t run_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t number_ = 0;
  std::uint64_t tamper_ = 0;
  std::optional<Bytes> budget_;  ///< that is recorded in place of the engine's
  std::vector<std::uint64_t> unrecorded_;
  milliseconds wall_{1'700'000'000'000};
  RandomHost random_{42};
  FakeHost host_ = random_.make(Bytes{0}, 8);
  Tunables tunables_;
  std::optional<Engine> engine_;
  recording::Encoder encoder_;
};

TEST_F(ReplayTest, ARunReplaysToIdenticalPlansOverFilesAndReloads) {
  begin_run(1);
  for (int i = 0; i < 10; ++i) {
    decide(100);
    if (i % 3 == 1) retune();
    if (i % 3 == 2) begin_file();
  }
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.ticks, 1000U);
  EXPECT_EQ(report.different, 0U) << to_table(report);
  EXPECT_EQ(report.runs, 1U);
  EXPECT_EQ(report.files, 4U);
  EXPECT_EQ(report.warm_up, 0U);
  EXPECT_NE(to_table(report).find("all 1000 plans are identical"), std::string::npos) << to_table(report);
}

TEST_F(ReplayTest, WhatGuestsHaveBeyondTheBudgetIsShown) {
  begin_run(1);
  budget_ = Bytes::max();
  decide(3);
  EXPECT_THAT(to_table(good(directory_)),
              testing::HasSubstr("guests had no more than it in all 3 decisions"));
  budget_ = Bytes{0};
  decide(1);
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.over_budget, 1U);
  EXPECT_GT(report.over_budget_most, kMiB);
  EXPECT_THAT(to_table(report), testing::HasSubstr("guests had more than it in 1 of 4 decisions, by "));
  EXPECT_THAT(to_table(report), testing::HasSubstr(" at most, at 2023-11-14T22:13:24.000Z; in 0 more "));
  EXPECT_THAT(to_json(report), testing::HasSubstr("\"over_budget_ticks\":1"));
}

TEST_F(ReplayTest, WhatTheHostTookGuestsHaveGivenBackAfterTenSeconds) {
  begin_run(1);
  budget_ = Bytes::max();
  decide(1);
  budget_ = Bytes{0};
  decide(10);
  EXPECT_EQ(good(directory_).over_promised, 0U) << "ten seconds ago it was more";
  decide(2);
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.over_budget, 12U);
  EXPECT_EQ(report.over_promised, 2U);
  EXPECT_THAT(to_table(report), testing::HasSubstr("; in 2 more than it had been within 10 s\n"));
  EXPECT_THAT(to_json(report), testing::HasSubstr("\"over_promised_ticks\":2"));
}

TEST_F(ReplayTest, ABudgetOfAnotherRunDoesNotExcuseWhatGuestsHave) {
  begin_run(1);
  budget_ = Bytes::max();
  decide(1);
  begin_run(2);
  budget_ = Bytes{0};
  decide(1);
  EXPECT_EQ(good(directory_).over_promised, 1U);
}

TEST_F(ReplayTest, EachRunBeginsWithAnEngineThatKnowsNothing) {
  for (const std::uint64_t run : {1, 2, 3}) {
    begin_run(run);
    decide(150);
  }
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.runs, 3U);
  EXPECT_EQ(report.ticks, 450U);
  EXPECT_EQ(report.different, 0U) << to_table(report);
}

TEST_F(ReplayTest, TheFirstDifferenceIsNamedWithItsTickItsGuestAndBothFigures) {
  tamper_ = 77;
  begin_run(1);
  decide(100);
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.different, 1U);
  ASSERT_TRUE(report.first);
  EXPECT_EQ(report.first->tick, 77U);
  EXPECT_EQ(report.first->recorded.target, report.first->replayed.target + kPageSize);
  const std::string& guest = report.first->guest;
  EXPECT_EQ(report.guests.at(guest).targets, 1U);
  EXPECT_EQ(report.guests.at(guest).largest, Bytes{4096});
  EXPECT_NE(to_table(report).find("decision 77: guest " + guest + ": another target"), std::string::npos)
      << to_table(report);
  EXPECT_NE(to_json(report).find("\"tick\":77,\"guest\":\"" + guest + "\""), std::string::npos);
  EXPECT_NE(to_csv(report).find(guest + ","), std::string::npos);
}

TEST_F(ReplayTest, ARecordingWithoutItsFirstFilesCountsDifferencesAfterAWarmUpOnly) {
  begin_run(1);
  decide(200);
  const fs::path first = file_;
  begin_file();
  decide(900);
  fs::remove(first);
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.missing_files, 1U);
  EXPECT_EQ(report.missing_ticks, 200U);
  EXPECT_EQ(report.ticks, 900U);
  EXPECT_EQ(report.warm_up, 600U);
  EXPECT_NE(to_table(report).find("the first 1 files of the recording are gone"), std::string::npos);
}

TEST_F(ReplayTest, DecisionsThatWereNotRecordedAreCountedAndWarmedUpAfter) {
  unrecorded_ = {50, 51, 52};
  begin_run(1);
  decide(100);
  const ReplayReport report = good(directory_);
  EXPECT_EQ(report.missing_ticks, 3U);
  EXPECT_EQ(report.ticks, 97U);
  EXPECT_EQ(report.warm_up, 48U);
}

TEST_F(ReplayTest, ARecordThatWasBeingWrittenIsTheEndOfTheFile) {
  begin_run(1);
  decide(20);
  const std::string all = content(file_);
  decide(1);
  const std::size_t last = content(file_).size() - all.size();
  const std::string whole = content(file_);
  for (std::size_t part = 1; part < last; ++part) {
    overwrite(file_, whole.substr(0, all.size() + part));
    const ReplayReport report = good(file_);
    ASSERT_EQ(report.ticks, 20U) << part;
    ASSERT_EQ(report.torn, 1U);
    ASSERT_EQ(report.different, 0U);
  }
  overwrite(file_, all + std::string(5000, '\0'));
  EXPECT_EQ(good(file_).torn, 1U) << "a power cut leaves zeros";
}

/// Our engine, with a recorder beside it.
class RecordedEngine final : public Controller {
 public:
  explicit RecordedEngine(std::string& file) : file_(file) {
    encoder_.begin({.run = 1, .sequence = 1, .version = "test"}, file_);
    encoder_.tunables(Tunables{}, file_);
  }
  Plan decide(const Snapshot& snapshot) override {
    Snapshot seen = snapshot;
    for (GuestSnapshot& guest : seen.guests) {  // the plant's fluids, in pages as kernels count
      for (Bytes* size : {&guest.actual, &guest.target, &guest.on_host.resident, &guest.on_host.swapped})
        *size = whole_pages(*size);
      if (!guest.stats) continue;
      for (auto* size : {&guest.stats->available, &guest.stats->free, &guest.stats->disk_caches,
                         &guest.stats->swap_in, &guest.stats->swap_out}) {
        if (*size) **size = whole_pages(**size);
      }
    }
    Plan plan = engine_.decide(seen);
    const std::vector<const Labels*> labels(seen.guests.size(), &none_);
    ++number_;
    EXPECT_TRUE(encoder_.tick(number_, milliseconds(number_ * 1000), seen, labels, plan, file_));
    return plan;
  }

 private:
  std::string& file_;
  const Labels none_;
  std::uint64_t number_ = 0;
  Engine engine_{Tunables{}};
  recording::Encoder encoder_;
};

TEST_F(ReplayTest, ADayOfFiftyBusyGuestsTakesNoMoreThan150MegabytesAndReplays) {
  constexpr std::uint32_t kGuests = 50;
  const Scenario scenario = generate(4, {.guests = kGuests, .duration = std::chrono::minutes(10)});
  std::string recorded;
  const Contender recorder{.name = "recorded",
                           .summary = {},
                           .period = std::chrono::seconds(1),
                           .admit = admit,
                           .make = [&](const Scenario&, std::uint64_t) {
                             recorded.clear();
                             return std::make_unique<RecordedEngine>(recorded);
                           }};
  run(scenario, recorder, {});
  const fs::path file = directory_ / "a.balloonrec";
  overwrite(file, recorded);
  const ReplayReport report = good(file);
  EXPECT_EQ(report.different, 0U) << to_table(report);
  std::uint64_t guest_ticks = 0;
  for (const auto& [name, guest] : report.guests) guest_ticks += guest.ticks;
  const double each = static_cast<double>(recorded.size()) / static_cast<double>(guest_ticks);
  RecordProperty("bytes_per_guest_and_tick", std::to_string(each));
  EXPECT_LT(each * kGuests * 86'400, 150e6) << each << " bytes for each guest and tick";
}

TEST_F(ReplayTest, OtherTunablesShowWhatWouldHaveBeenDifferent) {
  begin_run(1);
  decide(300);
  Tunables wide;
  wide.margin_ratio = 0.5;
  const ReplayReport report = good(directory_, {.name = "wide margins", .tunables = wide});
  EXPECT_GT(report.different, 0U);
  GuestReplay all;
  for (const auto& [name, guest] : report.guests) {
    all.targets += guest.targets;
    all.more += guest.more;
  }
  EXPECT_GT(all.targets, 0U);
  EXPECT_GT(all.more, 0);
  EXPECT_NE(to_table(report).find("Decided by:  wide margins"), std::string::npos);
}

TEST_F(ReplayTest, EveryLawCanDecideARecording) {
  begin_run(1);
  decide(60);
  for (const peers::Law& law : peers::laws()) {
    const ReplayReport report = good(directory_, {.name = std::string(law.name), .law = &law});
    EXPECT_EQ(report.ticks, 60U) << law.name;
    if (law.name == "balloond") {
      EXPECT_EQ(report.different, 0U) << "the default tunables were recorded";
    } else if (law.name == "mom") {
      EXPECT_GT(report.different, 0U);
    }
  }
}

TEST_F(ReplayTest, OneGuestAloneCanBeLookedAt) {
  begin_run(1);
  decide(10);
  const std::string name = host_.guests.front().seen.name;
  const ReplayReport report = good(directory_, {}, name);
  EXPECT_EQ(report.guests.size(), 1U);
  const auto nobody = replay(directory_.string(), {}, {.guest = "nobody"});
  ASSERT_FALSE(nobody);
  EXPECT_NE(nobody.error().message.find("there is no guest 'nobody' in it"), std::string::npos);
}

TEST_F(ReplayTest, WhatIsNotARecordingIsRefusedWithFileAndOffset) {
  EXPECT_NE(error(directory_ / "none").find("No such file"), std::string::npos);
  EXPECT_EQ(error(directory_), directory_.string() + ": there are no recordings (*.balloonrec) in it");
  const fs::path file = directory_ / "a.balloonrec";
  overwrite(file, "");
  EXPECT_EQ(error(file), file.string() + ": it is empty");
  EXPECT_EQ(error(directory_), directory_.string() + ": there is no decision in it");
  overwrite(file,
            "\x89"
            "BLREC");
  EXPECT_EQ(error(file), file.string() + ": offset 0: it ends within the header");
  overwrite(file, "name: a scenario, perhaps\n");
  EXPECT_EQ(error(file), file.string() + ": offset 0: it is no recording of balloond");
  begin_run(1);
  decide(3);
  std::string bytes = content(file_);
  bytes[8] = static_cast<char>(recording::kVersion + 2);
  overwrite(file, bytes);
  EXPECT_EQ(error(file),
            file.string() + ": offset 0: it has version " + std::to_string(recording::kVersion + 2) +
                " of the format, this program reads version " + std::to_string(recording::kVersion) +
                ": replay it with the balloon-sim of the balloond that recorded it, test, or record anew");
}

TEST_F(ReplayTest, AFlippedBitIsRefusedWithFileAndOffset) {
  begin_run(1);
  decide(5);
  const std::string before = content(file_);
  decide(5);
  const std::string whole = content(file_);
  std::string bytes = whole;
  bytes[before.size() + recording::kFrameSize + 3] ^= 4;
  overwrite(file_, bytes);
  EXPECT_EQ(error(file_), fmt::format("{}: offset {}: a record is damaged: its checksum is another",
                                      file_.string(), before.size()));
  for (const std::size_t byte : {0U, 1U, 2U, 3U, 4U, 7U}) {
    bytes = whole;
    bytes[before.size() + byte] ^= 0x10;
    overwrite(file_, bytes);
    EXPECT_EQ(error(file_),
              fmt::format("{}: offset {}: the length of a record is damaged", file_.string(), before.size()));
  }
}

TEST_F(ReplayTest, ALengthThatLiesTakesNoMemory) {
  begin_run(1);
  decide(2);
  const std::size_t at = content(file_).size();
  std::string frame;
  recording::put_u32(frame, 0xfffffff0U);
  recording::put_u32(frame, 0xfffffff0U ^ recording::kLengthMask);
  append(frame + std::string(100, 'x'));
  EXPECT_EQ(error(file_),
            fmt::format("{}: offset {}: a record cannot have 4294967280 bytes", file_.string(), at));
}

TEST_F(ReplayTest, RandomDamageIsRefusedOrEndsTheFileAndNeverCrashes) {
  begin_run(1);
  decide(40);
  const std::string whole = content(file_);
  std::mt19937_64 random(3);
  for (int i = 0; i < (kSanitized ? 200 : 1000); ++i) {
    std::string bytes = whole;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
      bytes[random() % bytes.size()] ^= static_cast<char>(1U << random() % 8);
    if (random() % 3 == 0) bytes.resize(random() % bytes.size());
    if (bytes == whole) continue;  // two flips of one bit
    overwrite(file_, bytes);
    const auto report = replay(file_.string(), {}, {});
    if (report) {
      ASSERT_LT(report->ticks, 40U) << "damage was not seen";
    } else {
      ASSERT_TRUE(report.error().message.starts_with(file_.string() + ": ")) << report.error().message;
    }
  }
}

}  // namespace
}  // namespace balloon::policy::sim

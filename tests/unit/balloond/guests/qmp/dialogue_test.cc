// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/dialogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "tests/unit/balloond/guests/qmp/recording.h"

namespace balloon::daemon::qmp {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::Contains;
using testing::Not;

constexpr const char* kBooting = "before the guest's driver is up";

class DialogueTest : public testing::Test {
 protected:
  static std::vector<Question> questions(const std::vector<Command>& commands) {
    std::vector<Question> asked;
    for (const Command& command : commands) asked.push_back(command.question);
    return asked;
  }
  std::string answer(Question question, json value) {
    const auto taken = dialogue_.take(Answer{.question = question, .value = std::move(value)});
    return taken ? "" : taken.error().message;
  }
  std::string refuse(Question question, const std::string& error_class, const std::string& words = "no") {
    const auto taken = dialogue_.take(Answer{
        .question = question,
        .value = std::unexpected(Failure{.id = {}, .error_class = error_class, .description = words})});
    return taken ? "" : taken.error().message;
  }
  void happen(const char* event, json data = json::object()) {
    ASSERT_TRUE(dialogue_.take(Event{.name = event, .data = std::move(data)}));
  }
  /// Takes what the recorded QEMU said while its guest booted.
  void identify() {
    answer(Question::name, recorded(kBooting, "query-name"));
    answer(Question::uuid, recorded(kBooting, "query-uuid"));
    answer(Question::cpus, json::array({json::object(), json::object()}));
    answer(Question::memory_size, recorded(kBooting, "query-memory-size-summary"));
    answer(Question::list_peripheral, recorded(kBooting, "peripheral\""));
    answer(Question::list_peripheral_anon, recorded(kBooting, "peripheral-anon"));
    answer(Question::list_unattached, recorded(kBooting, "unattached"));
    answer(Question::run_state, recorded(kBooting, "query-status"));
    answer(Question::migration, recorded(kBooting, "query-migrate"));
    answer(Question::balloon_size, recorded(kBooting, "query-balloon"));
    answer(Question::statistics, recorded(kBooting, "guest-stats\""));
    answer(Question::driver, recorded(kBooting, "x-query-virtio-status"));
  }
  void come_up() {
    identify();
    answer(Question::balloon_size, recorded("target 300 MiB", "query-balloon"));
    answer(Question::statistics, recorded("target 300 MiB", "guest-stats"));
    answer(Question::driver, recorded("driver up", "x-query-virtio-status"));
  }

  Dialogue dialogue_{1s, /*shared=*/false};
};

TEST_F(DialogueTest, AGuestIsIntroducedByItsNameAndUuid) {
  EXPECT_FALSE(dialogue_.identified());
  identify();
  ASSERT_TRUE(dialogue_.identified());
  const Registration guest = dialogue_.registration("fallback");
  EXPECT_EQ(guest.name, "web");
  EXPECT_EQ(guest.hypervisor, "qemu");
  EXPECT_EQ(guest.labels.at("uuid"), "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31");
  EXPECT_EQ(guest.memory, 512 * kMiB);
  EXPECT_EQ(guest.vcpus, 2U);
  EXPECT_EQ(guest.balloon->actual, 512 * kMiB);
  EXPECT_FALSE(guest.balloon->driver_ready);
}

TEST_F(DialogueTest, AGuestWithoutANameHasItsSockets) {
  EXPECT_EQ(Dialogue(1s, false).registration("100").name, "100");
}

TEST_F(DialogueTest, WhileNoDriverHoldsTheBalloonTheGuestHasAllItsMemory) {
  come_up();
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).driver_ready);
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).has_stats);
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).deflate_on_oom);
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).free_page_reporting);
  EXPECT_EQ(dialogue_.actual(), 300 * kMiB);
  happen("RESET", {{"guest", true}});
  EXPECT_FALSE(dialogue_.balloon(Bytes{0}).driver_ready);
  EXPECT_EQ(dialogue_.actual(), 512 * kMiB) << "QEMU still says 300 MiB";
  answer(Question::driver, recorded("driver up", "x-query-virtio-status"));
  EXPECT_EQ(dialogue_.actual(), 300 * kMiB);
}

TEST_F(DialogueTest, AResetThatNobodySawIsFoundByTheDriversState) {
  come_up();
  answer(Question::driver, recorded("the guest boots again", "x-query-virtio-status"));
  EXPECT_EQ(dialogue_.actual(), 512 * kMiB);
}

TEST_F(DialogueTest, WithoutTheDriversStateStatisticsShowThatThereIsOne) {
  identify();
  EXPECT_EQ(refuse(Question::driver, "CommandNotFound"), "") << "QEMU before 7.2";
  EXPECT_THAT(questions(dialogue_.figure_questions(true)), Not(Contains(Question::driver)));
  EXPECT_FALSE(dialogue_.balloon(Bytes{0}).driver_ready);
  answer(Question::statistics, recorded("target 300 MiB", "guest-stats"));
  answer(Question::balloon_size, recorded("target 300 MiB", "query-balloon"));
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).driver_ready);
  happen("RESET");
  EXPECT_FALSE(dialogue_.balloon(Bytes{0}).driver_ready) << "these statistics are from before the reset";
  answer(Question::statistics, recorded("target 300 MiB", "guest-stats"));
  EXPECT_FALSE(dialogue_.balloon(Bytes{0}).driver_ready);
  json newer = recorded("target 300 MiB", "guest-stats");
  newer["last-update"] = newer["last-update"].get<std::uint64_t>() + 9;
  answer(Question::statistics, newer);
  EXPECT_TRUE(dialogue_.balloon(Bytes{0}).driver_ready);
}

TEST_F(DialogueTest, EventsTellTheSizeAndWhetherItRuns) {
  come_up();
  happen("BALLOON_CHANGE", {{"actual", (400 * kMiB).count()}});
  EXPECT_EQ(dialogue_.actual(), 400 * kMiB);
  happen("STOP");
  EXPECT_EQ(dialogue_.obstacle(), "it does not run: paused");
  happen("RESUME");
  EXPECT_EQ(dialogue_.obstacle(), "");
  happen("AN_EVENT_OF_THE_FUTURE", 5);
  EXPECT_FALSE(dialogue_.take(Event{.name = "BALLOON_CHANGE", .data = {{"actual", -5}}}));
  EXPECT_EQ(dialogue_.actual(), 400 * kMiB) << "what was known before stays";
}

TEST_F(DialogueTest, WhyAGuestIsLeftAloneIsSaid) {
  come_up();
  EXPECT_EQ(dialogue_.obstacle(), "");
  answer(Question::migration, recorded("migration", "query-migrate"));
  EXPECT_EQ(dialogue_.obstacle(), "it is being migrated");
  answer(Question::migration, {{"status", "completed"}});
  answer(Question::run_state, {{"status", "postmigrate"}, {"running", false}});
  EXPECT_EQ(dialogue_.balloon(Bytes{0}).obstacle, "it does not run: postmigrate");
}

json job(const char* type, const char* status) {
  return json::array({{{"id", "x"}, {"type", type}, {"status", status}, {"current-progress", 0}}});
}

TEST_F(DialogueTest, AGuestIsLeftAloneWhileASnapshotOfItIsMade) {
  come_up();
  answer(Question::jobs, job("snapshot-save", "running"));
  EXPECT_EQ(dialogue_.obstacle(), "a snapshot of it is being saved, loaded or deleted");
  answer(Question::jobs, job("snapshot-save", "concluded"));
  EXPECT_EQ(dialogue_.obstacle(), "");
  EXPECT_EQ(refuse(Question::jobs, "GenericError", "not now"), "what is done with it: not now");
  EXPECT_THAT(questions(dialogue_.figure_questions(false)), Contains(Question::jobs));
  EXPECT_EQ(refuse(Question::jobs, "CommandNotFound"), "");
  EXPECT_THAT(questions(dialogue_.figure_questions(true)), Not(Contains(Question::jobs)))
      << "QEMU before 3.0 does not know the question";
}

TEST_F(DialogueTest, AGuestThatIsBackedUpIsLeftAloneOnItsOwnersSocketAndNotOnOurOwn) {
  come_up();
  answer(Question::jobs, job("backup", "running"));
  EXPECT_EQ(dialogue_.obstacle(), "");
  dialogue_ = Dialogue(1s, /*shared=*/true);
  come_up();
  EXPECT_FALSE(dialogue_.owner_is_at_work());
  answer(Question::jobs, job("backup", "running"));
  EXPECT_EQ(dialogue_.obstacle(), "it is being backed up");
  EXPECT_TRUE(dialogue_.owner_is_at_work());
  answer(Question::jobs, job("mirror", "running"));
  EXPECT_EQ(dialogue_.obstacle(), "");
  EXPECT_FALSE(dialogue_.owner_is_at_work());
}

TEST_F(DialogueTest, ABalloonThatIsUnpluggedOrPluggedInIsNoticed) {
  come_up();
  EXPECT_EQ(refuse(Question::statistics, "DeviceNotFound"), "");
  EXPECT_EQ(dialogue_.obstacle(), "it has no balloon device");
  EXPECT_EQ(dialogue_.actual(), 512 * kMiB);
  EXPECT_THAT(questions(dialogue_.figure_questions(true)), Contains(Question::list_peripheral));
  EXPECT_THAT(questions(dialogue_.figure_questions(false)), Not(Contains(Question::balloon_size)));
  answer(Question::list_peripheral, recorded(kBooting, "peripheral\""));
  EXPECT_THAT(questions(dialogue_.figure_questions(false)), Contains(Question::balloon_size));
}

TEST_F(DialogueTest, OnlyTheFolderThatEveryMachineHasIsMissed) {
  for (const Question folder :
       {Question::list_peripheral_anon, Question::list_unattached, Question::list_objects})
    EXPECT_EQ(refuse(folder, "DeviceNotFound"), "");
  EXPECT_NE(refuse(Question::list_peripheral, "DeviceNotFound"), "");
}

TEST_F(DialogueTest, AQemuThatDoesNotSayTheSizeIsLeftAlone) {
  identify();
  EXPECT_EQ(refuse(Question::balloon_size, "DeviceNotActive"), "");
  EXPECT_EQ(dialogue_.obstacle(), "QEMU does not say the size of its balloon");
  EXPECT_EQ(refuse(Question::balloon_size, "KVMMissingCap", "no synchronous MMU"),
            "its balloon: no synchronous MMU");
}

TEST_F(DialogueTest, TheIntervalOfStatisticsIsSetWhereItDiffers) {
  identify();
  EXPECT_TRUE(dialogue_.corrections().empty()) << "it is not known yet";
  answer(Question::polling_interval, 0U);
  ASSERT_EQ(dialogue_.corrections().size(), 1U);
  EXPECT_EQ(dialogue_.corrections()[0].arguments.at("value"), 1);
  EXPECT_EQ(dialogue_.corrections()[0].arguments.at("path"), "/machine/peripheral/balloon0");
  answer(Question::set_polling_interval, json::object());
  EXPECT_TRUE(dialogue_.corrections().empty());
  answer(Question::polling_interval, 5U);
  EXPECT_FALSE(dialogue_.corrections().empty()) << "somebody has changed it";
  dialogue_.set_interval(5s);
  EXPECT_TRUE(dialogue_.corrections().empty());
}

TEST_F(DialogueTest, OnASharedSocketOthersIntervalHoldsUnlessItIsOff) {
  dialogue_ = Dialogue(1s, /*shared=*/true);
  identify();
  answer(Question::polling_interval, 5U);
  EXPECT_TRUE(dialogue_.corrections().empty());
  answer(Question::polling_interval, 0U);
  EXPECT_EQ(dialogue_.corrections().size(), 1U);
}

TEST_F(DialogueTest, WhatMattersMostIsAskedFirstAndWhatSeldomChangesSeldom) {
  come_up();
  const auto brief = questions(dialogue_.figure_questions(false));
  EXPECT_EQ(brief, (std::vector{Question::balloon_size, Question::statistics, Question::run_state,
                                Question::migration, Question::jobs, Question::disk_reads}));
  const auto all = questions(dialogue_.figure_questions(true));
  EXPECT_EQ(all.front(), Question::balloon_size);
  for (const Question question : {Question::driver, Question::polling_interval, Question::memory_size})
    EXPECT_THAT(all, Contains(question));
}

TEST_F(DialogueTest, ADeviceThatPinsMemoryIsAnObstacleForAsLongAsItIsThere) {
  come_up();
  EXPECT_EQ(dialogue_.obstacle(), "");
  // With an id and without, and both may be plugged in at any time.
  for (const auto& [folder, name] : {std::pair{Question::list_peripheral, "peripheral\""},
                                     std::pair{Question::list_peripheral_anon, "peripheral-anon"}}) {
    EXPECT_THAT(questions(dialogue_.figure_questions(true)), Contains(folder));
    json devices = recorded(kBooting, name);
    devices.push_back({{"name", "hostdev0"}, {"type", "child<vfio-pci>"}});
    answer(folder, devices);
    EXPECT_EQ(dialogue_.obstacle(), "its memory is pinned for a device of the host (vfio-pci)");
    answer(folder, recorded(kBooting, name));
    EXPECT_EQ(dialogue_.obstacle(), "") << "it was unplugged";
  }
  answer(Question::list_objects, json::array({{{"name", "sev0"}, {"type", "child<sev-guest>"}}}));
  EXPECT_EQ(dialogue_.obstacle(), "its memory is encrypted and stays where it is (sev-guest)");
}

TEST_F(DialogueTest, ATargetGoesOutInWholePages) {
  EXPECT_EQ(target_command(300 * kMiB).arguments.at("value"), (300 * kMiB).count());
  EXPECT_EQ(granted_target(300 * kMiB + Bytes{1}), 300 * kMiB + kPageSize) << "no less than was granted";
}

TEST_F(DialogueTest, StatisticsAreAsLateInTheirSecondAsTheyCanBe) {
  Statistics statistics;
  statistics.updated_at = 100s;
  statistics.available = Bytes{7};
  const auto time = [&](WallTime seen) {
    return sample_of(statistics, Bytes{9}, seen).sampled_at.value().time_since_epoch();
  };
  EXPECT_EQ(time(WallTime(100'400ms)), 100'400ms);
  EXPECT_EQ(time(WallTime(130s)), 100'999ms);
  EXPECT_EQ(time(WallTime(90s)), 100s) << "the clock was set back";
  EXPECT_EQ(sample_of(statistics, Bytes{9}, WallTime(100s)).available, Bytes{7});
  EXPECT_EQ(sample_of(statistics, Bytes{9}, WallTime(100s)).actual, Bytes{9});
}

TEST_F(DialogueTest, MemoryThatIsLockedOrInHugePagesIsLeftAlone) {
  come_up();
  dialogue_.take(ProcessMemory{.resident = 90 * kMiB, .locked = 64 * kKiB});
  EXPECT_EQ(dialogue_.obstacle(), "") << "some of QEMU's own is no guest's memory";
  dialogue_.take(ProcessMemory{.resident = 700 * kMiB, .locked = 640 * kMiB});
  EXPECT_EQ(dialogue_.obstacle(), "its memory is locked");
  dialogue_.take(ProcessMemory{});
  EXPECT_EQ(dialogue_.obstacle(), "its memory is locked") << "a process that ends has nothing any more";
  dialogue_.take(ProcessMemory{.resident = 700 * kMiB, .pinned = 640 * kMiB});
  EXPECT_EQ(dialogue_.obstacle(), "its memory is pinned for a device of the host");
  dialogue_.take(ProcessMemory{.resident = 700 * kMiB});
  EXPECT_EQ(dialogue_.obstacle(), "") << "the device was unplugged";
  dialogue_.take(ProcessMemory{.resident = 300 * kMiB, .huge = 200 * kMiB});
  EXPECT_EQ(dialogue_.obstacle(), "its memory is in huge pages of the host");
  dialogue_.take(ProcessMemory{.resident = 600 * kMiB, .huge = 200 * kMiB});
  EXPECT_EQ(dialogue_.obstacle(), "its memory is in huge pages of the host");
}

}  // namespace
}  // namespace balloon::daemon::qmp

// SPDX-License-Identifier: Apache-2.0
// What becomes of requests that the image cannot do: as werror and rerror say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <mutex>
#include <vector>

#include "tests/integration/small_filesystem.h"
#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/block_fixture.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Action = IoFailure::Action;

constexpr Bytes kRoom = 2 * kMiB;
constexpr std::uint64_t kImage = 1_MiB;

class BlockErrorsTest : public BlockTest {
 protected:
  BlockErrorsTest() : filesystem_(mount_point(), kRoom) {
    path_ = filesystem_.file("disk");
    std::ofstream(path_).close();
    std::filesystem::resize_file(path_, kImage);  // all of it a hole
    filesystem_.fill();
  }
  ~BlockErrorsTest() override {
    driver_.reset();
    block_.reset();
  }
  std::string mount_point() {
    std::string path = directory_ / "small";
    std::filesystem::create_directory(path);
    return path;
  }
  void start_with(ErrorPolicy write, ErrorPolicy read = ErrorPolicy::report) {
    start({.path = path_, .write_errors = write, .read_errors = read});
    block_->observe([this](const IoFailure& failure) {
      const std::lock_guard lock(mutex_);
      failures_.push_back(failure);
    });
  }
  std::vector<IoFailure> failures() {
    const std::lock_guard lock(mutex_);
    return failures_;
  }
  /// Makes a write available and waits until it has failed and is held.
  void write_and_wait() {
    status_ = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(kOut, 8)).readable(data_).writable_at(status_, 1);
    builder.submit();
    driver_->kick(0);
    ASSERT_TRUE(eventually([this] { return block_->holds_failed(); }));
  }

  balloon::test::SmallFilesystem filesystem_;
  const std::vector<std::byte> data_ = pattern(4096, 5);
  GuestAddress status_ = 0;
  std::mutex mutex_;
  std::vector<IoFailure> failures_;
};

TEST_F(BlockErrorsTest, AFullDiskIsReportedToTheGuestAndToTheObserver) {
  start_with(ErrorPolicy::report);
  EXPECT_EQ(write(8, data_).status, kIoError);
  EXPECT_EQ(block_->status(), IoStatus::no_space);
  EXPECT_FALSE(block_->holds_failed());
  EXPECT_EQ(block_->counters().writes, 1U);
  EXPECT_EQ(block_->counters().failed, 1U);
  ASSERT_THAT(failures(), SizeIs(1));
  EXPECT_TRUE(failures()[0].write);
  EXPECT_TRUE(failures()[0].no_space);
  EXPECT_EQ(failures()[0].action, Action::report);
  EXPECT_THAT(failures()[0].reason, HasSubstr("No space left on device"));
}

TEST_F(BlockErrorsTest, WhatFailsAgainAndAgainIsToldOfOnce) {
  start_with(ErrorPolicy::report);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(write(8, data_).status, kIoError);
  EXPECT_THAT(failures(), SizeIs(1));
}

TEST_F(BlockErrorsTest, AWriteThatStopsTheGuestIsDoneOnceThereIsRoom) {
  start_with(ErrorPolicy::enospc);
  write_and_wait();
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kUntouched) << "the guest waits";
  ASSERT_THAT(failures(), SizeIs(1));
  EXPECT_EQ(failures()[0].action, Action::stop);
  block_->go_on_after_failure();  // too early
  ASSERT_TRUE(eventually([this] { return failures().size() == 2 && block_->holds_failed(); }));
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kUntouched);
  filesystem_.make_room();
  block_->go_on_after_failure();
  ASSERT_TRUE(eventually([this] { return queue().pop_used().has_value(); }));
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kOk);
  EXPECT_EQ(block_->status(), IoStatus::ok);
  EXPECT_FALSE(block_->holds_failed());
  EXPECT_EQ(image(8, data_.size()), data_);
}

TEST_F(BlockErrorsTest, EachWriteThatStopsTheGuestIsToldOf) {
  start_with(ErrorPolicy::enospc);
  write_and_wait();
  ChainBuilder(queue()).readable(header(kOut, 16)).readable(data_).writable(1).submit();
  driver_->kick(0);
  EXPECT_TRUE(eventually([this] { return failures().size() == 2; }));
  EXPECT_EQ(failures()[1].action, Action::stop);
  filesystem_.make_room();
  block_->go_on_after_failure();
  EXPECT_TRUE(eventually([this] { return queue().used_index() == 2; })) << "both are done then";
}

TEST_F(BlockErrorsTest, AnErrorThatIsReportedLeavesWhatStoppedTheGuestWaiting) {
  start_with(ErrorPolicy::enospc);
  write_and_wait();
  std::filesystem::resize_file(path_, 0);
  EXPECT_EQ(request(kIn, 8, 4096).status, kIoError);
  EXPECT_TRUE(block_->holds_failed());
}

TEST_F(BlockErrorsTest, OnAFullDiskAQcow2ImageStaysWhole) {
  filesystem_.make_room();
  std::filesystem::remove(path_);
  make_image("-f qcow2 " + path_ + " 1M");
  filesystem_.fill();
  start({.path = path_, .format = BlockFormat::qcow2, .write_errors = ErrorPolicy::stop});
  write_and_wait();
  {
    const std::lock_guard lock(block_->mutex());
    block_->settle();  // as a pause does: tables cannot be written either
  }
  filesystem_.make_room();
  block_->go_on_after_failure();
  ASSERT_TRUE(eventually([this] { return queue().pop_used().has_value(); }));
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kOk);
  EXPECT_EQ(request(kFlush, 0, 0).status, kOk) << "what could not be flushed before is not lost";
  driver_.reset();
  block_.reset();
  EXPECT_EQ(qemu_img("check " + path_).status, 0);
}

TEST_F(BlockErrorsTest, IgnoredErrorsAreSuccessesForTheGuest) {
  start_with(ErrorPolicy::ignore, ErrorPolicy::ignore);
  EXPECT_EQ(write(8, data_).status, kOk);
  EXPECT_EQ(failures().at(0).action, Action::ignore);
}

TEST_F(BlockErrorsTest, ReadsHaveAPolicyOfTheirOwn) {
  start_with(ErrorPolicy::report, ErrorPolicy::ignore);
  std::filesystem::resize_file(path_, 0);
  EXPECT_EQ(request(kIn, 8, 4096).status, kOk);
  EXPECT_EQ(failures().at(0).action, Action::ignore);
}

TEST_F(BlockErrorsTest, WhatFailsAgainAfterTheGuestWentOnIsToldOfAgain) {
  start_with(ErrorPolicy::report);
  EXPECT_EQ(write(8, data_).status, kIoError);
  block_->go_on_after_failure();
  EXPECT_EQ(block_->status(), IoStatus::ok);
  EXPECT_EQ(write(8, data_).status, kIoError);
  EXPECT_THAT(failures(), SizeIs(2));
}

TEST_F(BlockErrorsTest, AQueueThatTheDriverTakesBackForgetsWhatWaitsOfItAndNothingElse) {
  start({.path = path_, .write_errors = ErrorPolicy::stop, .queues = 2});
  write_and_wait();
  driver_->reset_queue(1);
  EXPECT_TRUE(block_->holds_failed());
  driver_->reset_queue(0);
  EXPECT_FALSE(block_->holds_failed());
  EXPECT_EQ(block_->counters().failed, 0U) << "the guest was told of no failure";
  filesystem_.make_room();
  block_->go_on_after_failure();
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kUntouched) << "its buffers are no longer ours";
  driver_->restart_queue(0);
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
}

TEST_F(BlockErrorsTest, OtherErrorsThanAFullDiskAreReportedWhereOnlyThatOneStops) {
  start_with(ErrorPolicy::enospc);
  std::filesystem::resize_file(path_, 0);
  EXPECT_EQ(request(kIn, 8, 4096).status, kIoError);
  EXPECT_EQ(block_->status(), IoStatus::failed);
  EXPECT_FALSE(failures().at(0).write);
  EXPECT_FALSE(failures().at(0).no_space);
}

TEST_F(BlockErrorsTest, AResetForgetsWhatWaits) {
  start_with(ErrorPolicy::stop);
  write_and_wait();
  {
    const std::lock_guard lock(block_->mutex());
    block_->reset();
  }
  EXPECT_FALSE(block_->holds_failed());
  filesystem_.make_room();
  block_->go_on_after_failure();
  EXPECT_EQ(*memory_.read<std::uint8_t>(status_), kUntouched) << "its rings are no longer ours";
}

}  // namespace
}  // namespace balloon::vmm::test

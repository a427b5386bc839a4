// SPDX-License-Identifier: Apache-2.0
// The balloon on every kind of guest memory: what leaves the guest comes back to the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>
#include <numeric>
#include <sstream>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"
#include "tests/unit/vmm/memory/lent_pool.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr std::uint32_t kHugePages = 512;  // pages of 4 KiB in a huge one

GuestMemory memory_of(Bytes size, const MemoryBacking& backing) {
  auto memory = GuestMemory::create(size, backing);
  if (!memory) throw std::runtime_error(memory.error().message);
  return std::move(*memory);
}
std::vector<std::uint32_t> run(std::uint32_t pfn, std::uint32_t count) {
  std::vector<std::uint32_t> pfns(count);
  std::iota(pfns.begin(), pfns.end(), pfn);
  return pfns;
}

/// What the host holds of this process: private pages and shared ones.
Bytes resident_set() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * kKiB;
  }
  throw std::runtime_error("no VmRSS");
}

struct Kind {
  const char* name;
  MemoryBacking backing;
};
class EachKind : public BalloonTest, public ::testing::WithParamInterface<Kind> {
 protected:
  EachKind() : BalloonTest(memory_of(128 * kMiB, GetParam().backing)) {}
};

TEST_P(EachKind, TheProcessShrinksByWhatTheCountersSayWithinTwoPercent) {
  start({}, kGather);
  touch(kVictim, 64 * 256);
  const Bytes before = resident_set();
  // 256 at a time and downwards, as Linux does; a fifth of them was never touched.
  for (std::uint32_t chain = 80; chain-- > 0;) send(kInflate, run(kVictim + chain * 256, 256));
  const Bytes fell = before - resident_set();
  const BalloonCounters counters = balloon_->counters();
  EXPECT_EQ(counters.inflated, 80 * kMiB);
  EXPECT_EQ(counters.freed, GetParam().backing.preallocate ? 80 * kMiB : 64 * kMiB);
  EXPECT_NEAR(static_cast<double>(fell), static_cast<double>(counters.freed),
              0.02 * static_cast<double>(64 * kMiB));
  EXPECT_EQ(counters.releases, 10U) << "one call for 8 MiB";
  EXPECT_GT(counters.release_time.count(), 0);
}

TEST_P(EachKind, ReleasedPagesReadAsZerosAndCanBeUsedAgain) {
  start();
  touch(kVictim, 4);
  EXPECT_EQ(send(kInflate, {kVictim + 1}), 0U);
  EXPECT_TRUE(is_zero(kVictim + 1));
  EXPECT_TRUE(is_patterned(kVictim) && is_patterned(kVictim + 2));
  EXPECT_EQ(send(kDeflate, {kVictim + 1}), 0U);
  touch(kVictim + 1, 1);
  EXPECT_TRUE(is_patterned(kVictim + 1));
}

INSTANTIATE_TEST_SUITE_P(
    All, EachKind,
    ::testing::Values(Kind{"anonymous", {}}, Kind{"small_pages", {.huge_pages = HugePages::off}},
                      Kind{"memfd", {.shared = true}},
                      Kind{"memfd_small_pages", {.huge_pages = HugePages::off, .shared = true}},
                      Kind{"merged", {.merge = true}}, Kind{"reserved", {.reserve = true}},
                      Kind{"preallocated", {.preallocate = true}}),
    [](const auto& kind) { return std::string(kind.param.name); });

class SharedMemory : public BalloonTest {
 protected:
  SharedMemory() : BalloonTest(memory_of(64 * kMiB, {.shared = true})) {}
  Bytes in_file() {
    struct stat file;
    ::fstat(memory_.regions()[0].file.get(), &file);
    return static_cast<Bytes>(file.st_blocks) * 512;
  }
};

TEST_F(SharedMemory, TheFileItselfIsFreedNotOnlyThisProcesssView) {  // Firecracker #6167
  start();
  touch(kVictim, 4 * kHugePages);
  const Bytes before = in_file();
  EXPECT_EQ(send(kInflate, run(kVictim, 4 * kHugePages)), 0U);
  constexpr double kPfnArray = 4 * kHugePages * sizeof(std::uint32_t) + kPageSize;  // new in the guest
  EXPECT_NEAR(static_cast<double>(before - in_file()), 4.0 * kHugePageSize, kPfnArray);
}

// Above 4 GiB

class LargeGuest : public BalloonTest {
 protected:
  LargeGuest() : BalloonTest(make_memory(6 * kGiB)) {}
  static constexpr std::uint32_t kHole = 3_GiB / kPageSize;
  static constexpr std::uint32_t kHigh = 4_GiB / kPageSize;
  static constexpr std::uint32_t kEnd = 7_GiB / kPageSize;
};

TEST_F(LargeGuest, PagesAbove4GiBAreReleasedWhereTheyLie) {  // kvmtool c818344 multiplied in 32 bits
  start();
  const std::uint32_t pfn = kHigh + kVictim;
  touch(pfn, 2);
  touch(kVictim, 2);  // the same PFN, cut to 20 bits
  EXPECT_EQ(send(kInflate, {pfn}), 0U);
  EXPECT_TRUE(is_zero(pfn));
  EXPECT_TRUE(is_patterned(pfn + 1) && is_patterned(kVictim));
}

TEST_F(LargeGuest, APageInThePciHoleIsIgnored) {  // virtio-villain L0033: pfn_in_bar
  start();
  touch(kHole - 1, 1);
  touch(kHigh, 1);
  EXPECT_EQ(send(kInflate, {kHole, kHole + 1, 0xc0000, 0xfec00, 0xfee00, kHigh - 1}), 0U);
  EXPECT_EQ(balloon_->counters().pages_refused, 5U) << "0xc0000 is the hole's first page again";
  EXPECT_TRUE(is_patterned(kHole - 1) && is_patterned(kHigh));
}

TEST_F(LargeGuest, ARunAcrossTheHoleIsReleasedOnBothSides) {
  start();
  touch(kHole - 2, 2);
  touch(kHigh, 2);
  std::vector<std::uint32_t> pfns = run(kHole - 2, 4);
  for (const std::uint32_t pfn : run(kHigh - 2, 4)) pfns.push_back(pfn);
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_TRUE(is_zero(kHole - 1) && is_zero(kHigh) && is_zero(kHigh + 1));
  EXPECT_EQ(balloon_->counters().inflated, 4 * balloon::kPageSize);
  EXPECT_EQ(balloon_->counters().pages_refused, 4U);
}

TEST_F(LargeGuest, TheLastPageIsReleasedAndTheNextIsNot) {
  start();
  touch(kEnd - 1, 1);
  EXPECT_EQ(send(kInflate, {kEnd - 1, kEnd}), 0U);
  EXPECT_TRUE(is_zero(kEnd - 1));
  EXPECT_EQ(balloon_->counters().pages_refused, 1U);
}

TEST_F(LargeGuest, ItsTargetAndSizeAreCountedWithoutTheHole) {
  start();
  ASSERT_TRUE(balloon_->set_target(2 * kGiB));
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 4_GiB / kPageSize);
  driver_->write_config<std::uint32_t>(kActual, 4_GiB / kPageSize);
  EXPECT_EQ(balloon_->state().actual, 2 * kGiB);
}

// A pool of huge pages

constexpr int kPoolPages = 16;

struct WithPool {
  LentPool pool_{kPoolPages};
};

// The pool is the first base: it is given back to the next test only when the guest's memory has left it.
class PoolTest : protected WithPool, public BalloonTest {
 protected:
  PoolTest()
      : BalloonTest(memory_of(Bytes{kPoolPages * kHugePageSize}, {.huge_pages = HugePages::two_mib})) {}
  /// In the pool, and not in the fake driver's way.
  static constexpr std::uint32_t kPage = 24_MiB / kPageSize;
};

TEST_F(PoolTest, OnlyWholeHugePagesLeaveAndPartsCountAsTheGuests) {
  start({}, kGather);
  touch(kPage, kHugePages);
  EXPECT_EQ(send(kInflate, run(kPage + 1, kHugePages - 1)), 0U);
  driver_->write_config<std::uint32_t>(kActual, kHugePages - 1);
  EXPECT_TRUE(is_patterned(kPage)) << "a page of 2 MiB cannot be taken apart";
  EXPECT_EQ(resident(kPage, kHugePages), kHugePages);
  EXPECT_EQ(balloon_->state().actual, memory_.size()) << "the host has nothing of it yet";
  EXPECT_EQ(send(kInflate, {kPage}), 0U);
  driver_->write_config<std::uint32_t>(kActual, kHugePages);
  EXPECT_EQ(resident(kPage, kHugePages), 0U);
  EXPECT_EQ(balloon_->state().actual, memory_.size() - Bytes{kHugePageSize});
  EXPECT_EQ(balloon_->counters().freed, Bytes{kHugePageSize});
}

TEST_F(PoolTest, APartThatTheGuestTakesBackKeepsItsHugePage) {
  start({}, kGather);
  touch(kPage, kHugePages);
  EXPECT_EQ(send(kInflate, run(kPage, 256)), 0U);
  EXPECT_EQ(send(kDeflate, {kPage + 7}), 0U);
  touch(kPage + 7, 1);
  EXPECT_EQ(send(kInflate, run(kPage + 256, 256)), 0U);
  EXPECT_TRUE(is_patterned(kPage + 7));
}

TEST_F(PoolTest, PartsOfADriverThatTellsNobodyWhatItTakesBackAreNotAddedUp) {
  start({}, kAtOnce);
  touch(kPage, kHugePages);
  EXPECT_EQ(send(kInflate, run(kPage, 256)), 0U);
  EXPECT_EQ(send(kInflate, run(kPage + 256, 256)), 0U);
  EXPECT_TRUE(is_patterned(kPage)) << "the first half may be in use again";
  EXPECT_EQ(send(kInflate, run(kPage, kHugePages)), 0U);
  EXPECT_TRUE(is_zero(kPage));
}

TEST_F(PoolTest, PagesOutsideItsRamAreNotRemembered) {  // not a bit for each: they would pile up for ever
  start({}, kGather);
  const std::uint32_t end = static_cast<std::uint32_t>(memory_.size() / balloon::kPageSize);
  for (std::uint32_t chain = 0; chain < 4; ++chain)
    EXPECT_EQ(send(kInflate, run(end + chain * 511, 511)), 0U);
  EXPECT_EQ(balloon_->counters().pages_refused, 4 * 511U);
  EXPECT_EQ(balloon_->state().actual, memory_.size());
}

TEST_F(PoolTest, AReportReleasesItsWholeHugePagesOnly) {
  start({}, kGather);
  touch(kPage, kHugePages);
  touch(kPage + kHugePages, kHugePages);
  ChainBuilder(queue(kReporting))
      .writable_at(kPage * kPageSize, static_cast<std::uint32_t>(kHugePageSize + 1_MiB))
      .submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_EQ(resident(kPage, kHugePages), 0U);
  EXPECT_TRUE(is_patterned(kPage + kHugePages));
  EXPECT_EQ(balloon_->counters().reported, Bytes{kHugePageSize});
}

TEST_F(PoolTest, AGuestThatWantsItsMemoryBackFromAnEmptyPoolWaitsForIt) {  // else it would die of SIGBUS
  start({}, kGather);
  touch(kPage, kHugePages);
  EXPECT_EQ(send(kInflate, run(kPage, kHugePages)), 0U);
  pool_.set(0);  // somebody else took it
  ChainBuilder(queue(kDeflate)).readable_values(run(kPage, 4)).submit();
  driver_->kick(kDeflate);
  pass(3 * Balloon::kPoolRetry);
  EXPECT_FALSE(queue(kDeflate).pop_used());
  EXPECT_EQ(balloon_->counters().deflates_delayed, 1U);
  pool_.set(kPoolPages);
  EXPECT_TRUE(eventually([&] { return queue(kDeflate).pop_used().has_value(); }));
  touch(kPage, 4);
  EXPECT_TRUE(is_patterned(kPage));
}

TEST_F(PoolTest, AResetForgetsAGuestThatWaits) {
  start({}, kGather);
  EXPECT_EQ(send(kInflate, run(kPage, kHugePages)), 0U);
  pool_.set(0);
  ChainBuilder(queue(kDeflate)).readable_values(run(kPage, 4)).submit();
  driver_->kick(kDeflate);
  const auto used = queue(kDeflate).used_index();
  driver_->reset();
  pool_.set(kPoolPages);
  pass(2 * Balloon::kPoolRetry);
  EXPECT_EQ(queue(kDeflate).used_index(), used) << "nothing is written to the rings of an old life";
}

TEST_F(PoolTest, ItsFreePagesAreNotHinted) {
  start({.free_page_hinting = true}, kGather);
  std::string why;
  balloon_->drop_free_pages([&](const Result<Bytes>& done) { why = done ? "" : done.error().message; });
  settle();
  EXPECT_THAT(why, HasSubstr("not with pages of a pool"));
}

}  // namespace
}  // namespace balloon::vmm

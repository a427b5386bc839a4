// SPDX-License-Identifier: Apache-2.0
// qcow2 images that were made to harm: whatever their tables say, a guest reads and writes its own data, and
// never the image's tables; nor does an image choose which files of the host its guest reads.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/disk_fixture.h"
#include "vmm/devices/block/qcow2_image.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr std::uint64_t kCluster = 65536;

/// A sound image of one cluster of data, whose tables a test changes.
class Qcow2ForgedTest : public ::testing::Test {
 protected:
  void SetUp() override { make(""); }
  void make(const std::string& options) {
    make_image("-f qcow2 " + options + path_ + " 8M");
    TestDisk(config()).write(0, noise(kCluster, 1)).value();
    bytes_ = content_of(path_);
    // Room that no table knows of, for forged ones.
    bytes_.resize(64 * kCluster);
    l1_ = at(40);
    refcount_table_ = at(48);
    refcount_block_ = at(refcount_table_);
    l2_ = at(l1_) & qcow2::kOffsetMask;
  }
  BlockConfig config(bool read_only = false) const {
    return {.path = path_, .read_only = read_only, .format = BlockFormat::qcow2};
  }
  std::uint64_t at(std::uint64_t offset) const { return load_be64(bytes_.data() + offset); }
  void put(std::uint64_t offset, std::uint64_t value) { store_be64(bytes_.data() + offset, value); }
  /// Sets the count (of 16 bits) of the cluster at `offset`.
  void count(std::uint64_t offset, std::uint8_t references) {
    bytes_[refcount_block_ + offset / kCluster * 2] = std::byte{0};
    bytes_[refcount_block_ + offset / kCluster * 2 + 1] = std::byte{references};
  }
  void save() const { write_file(path_, bytes_); }
  /// Everything that a guest can do, where the forged tables lead and a little beyond.
  static void do_everything(TestDisk& disk) {
    std::vector<std::byte> sector(512);
    for (std::uint64_t offset = 0; offset < 20 * kCluster; offset += kCluster) {
      (void)disk.read(offset, sector);
      (void)disk.write(offset + 512, noise(512, offset));
      (void)disk.discard(offset, kCluster);
      (void)disk.write(offset, noise(2 * kCluster, offset));
      (void)disk.zero(offset, kCluster);
      (void)disk.write(offset, noise(kCluster, offset));
    }
    (void)disk.flush();
    (void)disk.disk().settle();
  }
  /// Whether the file still has, at `offset`, the bytes that the test made.
  ::testing::AssertionResult is_untouched(std::uint64_t offset, std::size_t size = kCluster) const {
    const auto now = content_of(path_);
    return same(std::span(now).subspan(offset, size), std::span(bytes_).subspan(offset, size));
  }
  /// The header, apart from what says where the refcount table is.
  ::testing::AssertionResult header_is_untouched() const {
    std::vector<std::byte> now(kCluster);  // the file may be as long as a forged table makes it
    std::ifstream(path_, std::ios::binary).read(reinterpret_cast<char*>(now.data()), kCluster);
    for (const auto& [from, to] : {std::pair{0UL, 48UL}, std::pair{60UL, kCluster}}) {
      auto equal = same(std::span(now).subspan(from, to - from), std::span(bytes_).subspan(from, to - from));
      if (!equal) return equal;
    }
    return ::testing::AssertionSuccess();
  }

  Directory directory_;
  std::string path_ = directory_ / "disk.qcow2";
  std::vector<std::byte> bytes_;
  std::uint64_t l1_ = 0, l2_ = 0, refcount_table_ = 0, refcount_block_ = 0;
};

TEST_F(Qcow2ForgedTest, TablesThatAreNotCountedAreNotWrittenTo) {
  for (const auto& [table, text] : {std::pair<std::uint64_t, const char*>{0, "header"},
                                    {l1_, "L1 table"},
                                    {refcount_table_, "refcount table"}}) {
    count(table, 0);
    save();
    EXPECT_THAT(refusal(config()), HasSubstr(std::string("its ") + text + " at"));
    EXPECT_THAT(refusal(config()), HasSubstr("qemu-img check -r all")) << "the remedy";
    EXPECT_EQ(refusal(config(true)), "") << "it may be read";
    count(table, 1);
  }
}

TEST_F(Qcow2ForgedTest, ATableIsNeverHandedOutAsRoomForData) {
  for (const std::uint64_t table : {l2_, refcount_block_}) {
    count(table, 0);
    save();
    TestDisk disk(config());
    const auto done = disk.write(1_MiB, noise(kCluster, 2));
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().message, HasSubstr("holds a table, but is not counted"));
    EXPECT_TRUE(is_untouched(table));
    EXPECT_TRUE(disk.write(512, noise(512, 3))) << "what has its place is written";
    count(table, 1);
  }
}

TEST_F(Qcow2ForgedTest, ABlockOfCountsIsNotMadeWhereTheHeaderIs) {
  put(refcount_table_, 0);  // nothing is counted
  save();
  EXPECT_THAT(refusal(config()), HasSubstr("is not counted"));
  EXPECT_TRUE(is_untouched(0));
}

TEST_F(Qcow2ForgedTest, DataThatLiesOverATableIsNeitherReadNorWrittenNorFreed) {
  for (const std::uint64_t flags : {qcow2::kCopied, std::uint64_t{0}, qcow2::kCopied | qcow2::kZero}) {
    for (const std::uint64_t table : {l1_, l2_, refcount_table_, refcount_block_}) {
      const std::uint64_t before = at(l2_);
      put(l2_, table | flags);
      save();
      TestDisk disk(config());
      std::vector<std::byte> sector(512);
      for (const auto& done :
           {disk.read(0, sector), disk.write(0, noise(512, 2)), disk.write(0, noise(kCluster, 2)),
            disk.zero(0, kCluster), disk.discard(0, kCluster)}) {
        ASSERT_FALSE(done) << table << " " << flags;
        EXPECT_THAT(done.error().message, HasSubstr("data lies over its"));
      }
      EXPECT_TRUE(disk.flush());
      EXPECT_TRUE(is_untouched(table));
      put(l2_, before);
    }
  }
}

TEST_F(Qcow2ForgedTest, CompressedDataThatReachesIntoATableIsRefusedLikewise) {
  // 62 - (16 - 8) = 54 bits of offset; above them sectors, one more.
  put(l2_, qcow2::kCompressed | 3ULL << 54 | (l1_ - 512));
  save();
  TestDisk disk(config());
  const auto done = disk.write(0, noise(kCluster, 2));
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("data lies over its"));
}

TEST_F(Qcow2ForgedTest, TablesThatLieOverOneAnotherAreRefused) {
  const auto forged = bytes_;
  const auto refused = [&](std::uint64_t place, std::uint64_t value) {
    bytes_ = forged;
    put(place, value);
    save();
    return refusal(config());
  };
  EXPECT_THAT(refused(l1_, refcount_block_ | qcow2::kCopied), HasSubstr("lies over its"));
  EXPECT_THAT(refused(l1_, refcount_table_ | qcow2::kCopied), HasSubstr("lies over its"));
  EXPECT_THAT(refused(l1_, l1_ | qcow2::kCopied), HasSubstr("lies over its"));
  EXPECT_THAT(refused(refcount_table_ + 8, refcount_block_), HasSubstr("lies over its"))
      << "the same block twice";
  EXPECT_THAT(refused(refcount_table_ + 8, l2_), HasSubstr("lies over its"));
  EXPECT_THAT(refused(48, l1_), HasSubstr("refcount"));
  EXPECT_THAT(refused(40, refcount_table_), HasSubstr("lies over its"));
}

TEST_F(Qcow2ForgedTest, TheTablesOfSnapshotsAreNoDataEither) {
  ASSERT_EQ(qemu_img("snapshot -c before " + path_).status, 0);
  bytes_ = content_of(path_);
  bytes_.resize(64 * kCluster);
  const std::uint64_t snapshots = at(64), l1_of_snapshot = at(snapshots);
  l2_ = at(l1_) & qcow2::kOffsetMask;
  for (const std::uint64_t table : {snapshots, l1_of_snapshot}) {
    const std::uint64_t before = at(l2_);
    put(l2_, table | qcow2::kCopied);
    save();
    {
      TestDisk disk(config());
      EXPECT_FALSE(disk.write(0, noise(512, 2)));
    }
    EXPECT_TRUE(is_untouched(table));
    put(l2_, before);
  }
  bytes_[snapshots + 12] = std::byte{0xff};  // a longer id: the next entry, if there were one, lies elsewhere
  put(snapshots, refcount_block_);
  save();
  EXPECT_THAT(refusal(config()), HasSubstr("lies over its"));
}

/// The oracle of the whole kind: the header is what leads to other files.
TEST_F(Qcow2ForgedTest, WhateverTheTablesSayTheHeaderStaysAsItIs) {
  const auto sound = bytes_;
  std::mt19937_64 random(2026);
  const auto pick = [&](const std::vector<std::uint64_t>& of) { return of[random() % of.size()]; };
  int opened = 0;
  for (int round = 0; round < 40; ++round) {
    bytes_ = sound;
    const std::vector<std::uint64_t> places{
        0, 0, l1_, l2_, refcount_table_, refcount_block_, 9 * kCluster, 1ULL << 40};
    for (std::uint64_t change = 1 + random() % 5; change > 0; --change) {
      switch (random() % 4) {
        case 0:  // a count
          count(random() % 8 * kCluster, static_cast<std::uint8_t>(random() % 3));
          break;
        case 1:  // where data lies
          put(l2_ + random() % 16 * 8,
              pick(places) | pick({0, qcow2::kCopied, qcow2::kZero, qcow2::kCopied | 1}));
          break;
        case 2:  // where data lies, compressed
          put(l2_ + random() % 16 * 8,
              qcow2::kCompressed | random() % 256 << 54 | (pick(places) + random() % kCluster));
          break;
        default:  // a table
          put(pick({l1_, refcount_table_, refcount_table_ + 8}), pick(places) | pick({0, qcow2::kCopied}));
      }
    }
    save();
    if (refusal(config()).empty()) {
      ++opened;
      TestDisk disk(config());
      do_everything(disk);
    }
    ASSERT_TRUE(header_is_untouched()) << "round " << round;
  }
  EXPECT_GT(opened, 5) << "not all are refused at once";
}

TEST_F(Qcow2ForgedTest, RoomFarAwayInTheFileIsNotSearchedForAtOnceButIsFound) {
  // Clusters of 512 bytes: more of them in use than one search looks at, and a hole behind.
  constexpr std::uint64_t kUsed = 48_MiB, kHole = kUsed - 1_MiB;
  std::filesystem::remove(path_);
  make_image("-f qcow2 -o cluster_size=512 " + path_ + " 64M");
  {
    TestDisk disk(config());
    for (std::uint64_t at = 0; at < kUsed; at += 1_MiB) ASSERT_TRUE(disk.write(at, noise(1_MiB, at)));
    ASSERT_TRUE(disk.discard(kHole, 64 * 512));
  }
  const std::uint64_t before = std::filesystem::file_size(path_);
  TestDisk disk(config());
  ASSERT_TRUE(disk.write(kUsed, noise(512, 1)));
  EXPECT_GT(std::filesystem::file_size(path_), before) << "behind the end";
  for (int i = 1; i < 60; ++i)
    ASSERT_TRUE(disk.write(kUsed + static_cast<std::uint64_t>(i) * 512, noise(512, 1)));
  EXPECT_LT(std::filesystem::file_size(path_), before + 40 * 512) << "and then in the hole";
  ASSERT_TRUE(disk.flush());
}

// Which files an image may name.

class Qcow2BackingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(directory_ / "images");
    write_file(directory_ / "secret", noise(1_MiB, 1));
    write_file(directory_ / "images/base.img", noise(1_MiB, 2));
  }
  /// What happens to an image whose backing file has this name.
  std::string refused(const std::string& name, BackingFiles backing) {
    const std::string path = directory_ / "images/disk.qcow2";
    std::filesystem::remove(path);
    make_image("-u -f qcow2 -b " + name + " -F raw " + path + " 1M");
    return refusal({.path = path, .format = BlockFormat::qcow2, .backing = backing});
  }
  Directory directory_;
};

TEST_F(Qcow2BackingTest, ByDefaultOneInTheImagesOwnDirectoryIsUsedAndNoOther) {
  constexpr BackingFiles kDefault = BlockConfig{}.backing;
  EXPECT_EQ(refused("base.img", kDefault), "");
  EXPECT_EQ(refused(directory_ / "images/base.img", kDefault), "");
  for (const std::string& name :
       {std::string("../secret"), directory_ / "secret", std::string("./../images/../secret")}) {
    EXPECT_THAT(refused(name, kDefault), HasSubstr("not in the image's own directory")) << name;
    EXPECT_THAT(refused(name, kDefault), HasSubstr("backing=any")) << "the remedy";
    EXPECT_EQ(refused(name, BackingFiles::any), "") << name;
  }
}

TEST_F(Qcow2BackingTest, ALinkThatLeadsElsewhereIsElsewhere) {
  std::filesystem::create_symlink(directory_ / "secret", directory_ / "images/link.img");
  EXPECT_THAT(refused("link.img", BackingFiles::same_directory),
              HasSubstr("not in the image's own directory"));
}

TEST_F(Qcow2BackingTest, TheFilesBelowABackingFileAreHeldToTheSame) {
  make_image("-u -f qcow2 -b ../secret -F raw " + (directory_ / "images/middle.qcow2") + " 1M");
  const std::string path = directory_ / "images/disk.qcow2";
  make_image("-u -f qcow2 -b middle.qcow2 -F qcow2 " + path + " 1M");
  EXPECT_THAT(refusal({.path = path}), HasSubstr("not in the image's own directory"));
}

TEST_F(Qcow2BackingTest, TheyCanBeSwitchedOff) {
  EXPECT_THAT(refused("base.img", BackingFiles::off), HasSubstr("backing files are off"));
  EXPECT_THAT(refused("base.img", BackingFiles::off), HasSubstr("backing=same-directory"));
}

}  // namespace
}  // namespace balloon::vmm

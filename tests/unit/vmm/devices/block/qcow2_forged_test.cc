// SPDX-License-Identifier: Apache-2.0
// qcow2 images that were made to harm: whatever their tables say, a guest reads and writes its own data, and
// never the image's tables; nor does an image choose which files of the host its guest reads.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/disk_fixture.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::Each;
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

// What is only read: images that are opened read-only, and backing files.

/// The same image as a disk's own, read-only, and as the backing file of another one, at two depths.
class Qcow2OnlyReadTest : public Qcow2ForgedTest {
 protected:
  void SetUp() override {
    Qcow2ForgedTest::SetUp();
    make_image("-f qcow2 -b disk.qcow2 -F qcow2 " + middle_ + " 8M");
    make_image("-f qcow2 -b middle.qcow2 -F qcow2 " + top_ + " 8M");
  }
  std::vector<BlockConfig> ways_to_read() const {
    return {config(true),
            {.path = middle_, .read_only = true, .format = BlockFormat::qcow2},
            {.path = middle_, .format = BlockFormat::qcow2},
            {.path = top_, .format = BlockFormat::qcow2}};
  }
  /// Has the first cluster of the disk lie at `entry`, and reads of it: why that failed, or what was read.
  std::vector<std::string> what_is_read(std::uint64_t entry) {
    const std::uint64_t before = at(l2_);
    put(l2_, entry);
    save();
    put(l2_, before);
    std::vector<std::string> answers;
    for (const BlockConfig& way : ways_to_read()) {
      TestDisk disk(way);
      std::vector<std::byte> sector(512);
      const auto done = disk.read(1024, sector);
      const bool zeros = std::ranges::all_of(sector, [](std::byte byte) { return byte == std::byte{0}; });
      answers.push_back(!done ? done.error().message : zeros ? "zeros" : "something");
    }
    return answers;
  }
  /// Tables that hold what no guest should see, by name.
  std::vector<std::pair<std::string, std::uint64_t>> tables() const {
    return {{"L1 table", l1_},
            {"L2 table", l2_},
            {"refcount table", refcount_table_},
            {"refcount block", refcount_block_}};
  }

  std::string middle_ = directory_ / "middle.qcow2", top_ = directory_ / "top.qcow2";
};

TEST_F(Qcow2OnlyReadTest, DataThatLiesOverATableIsNotRead) {
  for (const auto& [name, table] : tables()) {
    EXPECT_THAT(what_is_read(table | qcow2::kCopied), Each(HasSubstr("data lies over its " + name)));
    EXPECT_THAT(what_is_read(table), Each(HasSubstr("data lies over its " + name)));
    EXPECT_THAT(what_is_read(table | qcow2::kCompressed), Each(HasSubstr("data lies over its " + name)));
  }
}

TEST_F(Qcow2OnlyReadTest, NoEntryLeadsToTheHeader) {
  EXPECT_THAT(what_is_read(qcow2::kCopied), Each("zeros")) << "an entry without a place";
  EXPECT_THAT(what_is_read(qcow2::kCompressed | 3ULL << 54 | 0x20), Each(HasSubstr("cannot be")));
  EXPECT_THAT(what_is_read(qcow2::kCompressed | 200ULL << 54 | (kCluster - 512)),
              Each(HasSubstr("cannot be")));
}

TEST_F(Qcow2OnlyReadTest, BeyondTheEndOfTheFileThereAreZeros) {
  for (const std::uint64_t place :
       std::vector<std::uint64_t>{64 * kCluster, 1ULL << 40, qcow2::kOffsetMask / kCluster * kCluster})
    EXPECT_THAT(what_is_read(place), Each("zeros")) << place;
}

TEST_F(Qcow2OnlyReadTest, TheTablesOfSnapshotsAreNoDataEither) {
  ASSERT_EQ(qemu_img("snapshot -c before " + path_).status, 0);
  bytes_ = content_of(path_);
  bytes_.resize(64 * kCluster);
  l2_ = at(l1_) & qcow2::kOffsetMask;
  const std::uint64_t snapshots = at(64);
  EXPECT_THAT(what_is_read(snapshots), Each(HasSubstr("data lies over its snapshot table")));
  EXPECT_THAT(what_is_read(at(snapshots)), Each(HasSubstr("data lies over its snapshot's L1 table")));
}

TEST_F(Qcow2OnlyReadTest, OfADamagedImageTheRestCanBeReadAndItsTablesCannot) {
  const auto sound = bytes_;
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> damages{
      {refcount_table_ + 8, refcount_block_},        // one block twice
      {refcount_table_ + 8, l2_},                    // a block over an L2 table
      {refcount_table_ + 16, refcount_block_ + 16},  // a block that begins within a cluster
      {refcount_table_ + 24, ~0ULL},                 // and one nowhere
      {64, 20 * kCluster + 512}};                    // a snapshot table that does
  for (const auto& [place, value] : damages) {
    bytes_ = sound;
    put(place, value);
    if (place == 64) bytes_[63] = std::byte{1};  // one snapshot
    save();
    EXPECT_THAT(refusal(config()), HasSubstr("is damaged")) << place;
    EXPECT_THAT(what_is_read(at(l2_)), Each("something")) << place;
    for (const auto& [name, table] : tables())
      EXPECT_THAT(what_is_read(table), Each(HasSubstr("data lies over its "))) << name << ", " << place;
  }
}

TEST_F(Qcow2OnlyReadTest, OfSnapshotsOfWhichOneCannotBeTheTablesOfTheOthersAreNoData) {
  ASSERT_EQ(qemu_img("snapshot -c first " + path_).status, 0);
  ASSERT_EQ(qemu_img("snapshot -c second " + path_).status, 0);
  bytes_ = content_of(path_);
  bytes_.resize(64 * kCluster);
  l2_ = at(l1_) & qcow2::kOffsetMask;
  const std::uint64_t first = at(64), l1_of_first = at(first);
  const std::uint64_t lengths = at(first + 12) >> 32, extra = at(first + 36) >> 32;
  const std::uint64_t second = first + (40 + extra + (lengths >> 16) + (lengths & 0xffff) + 7) / 8 * 8;
  put(second, at(second) + 1);  // no cluster's start
  save();
  EXPECT_THAT(refusal(config()), HasSubstr("its snapshot 1 cannot be"));
  EXPECT_THAT(what_is_read(at(l2_)), Each("something"));
  EXPECT_THAT(what_is_read(first), Each(HasSubstr("data lies over its snapshot table")));
  EXPECT_THAT(what_is_read(l1_of_first), Each(HasSubstr("data lies over its snapshot's L1 table")));
}

TEST_F(Qcow2OnlyReadTest, AWriteOverWhatLiesOverATableCopiesNothingOfIt) {
  put(l2_, l1_);
  save();
  TestDisk disk({.path = top_, .format = BlockFormat::qcow2});
  EXPECT_FALSE(disk.write(512, noise(512, 2))) << "the rest of the cluster would be a table";
  EXPECT_TRUE(disk.write(0, noise(kCluster, 3)));
  EXPECT_TRUE(same(disk.read(0, kCluster), noise(kCluster, 3)));
}

/// The oracle of the whole kind: nothing that is read is what a table has.
TEST_F(Qcow2OnlyReadTest, WhateverTheTablesSayNothingOfThemIsRead) {
  const auto sound = bytes_;
  std::mt19937_64 random(2026);
  const auto pick = [&](const std::vector<std::uint64_t>& of) { return of[random() % of.size()]; };
  int opened = 0, refused = 0;
  for (int round = 0; round < 40; ++round) {
    bytes_ = sound;
    const std::vector<std::uint64_t> places{
        0, l1_, l2_, refcount_table_, refcount_block_, 9 * kCluster, 63 * kCluster, 1ULL << 40};
    for (std::uint64_t change = 2 + random() % 6; change > 0; --change) {
      if (random() % 3 != 0) {
        put(l2_ + random() % 16 * 8, pick(places) | pick({0, qcow2::kCopied}));
      } else {
        put(pick({l1_, refcount_table_, refcount_table_ + 8}), pick(places) | pick({0, qcow2::kCopied}));
      }
    }
    save();
    // What the tables in use have: sectors that are not all zeros.
    std::vector<std::uint64_t> in_use{
        0, l1_, refcount_table_, at(l1_) & qcow2::kOffsetMask, at(refcount_table_), at(refcount_table_ + 8)};
    std::vector<std::vector<std::byte>> secrets;
    for (const std::uint64_t table : in_use) {
      for (std::uint64_t place = table; place < table + kCluster && place < bytes_.size(); place += 512) {
        const auto sector = std::span(bytes_).subspan(place, 512);
        if (std::ranges::any_of(sector, [](std::byte byte) { return byte != std::byte{0}; }))
          secrets.emplace_back(sector.begin(), sector.end());
      }
    }
    for (const BlockConfig& way : ways_to_read()) {
      if (!refusal(way).empty()) continue;
      ++opened;
      TestDisk disk(way);
      for (std::uint64_t offset = 0; offset < 16 * kCluster; offset += kCluster) {
        std::vector<std::byte> cluster(kCluster);
        if (!disk.read(offset, cluster)) {
          ++refused;
          continue;
        }
        for (std::uint64_t place = 0; place < kCluster; place += 512) {
          const auto sector = std::span(cluster).subspan(place, 512);
          ASSERT_TRUE(std::ranges::none_of(
              secrets, [&](const auto& secret) { return std::ranges::equal(sector, secret); }))
              << "round " << round << ", byte " << offset + place;
        }
      }
    }
  }
  EXPECT_GT(opened, 80);
  EXPECT_GT(refused, 40) << "entries led to tables";
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

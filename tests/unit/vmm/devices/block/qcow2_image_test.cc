// SPDX-License-Identifier: Apache-2.0
// qcow2 images with a past: backing files, snapshots, compressed clusters; made and judged by qemu-img.
#include "vmm/devices/block/qcow2_image.h"

#include <sys/mman.h>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/disk_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr std::uint64_t kSize = 8_MiB;

class Qcow2ImageTest : public ::testing::Test {
 protected:
  void expect_clean(const std::string& path) {
    const Said check = qemu_img("check " + path);
    EXPECT_EQ(check.status, 0) << check.text;
  }
  BlockConfig config(const std::string& path, bool read_only = false) {
    return {.path = path, .read_only = read_only, .format = BlockFormat::qcow2, .backing = BackingFiles::any};
  }
  /// A raw file of noise, the later half zeros.
  std::vector<std::byte> write_base(const std::string& path, std::uint64_t size = kSize) {
    auto content = noise(size, 77);
    std::fill(content.begin() + static_cast<std::ptrdiff_t>(size / 2), content.end(), std::byte{0});
    write_file(path, content);
    return content;
  }

  Directory directory_;
  std::string path_ = directory_ / "disk.qcow2";
};

TEST_F(Qcow2ImageTest, ABackingFileShowsThroughAndIsNeverWritten) {
  std::filesystem::create_directory(directory_ / "base");
  const auto base = write_base(directory_ / "base/base.img");
  // Relative names are relative to the image, wherever the VMM runs.
  make_image("-f qcow2 -b base/base.img -F raw " + path_ + " 8M");
  auto model = base;
  {
    TestDisk disk(config(path_));
    ASSERT_TRUE(same(disk.read(0, kSize), base));
    ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 300, 5));
    EXPECT_TRUE(same(disk.read(0, kSize), model));
  }
  expect_clean(path_);
  EXPECT_TRUE(same(converted(path_, "qcow2"), model));
  EXPECT_TRUE(same(content_of(directory_ / "base/base.img"), base));
}

TEST_F(Qcow2ImageTest, AnImageTellsWhatItIsAndWhatLiesBelowIt) {
  std::filesystem::create_directory(directory_ / "base");
  write_base(directory_ / "base/base.img");
  make_image("-f qcow2 -b base/base.img -F raw " + path_ + " 8M");
  const auto image = open_image(config(path_, /*read_only=*/true));
  ASSERT_TRUE(image) << image.error().message;
  const ImageInfo info = (*image)->info();
  EXPECT_EQ(info.format, "qcow2");
  EXPECT_EQ(info.virtual_size, 8 * kMiB);
  EXPECT_EQ(info.cluster_size, 64 * kKiB);
  EXPECT_EQ(info.version, 3U);
  EXPECT_EQ(info.refcount_bits, 16U);
  EXPECT_GT(info.allocated, Bytes{0});
  EXPECT_LT(info.allocated, kMiB);
  EXPECT_EQ(info.backing_name, "base/base.img");
  ASSERT_TRUE(info.backing);
  EXPECT_EQ(info.backing->path, (directory_ / "base/base.img"));
  EXPECT_EQ(info.backing->format, "raw");
  EXPECT_FALSE(info.backing->backing);
}

TEST_F(Qcow2ImageTest, AVersion2ImageOnABackingFileTakesZeroesToo) {
  const auto base = write_base(directory_ / "base.img");
  make_image("-f qcow2 -o compat=0.10 -b base.img -F raw " + path_ + " 8M");
  auto model = base;
  {
    TestDisk disk(config(path_));
    ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 300, 6));
    ASSERT_TRUE(disk.zero(0, 1_MiB));
    std::fill_n(model.begin(), 1_MiB, std::byte{0});
    EXPECT_TRUE(same(disk.read(0, kSize), model));
  }
  expect_clean(path_);
  EXPECT_TRUE(same(converted(path_, "qcow2"), model));
}

TEST_F(Qcow2ImageTest, ABackingFileThatEndsEarlierGoesOnAsZeros) {
  const auto base = noise(1_MiB + 100, 1);  // not even whole sectors
  write_file(directory_ / "base.img", base);
  make_image("-f qcow2 -b base.img -F raw " + path_ + " 8M");
  std::vector<std::byte> model(kSize);
  std::ranges::copy(base, model.begin());
  for (const BlockCache cache : {BlockCache::writeback, BlockCache::none}) {
    TestDisk disk({.path = path_, .format = BlockFormat::qcow2, .cache = cache});
    EXPECT_TRUE(same(disk.read(0, kSize), model));
    // A write within the cluster in which it ends.
    const auto sector = noise(512, 4);
    ASSERT_TRUE(disk.write(1_MiB + 4096, sector));
    std::ranges::copy(sector, model.begin() + 1_MiB + 4096);
    EXPECT_TRUE(same(disk.read(0, kSize), model));
  }
}

TEST_F(Qcow2ImageTest, ChainsOfBackingFilesAreRead) {
  auto model = write_base(directory_ / "0.img");
  std::string below = "0.img -F raw";
  for (int level = 1; level <= 5; ++level) {
    const std::string name = std::to_string(level) + ".qcow2";
    make_image("-f qcow2 -b " + below + " " + (directory_ / name) + " 8M");
    TestDisk disk(config(directory_ / name));
    ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 40, static_cast<std::uint64_t>(level)));
    below = name + " -F qcow2";
  }
  TestDisk disk(config(directory_ / "5.qcow2", true));
  EXPECT_TRUE(same(disk.read(0, kSize), model));
}

TEST_F(Qcow2ImageTest, AnEndlessChainOfBackingFilesIsRefused) {
  make_image("-f qcow2 " + (directory_ / "a.qcow2") + " 8M");
  make_image("-f qcow2 -b a.qcow2 -F qcow2 " + path_ + " 8M");
  ASSERT_EQ(qemu_img("rebase -u -b disk.qcow2 -F qcow2 " + (directory_ / "a.qcow2")).status, 0);
  EXPECT_THAT(refusal(config(path_, true)), HasSubstr("circle"));
}

TEST_F(Qcow2ImageTest, BackingFilesThatAreNotPlainAreRefused) {
  write_base(directory_ / "base.img");
  make_image("-f qcow2 -b base.img -F raw " + path_ + " 8M");
  const auto rebase = [&](const std::string& arguments) {
    ASSERT_EQ(qemu_img("rebase -u " + arguments + " " + path_).status, 0);
  };
  rebase("-b nbd://host/x -F raw");
  EXPECT_THAT(refusal(config(path_)), HasSubstr("not a plain file's name"));
  rebase("-b 'json:{\"driver\":\"raw\"}' -F raw");
  EXPECT_THAT(refusal(config(path_)), HasSubstr("not a plain file's name"));
  rebase("-b absent.img -F raw");
  EXPECT_THAT(refusal(config(path_)), HasSubstr("absent.img: opening it: No such file"));
  rebase("-b base.img -F vmdk");
  EXPECT_THAT(refusal(config(path_)), HasSubstr("vmdk is neither"));
}

TEST_F(Qcow2ImageTest, ABackingFileWithoutAFormatIsRefused) {  // CVE-2008-2004: a guest must not choose it
  write_base(directory_ / "base.img");
  make_image("-f qcow2 -b base.img -F raw " + path_ + " 8M");
  // The type of the extension is changed to one that nobody knows.
  auto bytes = content_of(path_);
  for (std::size_t i = 104; i < 4096; i += 8) {
    if (load_be32(bytes.data() + i) == 0xe2792aca) store_be32(bytes.data() + i, 0x11111111);
  }
  write_file(path_, bytes);
  EXPECT_THAT(refusal(config(path_)), HasSubstr("does not say which format"));
}

TEST_F(Qcow2ImageTest, CompressedClustersAreReadAndWrittenOver) {
  auto content = noise(kSize, 3);
  for (std::size_t i = 0; i < content.size(); i += 2) content[i] = std::byte{0x55};  // that can be compressed
  write_file(directory_ / "plain.img", content);
  for (const std::string options : {"", "-o cluster_size=4k", "-o cluster_size=2M", "-o compat=0.10"}) {
    ASSERT_EQ(
        qemu_img("convert -c -f raw -O qcow2 " + options + " " + (directory_ / "plain.img") + " " + path_)
            .status,
        0);
    auto model = content;
    {
      TestDisk disk(config(path_));
      ASSERT_TRUE(same(disk.read(0, kSize), content)) << options;
      ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 200, 9));
      EXPECT_TRUE(same(disk.read(0, kSize), model)) << options;
    }
    expect_clean(path_);
    EXPECT_TRUE(same(converted(path_, "qcow2"), model)) << options;
  }
}

TEST_F(Qcow2ImageTest, InternalSnapshotsStayAsTheyAre) {
  make_image("-f qcow2 " + path_ + " 8M");
  std::vector<std::byte> model(kSize);
  std::vector<std::vector<std::byte>> snapshots;
  for (std::uint64_t round = 0; round < 3; ++round) {
    {
      TestDisk disk(config(path_));
      ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 100, 20 + round));
    }
    ASSERT_EQ(qemu_img("snapshot -c s" + std::to_string(round) + " " + path_).status, 0);
    snapshots.push_back(model);
  }
  {
    TestDisk disk(config(path_));
    ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 200, 30));
    EXPECT_TRUE(same(disk.read(0, kSize), model));
  }
  expect_clean(path_);
  EXPECT_TRUE(same(converted(path_, "qcow2"), model));
  for (std::size_t i = 0; i < snapshots.size(); ++i) {
    EXPECT_TRUE(same(converted(path_, "qcow2", "-l s" + std::to_string(i)), snapshots[i]))
        << "snapshot " << i;
  }
}

TEST_F(Qcow2ImageTest, ADirtyImageIsOnlyRead) {
  make_image("-f qcow2 -o lazy_refcounts=on " + path_ + " 8M");
  auto bytes = content_of(path_);
  bytes[79] |= std::byte{1};  // incompatible features, bit 0
  write_file(path_, bytes);
  EXPECT_THAT(refusal(config(path_)),
              HasSubstr("not closed cleanly (dirty): repair it with qemu-img check -r all"));
  EXPECT_EQ(refusal(config(path_, true)), "");
  ASSERT_EQ(qemu_img("check -q -r all " + path_).status, 0);
  EXPECT_EQ(refusal(config(path_)), "") << "what the error says to do helps";
  bytes[79] = std::byte{2};
  write_file(path_, bytes);
  EXPECT_THAT(refusal(config(path_)), HasSubstr("marked as damaged"));
}

TEST_F(Qcow2ImageTest, BitmapsAreMarkedAsOutOfDate) {
  make_image("-f qcow2 " + path_ + " 8M");
  ASSERT_EQ(qemu_img("bitmap --add " + path_ + " b0").status, 0);
  ASSERT_NE(load_be64(content_of(path_).data() + qcow2::kAutoclearPlace), 0U);
  TestDisk(config(path_, true));
  EXPECT_NE(load_be64(content_of(path_).data() + qcow2::kAutoclearPlace), 0U) << "not by reading";
  {
    TestDisk disk(config(path_));
  }
  EXPECT_EQ(load_be64(content_of(path_).data() + qcow2::kAutoclearPlace), 0U);
}

TEST_F(Qcow2ImageTest, TheFormatIsKnownByTheNameAndNeverByTheContent) {
  make_image("-f qcow2 " + path_ + " 8M");
  EXPECT_EQ((*open_image({.path = path_}))->format(), "qcow2");
  std::filesystem::rename(path_, directory_ / "disk.img");
  EXPECT_THAT(refusal({.path = directory_ / "disk.img"}), HasSubstr("say format=qcow2, or format=raw"));
  EXPECT_EQ((*open_image({.path = directory_ / "disk.img", .format = BlockFormat::qcow2}))->format(),
            "qcow2");
  std::filesystem::resize_file(directory_ / "disk.img", 1 << 20);  // now it could be a guest's raw disk, too
  EXPECT_EQ((*open_image({.path = directory_ / "disk.img", .format = BlockFormat::raw}))->format(), "raw");
  EXPECT_EQ((*open_image({.path = directory_ / "disk.img", .format = BlockFormat::qcow2}))->format(),
            "qcow2");
}

TEST_F(Qcow2ImageTest, WritersOfAnImageAndOfItsBackingFileKeepEachOtherOut) {
  make_image("-f qcow2 " + (directory_ / "base.qcow2") + " 8M");
  make_image("-f qcow2 -b base.qcow2 -F qcow2 " + path_ + " 8M");
  make_image("-f qcow2 -b base.qcow2 -F qcow2 " + (directory_ / "other.qcow2") + " 8M");
  const TestDisk disk(config(path_));
  EXPECT_THAT(refusal(config(path_)), HasSubstr("another VMM has it open"));
  EXPECT_THAT(refusal(config(directory_ / "base.qcow2")), HasSubstr("another VMM has it open"));
  EXPECT_EQ(refusal(config(directory_ / "other.qcow2")), "") << "a backing file is shared";
  const Said said = qemu_img("check " + path_);
  EXPECT_NE(said.status, 0);
  EXPECT_THAT(said.text, HasSubstr("lock")) << "QEMU's tools see it, too";
  EXPECT_EQ(qemu_img("info -U " + path_).status, 0) << "but can look all the same";
}

// Damaged; made to harm is qcow2_forged_test.cc

TEST_F(Qcow2ImageTest, CompressedGarbageIsAnIoError) {
  write_file(directory_ / "plain.img", std::vector<std::byte>(kSize, std::byte{3}));
  ASSERT_EQ(qemu_img("convert -c -f raw -O qcow2 " + (directory_ / "plain.img") + " " + path_).status, 0);
  auto bytes = content_of(path_);
  const auto table = load_be64(bytes.data() + load_be64(bytes.data() + 40)) & qcow2::kOffsetMask;
  const auto place = load_be64(bytes.data() + table) & ((1ULL << 54) - 1);
  std::ranges::fill(std::span(bytes).subspan(place, 64), std::byte{0xff});
  write_file(path_, bytes);
  TestDisk disk(config(path_, true));
  std::vector<std::byte> sector(512);
  const auto done = disk.read(0, sector);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("cannot be unpacked"));
  EXPECT_TRUE(disk.read(kSize - 512, sector)) << "the others can be read";
}

TEST_F(Qcow2ImageTest, ATruncatedImageReadsAsZerosAndDoesNotCrash) {
  make_image("-f qcow2 " + path_ + " 8M");
  {
    TestDisk(config(path_)).write(0, noise(1_MiB, 1)).value();
  }
  std::filesystem::resize_file(path_, 5 * 65536);
  TestDisk disk(config(path_, true));
  std::vector<std::byte> all(kSize);
  EXPECT_TRUE(disk.read(0, all));
}

}  // namespace
}  // namespace balloon::vmm

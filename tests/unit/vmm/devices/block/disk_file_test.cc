// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/disk_file.h"

#include "tests/unit/vmm/devices/block/disk_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

class DiskFileTest : public ::testing::TestWithParam<bool> {
 protected:
  DiskFile open(const std::vector<std::byte>& content) {
    write_file(path_, content);
    auto file = DiskFile::open(path_, false, GetParam());
    if (!file) throw std::runtime_error(file.error().message);
    return std::move(*file);
  }
  Directory directory_;
  std::string path_ = directory_ / "file";
};

TEST_P(DiskFileTest, ReadsAndWritesOfAnyAlignmentTouchNothingElse) {
  auto content = noise(DiskFile::kBounceSize * 2 + 8192, 1);
  DiskFile file = open(content);
  for (const auto& [offset, size] :
       std::vector<std::pair<std::uint64_t, std::size_t>>{{0, 1},
                                                          {1, 511},
                                                          {511, 2},
                                                          {4095, 2},
                                                          {4096, 4096},
                                                          {100, 70000},
                                                          {3, DiskFile::kBounceSize + 9}}) {
    std::vector<std::byte> read(size);
    ASSERT_TRUE(file.read(offset, read));
    EXPECT_TRUE(same(read, std::span(content).subspan(offset, size))) << offset;
    const auto fresh = noise(size, offset);
    ASSERT_TRUE(file.write(offset, fresh));
    std::ranges::copy(fresh, content.begin() + static_cast<std::ptrdiff_t>(offset));
    EXPECT_TRUE(same(content_of(path_), content)) << offset << ", " << size;
  }
}

TEST_P(DiskFileTest, TheEndOfTheFileIsSeenFromBothSides) {
  const auto content = noise(5000, 1);
  DiskFile file = open(content);
  std::vector<std::byte> read(2000, std::byte{7});
  const auto got = file.read_some(4096, read);
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 904U);
  ASSERT_TRUE(file.read_padded(4096, read));
  EXPECT_EQ(read[903], content[4999]);
  EXPECT_EQ(read[904], std::byte{0});
  const auto strict = file.read(4096, read);
  ASSERT_FALSE(strict);
  EXPECT_THAT(strict.error().message, HasSubstr("has shrunk"));
  ASSERT_TRUE(file.read_padded(1 << 20, read)) << "far behind the end";
  EXPECT_EQ(read[0], std::byte{0});
}

TEST_P(DiskFileTest, AWriteBehindTheEndMovesIt) {
  DiskFile file = open(noise(512, 1));
  EXPECT_EQ(file.end(), 512U);
  ASSERT_TRUE(file.write(8192, noise(4096, 2)));
  EXPECT_EQ(file.end(), 12288U);
}

INSTANTIATE_TEST_SUITE_P(Caches, DiskFileTest, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Direct" : "Cached"; });

}  // namespace
}  // namespace balloon::vmm

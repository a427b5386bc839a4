// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace balloon {
namespace {

namespace fs = std::filesystem;

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    std::string pattern = (fs::temp_directory_path() / "balloon-files-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~FilesTest() override { fs::remove_all(root_); }
  std::string file(const std::string& name) const { return root_ + "/" + name; }
  static std::string text(const std::string& path) {
    const auto read = read_file(path, 1000);
    return read && *read ? **read : "nothing";
  }

  std::string root_;
};

TEST_F(FilesTest, AFileIsReplacedWholeAndNothingIsLeftBesideIt) {
  ASSERT_TRUE(replace_file(file("a"), "a long first text", 0640));
  ASSERT_TRUE(replace_file(file("a"), "short", 0640));
  EXPECT_EQ(text(file("a")), "short");
  struct stat info{};
  ASSERT_EQ(::stat(file("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0137, 0U) << "nobody else's business";
  EXPECT_FALSE(fs::exists(file("a.new")));
}

TEST_F(FilesTest, WhatARunThatWasKilledLeftBesideItIsNoHindrance) {
  std::ofstream(file("a.new")) << "half of a much longer te";
  ASSERT_TRUE(replace_file(file("a"), "whole", 0640));
  EXPECT_EQ(text(file("a")), "whole");
}

TEST_F(FilesTest, OnAFullDiskTheOldTextStaysAndTheErrorSaysSo) {
  ASSERT_TRUE(replace_file(file("a"), "old", 0640));
  fs::create_symlink("/dev/full", file("a.new"));
  const auto replaced = replace_file(file("a"), "new", 0640);
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().message, "cannot write " + file("a.new") + ": No space left on device");
  EXPECT_EQ(text(file("a")), "old");
  EXPECT_TRUE(replace_file(file("a"), "new", 0640)) << "there is room again";
}

TEST_F(FilesTest, ADirectoryThatTakesNoFilesAndAPathThatIsADirectoryAreErrors) {
  EXPECT_FALSE(replace_file("/proc/a", "text", 0640));
  EXPECT_FALSE(replace_file(file("none/a"), "text", 0640));
  ASSERT_TRUE(make_directory(file("some/where")));
  const auto replaced = replace_file(file("some/where"), "text", 0640);
  ASSERT_FALSE(replaced);
  EXPECT_TRUE(replaced.error().message.starts_with("cannot rename ")) << replaced.error().message;
  EXPECT_TRUE(fs::is_directory(file("some/where")));
  EXPECT_FALSE(make_directory("/proc/a"));
}

TEST_F(FilesTest, ReadingTellsNoFileFromAnUnreadableAndFromATooLongOne) {
  const auto none = read_file(file("a"), 10);
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
  EXPECT_FALSE(read_file(root_, 10)) << "a directory";
  ASSERT_TRUE(replace_file(file("a"), "0123456789", 0640));
  EXPECT_EQ(**read_file(file("a"), 10), "0123456789");
  EXPECT_FALSE(read_file(file("a"), 9));
}

}  // namespace
}  // namespace balloon

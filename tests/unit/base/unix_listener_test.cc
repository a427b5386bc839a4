// SPDX-License-Identifier: Apache-2.0
#include "base/unix_listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>

namespace balloon {
namespace {

using ::testing::HasSubstr;

class UnixListenerTest : public ::testing::Test {
 protected:
  UnixListenerTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "balloon-listener-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~UnixListenerTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/socket"; }

  std::string directory_;
};

TEST_F(UnixListenerTest, ASocketThatNobodyServesAnyMoreIsReplaced) {
  listen_unix(path(), 0600)->reset();
  EXPECT_TRUE(listen_unix(path(), 0600));
}

TEST_F(UnixListenerTest, ASocketThatIsServedIsLeftAlone) {
  const auto first = listen_unix(path(), 0600);
  const auto second = listen_unix(path(), 0600);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("already served"));
}

TEST_F(UnixListenerTest, WithoutADescriptorItIsNotSaidThatAnotherServes) {
  listen_unix(path(), 0600)->reset();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto listener = listen_unix(path(), 0600);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(listener);
  EXPECT_THAT(listener.error().message, HasSubstr("Too many open files"));
}

}  // namespace
}  // namespace balloon

// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/unix_listener.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon::qmp {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class DiscoveryTest : public testing::Test {
 protected:
  std::string add_socket(const std::string& name) {
    const std::string path = tree_.root() + "/" + name;
    auto listener = listen_unix(path, 0600);
    EXPECT_TRUE(listener) << path;
    if (listener) listeners_.push_back(std::move(*listener));
    return path;
  }
  QmpSockets all(const std::string& pattern, bool exclusive = false) const {
    return {.path = "", .directory = tree_.root(), .pattern = pattern, .exclusive = exclusive};
  }

  test::FakeTree tree_;
  std::vector<UniqueFd> listeners_;
};

TEST_F(DiscoveryTest, SocketsOfADirectoryAreThoseWhoseNamesMatch) {
  const std::string web = add_socket("web.qmp");
  add_socket("web.monitor");
  add_socket(".hidden.qmp");
  tree_.write("/file.qmp", "no socket");
  EXPECT_THAT(find_sockets({all("*.qmp", true)}), ElementsAre(Pair(web, Use{.exclusive = true})));
  EXPECT_THAT(find_sockets({all("*.none")}), IsEmpty());
}

TEST_F(DiscoveryTest, TheFirstEntryThatHasASocketDecides) {
  const std::string web = add_socket("web.qmp");
  const std::string mail = add_socket("mail.qmp");
  const QmpSockets one{.path = web, .directory = "", .pattern = "*", .exclusive = true};
  EXPECT_THAT(find_sockets({one, all("*")}),
              ElementsAre(Pair(mail, Use{.exclusive = false}), Pair(web, Use{.exclusive = true})));
}

TEST_F(DiscoveryTest, OfTooManySocketsNoMoreThanTheMostAreTaken) {
  for (std::size_t i = 0; i <= kSocketsMax; ++i)
    ASSERT_EQ(::mknod((tree_.root() + "/" + std::to_string(i)).c_str(), S_IFSOCK | 0600, 0), 0);
  EXPECT_EQ(find_sockets({all("*")}).size(), kSocketsMax);
}

TEST_F(DiscoveryTest, APathIsNamedWhetherOrNotThereIsASocketAndADirectoryMayBeMissing) {
  const QmpSockets later{.path = "/nowhere/later.qmp", .directory = "", .pattern = "*", .exclusive = false};
  const QmpSockets missing{.path = "", .directory = "/nowhere", .pattern = "*", .exclusive = false};
  EXPECT_THAT(find_sockets({missing, later}),
              ElementsAre(Pair("/nowhere/later.qmp", Use{.exclusive = false})));
}

TEST_F(DiscoveryTest, APathIsOfAnEntryByItsDirectoryAndName) {
  EXPECT_TRUE(is_named({all("*.qmp")}, tree_.root() + "/gone.qmp"));
  EXPECT_FALSE(is_named({all("*.qmp")}, tree_.root() + "/gone.monitor"));
  EXPECT_FALSE(is_named({all("*.qmp")}, "/elsewhere/gone.qmp"));
  EXPECT_FALSE(is_named({}, "/elsewhere/gone.qmp"));
}

TEST_F(DiscoveryTest, SocketsThatComeAreReported) {
  DirectoryWatch watch;
  watch.watch({all("*")});
  EXPECT_THAT(watch.take_new(), IsEmpty());
  const std::string web = add_socket("web.qmp");
  EXPECT_THAT(watch.take_new(), testing::Contains(web));
  std::filesystem::remove(web);
  watch.take_new();
  watch.watch({});
  add_socket("mail.qmp");
  EXPECT_THAT(watch.take_new(), IsEmpty()) << "nobody watches the directory any more";
}

TEST_F(DiscoveryTest, ADirectoryThatGoesAndComesBackIsWatchedAgain) {
  const std::string directory = tree_.root() + "/run";
  const QmpSockets source{.path = "", .directory = directory, .pattern = "*", .exclusive = false};
  std::filesystem::create_directory(directory);
  DirectoryWatch watch;
  watch.watch({source});
  std::filesystem::remove(directory);
  watch.take_new();
  watch.watch({source});
  std::filesystem::create_directory(directory);
  watch.watch({source});
  const std::string web = add_socket("run/web.qmp");
  EXPECT_THAT(watch.take_new(), testing::Contains(web));
}

}  // namespace
}  // namespace balloon::daemon::qmp

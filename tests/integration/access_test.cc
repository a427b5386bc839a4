// SPDX-License-Identifier: Apache-2.0
// Roles by a real daemon: a socket over which nobody changes anything, and users who may do only some things.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class AccessTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    ::chmod(directory_.file("").c_str(), 0755);  // others come as far as the sockets
    start("reservations: {file: " + directory_.file("state/reservations.json") +
          "}\nread_socket: {path: " + read_socket() +
          "}\naccess: {link: {users: [root]}, reserve: {users: [\"64102\"]}, operate: {users: []}}\n");
    ::chmod(socket().c_str(), 0666);
  }
  std::string read_socket() const { return directory_.file("read"); }
  Outcome over(const std::string& path, std::vector<std::string> words) const {
    words.insert(words.begin(), {BALLOONCTL, "--socket", path});
    return run(words);
  }
  /// As another user, which takes root.
  Outcome as(const char* user, std::vector<std::string> words) const {
    words.insert(words.begin(), {"/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups",
                                 BALLOONCTL, "--socket", socket()});
    return run(words);
  }
};

TEST_F(AccessTest, OverTheReadSocketEverybodyLooksAndNobodyChangesAnything) {
  const FakeVmm vmm(socket(), FakeVmm::guest("web", kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("web").empty(); }));
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"list"},
                                             {"show", "web"},
                                             {"host"},
                                             {"capacity"},
                                             {"fit", "64MiB"},
                                             {"reservations"},
                                             {"watch", "--count", "1"}})
    EXPECT_EQ(over(read_socket(), words).exit_code, 0) << words.front();
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"set", "web", "512MiB"},
                                             {"set", "web", "auto"},
                                             {"merge", "web", "on"},
                                             {"pause"},
                                             {"resume"},
                                             {"reserve", "new", "64MiB"},
                                             {"release", "new", "--force"},
                                             {"extend", "new", "--force"},
                                             {"commit", "new", "--force"}}) {
    const Outcome refused = over(read_socket(), words);
    EXPECT_EQ(refused.exit_code, 4) << words.front() << refused.err;
    EXPECT_NE(refused.err.find("this takes the role"), std::string::npos) << refused.err;
  }
  FakeVmm stranger(read_socket(), FakeVmm::guest("new", kGiB, kGiB));
  const auto ended = stranger.ended();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(AccessTest, AUserDoesWhatItsRolesAllowAndIsToldWhichOneIsMissing) {
  if (::geteuid() != 0) {  // the daemon's own user may do everything
    EXPECT_EQ(ctl({"pause"}).exit_code, 0);
    return;
  }
  const char* const scheduler = "64102";
  const char* const other = "64103";
  const Outcome reserved = as(scheduler, {"reserve", "new", "64MiB", "-o", "json"});
  ASSERT_EQ(reserved.exit_code, 0) << reserved.err;
  const std::string token = nlohmann::json::parse(reserved.out).at("token");
  EXPECT_EQ(as(scheduler, {"pause"}).exit_code, 4);
  EXPECT_EQ(as(scheduler, {"release", "new", "--force"}).exit_code, 4) << "force is for operators";
  EXPECT_EQ(as(other, {"list"}).exit_code, 0) << "read is for all who may connect";
  const Outcome refused = as(other, {"reserve", "more", "64MiB"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE(refused.err.find("this takes the role 'reserve'"), std::string::npos) << refused.err;
  EXPECT_EQ(as(other, {"release", "new", "--token", token}).exit_code, 4);
  EXPECT_EQ(ctl({"release", "new", "--force"}).exit_code, 0) << "root operates";
}

TEST_F(AccessTest, APinThatWasAnsweredHoldsAfterAKill) {
  auto vmm = std::make_unique<FakeVmm>(socket(), FakeVmm::guest("web", kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("web").empty(); }));
  ASSERT_EQ(ctl({"set", "web", "512MiB", "--for", "1h"}).exit_code, 0);
  daemon_->signal(SIGKILL);
  ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  vmm.reset();
  SetUp();
  const FakeVmm again(socket(), FakeVmm::guest("web", kGiB, kGiB));
  EXPECT_TRUE(eventually([&] { return state_of("web") == "pinned"; })) << ctl({"show", "web"}).out;
  EXPECT_TRUE(eventually([&] { return again.actual() == 512 * kMiB; }));
  EXPECT_EQ(ctl({"set", "web", "auto"}).exit_code, 0);
}

}  // namespace
}  // namespace balloon::test

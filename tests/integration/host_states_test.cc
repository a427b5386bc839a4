// SPDX-License-Identifier: Apache-2.0
// Why a host's memory is what it is, and whose share comes of it: on a host of the test's own size, whatever
// else this machine does.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <functional>

#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

/// 8 GiB without swap. Needs root, for a mount namespace.
class HostStatesTest : public DaemonTest {
 protected:
  void SetUp() override {
    say_available(2 * kGiB);
    directory_.write("policy.yaml",
                     "engine: {hold: 0s, stale_after: 3s}\n"
                     "states: {pressure_tight: 1, pressure_critical: 1}\n"
                     "guests: [{name: heavy, weight: 300}]\n");
    directory_.write("balloond.yaml", config("metrics: {listen: \"" + address_ + "\"}\n"));
    daemon_ = std::make_unique<Background>(
        std::vector<std::string>{
            "/usr/bin/unshare", "--mount", "/bin/sh", "-ec",
            "mount --bind \"$0\" /proc/meminfo && exec env LD_PRELOAD=\"$1\" ARCSTATS=\"$2\" "
            "\"$3\" --config \"$4\"",
            meminfo_, ARCSTATS, directory_.file("arcstats"), BALLOOND, directory_.file("balloond.yaml")},
        directory_.file("log"));
    ASSERT_TRUE(eventually([&] { return ctl({"host"}).exit_code == 0; })) << daemon_->log();
  }
  /// Written in one piece and of one length, so that it is never read in parts.
  void say_available(std::uint64_t bytes) const {
    const std::string text = fmt::format(
        "MemTotal: {:12} kB\nMemFree: {:12} kB\nMemAvailable: {:12} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        8 * kGiB / 1024, bytes / 1024, bytes / 1024);
    const int file = ::open(meminfo_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ASSERT_EQ(::pwrite(file, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    ::close(file);
  }
  /// What ZFS' cache has, and down to what it would give way.
  void say_arc(std::uint64_t size, std::uint64_t least) const {
    directory_.write("arcstats", fmt::format("13 1 0x01 147 39984 4186117384 72153454161\n"
                                             "name                            type data\n"
                                             "c_min                           4    {}\n"
                                             "size                            4    {}\n",
                                             least, size));
  }
  bool explains_host(const std::string& state, const std::string& why) const {
    return eventually([&] {
      const std::string said = ctl({"host"}).out;
      return said.contains(" " + state + "\n") && said.contains(why);
    });
  }
  bool shows(const std::string& line) const {
    return eventually([&] { return http_get(address_).contains("\n" + line + "\n"); });
  }

  const std::string address_ = free_address();
  const std::string meminfo_ = directory_.file("meminfo");
};

TEST_F(HostStatesTest, WhereNeedsDoNotFitTheHostAndEachGuestSayByWhatTheyAreShared) {
  FakeVmm heavy(socket(), FakeVmm::guest("heavy", 2 * kGiB, 512 * kMiB), true, 512 * kMiB);
  FakeVmm light(socket(), FakeVmm::guest("light", 2 * kGiB, 512 * kMiB), true, 512 * kMiB);
  heavy.stay();  // and so they go on to need all that they may have
  light.stay();
  const auto once = [&](const std::function<bool()>& condition) {
    return eventually([&] {
      for (FakeVmm* vmm : {&heavy, &light}) vmm->send_stats(508 * kMiB);
      return condition();
    });
  };
  const auto explained = [&](const std::string& guest, const std::string& why) {
    return once([&] { return ctl({"explain", guest}).out.contains(why); });
  };
  const std::string critical = " It is critical: it has next to nothing available.";
  EXPECT_TRUE(explained("heavy", "this is its share by weight 300." + critical))
      << ctl({"explain", "heavy"}).out;
  EXPECT_TRUE(explained("light", "this is its share by weight 100." + critical))
      << ctl({"explain", "light"}).out;
  EXPECT_TRUE(explained("light", " more on the host it would have 2 GiB.")) << ctl({"explain", "light"}).out;
  EXPECT_TRUE(once([&] {
    const auto host = ctl_json({"host"});
    const std::string why = host.at("explanation");
    return host.at("state") == "tight" && why.ends_with(": shares go by weight") &&
           why.starts_with("guests and reservations need 4 GiB, and guests may have ");
  })) << ctl({"host"}).out;
  EXPECT_TRUE(once([&] {
    const auto most = heavy.targets(), least = light.targets();
    return !most.empty() && !least.empty() && most.back() > least.back() * 3 / 2;
  }));
}

TEST_F(HostStatesTest, WhatZfsCacheHoldsIsTakenFromItAndNotFromGuests) {
  FakeVmm web(socket(), FakeVmm::guest("web", 2 * kGiB, 2 * kGiB), true, 2 * kGiB);
  const auto once = [&](const std::function<bool()>& condition) {
    return eventually([&] {
      web.send_stats(1800 * kMiB);
      return condition();
    });
  };
  say_arc(5 * kGiB, 256 * kMiB);
  say_available(64 * kMiB);
  EXPECT_TRUE(once([&] {
    const std::string host = ctl({"host"}).out;
    return host.contains(" normal\n") && host.contains("64 MiB, and 4.75 GiB of ZFS' cache") &&
           web.actual() > 1900 * kMiB;
  })) << ctl({"host"}).out
      << ctl({"explain", "web"}).out;
  say_arc(256 * kMiB, 256 * kMiB);
  EXPECT_TRUE(once([&] { return web.actual() < kGiB; })) << ctl({"explain", "web"}).out;
  EXPECT_NE(ctl_json({"host"}).at("state"), "normal");
}

TEST_F(HostStatesTest, AHostThatRunsShortSaysHowMuchItHasLeftAndThatItIsOver) {
  EXPECT_TRUE(explains_host("normal", "Why:          -")) << ctl({"host"}).out;
  say_available(200 * kMiB);
  EXPECT_TRUE(explains_host("tight", "200 MiB of 8 GiB are available on the host")) << ctl({"host"}).out;
  say_available(100 * kMiB);
  EXPECT_TRUE(explains_host("critical", "100 MiB of 8 GiB are available on the host")) << ctl({"host"}).out;
  EXPECT_TRUE(shows("balloon_host_state{state=\"critical\"} 1"));
  say_available(32 * kMiB);
  EXPECT_TRUE(explains_host("emergency", "32 MiB of 8 GiB are available on the host")) << ctl({"host"}).out;
  EXPECT_TRUE(shows("balloon_host_state{state=\"emergency\"} 1"));
  say_available(2 * kGiB);
  EXPECT_TRUE(explains_host("normal", "Why:          -")) << ctl({"host"}).out;
  EXPECT_TRUE(shows("balloon_host_state{state=\"normal\"} 1"));
}

}  // namespace
}  // namespace balloon::test

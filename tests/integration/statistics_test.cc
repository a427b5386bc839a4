// SPDX-License-Identifier: Apache-2.0
// Statistics that are wrong in one value: what it costs, and whom.
#include <algorithm>
#include <functional>

#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

class StatisticsTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start("metrics: {listen: \"" + address_ + "\"}\n");
  }
  /// Of a guest that uses `used` of what it has.
  static v1::GuestStats sample(const FakeVmm& vmm, std::uint64_t used) {
    v1::GuestStats stats;
    stats.set_actual_bytes(vmm.actual());
    stats.set_total_bytes(vmm.registration().memory_bytes());
    stats.set_available_bytes(vmm.actual() - std::min(used, vmm.actual()));
    stats.set_free_bytes(stats.available_bytes());
    return stats;
  }
  /// Once the page of metrics has this line.
  bool shows(const std::string& line, const std::function<void()>& meanwhile) const {
    return eventually([&] {
      meanwhile();
      return http_get(address_).contains("\n" + line + "\n");
    });
  }

  const std::string address_ = free_address();
};

TEST_F(StatisticsTest, ACounterThatGoesBackCostsItsOwnValueAndNoWarning) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  std::uint64_t count = kGiB;
  const auto send = [&](std::uint64_t used) {
    v1::GuestStats stats = sample(vmm, used);
    count -= kMiB;  // each is less than the one before
    stats.set_swap_in_bytes(count);
    stats.set_swap_out_bytes(count);
    stats.set_major_faults(count);
    stats.set_disk_read_bytes(count);
    vmm.send_stats(stats);
  };
  EXPECT_TRUE(eventually([&] {
    send(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << "what it has available counts: "
      << ctl({"explain", "a"}).out;
  EXPECT_TRUE(eventually([&] {
    send(1200 * kMiB);
    return vmm.actual() > 1200 * kMiB;
  })) << ctl({"explain", "a"}).out;
  const auto go_on = [&] { send(1200 * kMiB); };
  EXPECT_TRUE(shows("balloon_guest_state{guest=\"a\",state=\"controlled\"} 1", go_on));
  EXPECT_TRUE(shows("balloon_guest_blind{guest=\"a\"} 0", go_on));
  EXPECT_TRUE(shows("balloon_guest_rejected_messages_total{guest=\"a\"} 0", go_on));
  EXPECT_FALSE(daemon_->log().contains("make no sense")) << daemon_->log();
}

TEST_F(StatisticsTest, AvailableAboveWhatTheGuestHasIsAllThatItHas) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  const auto more_than_it_has = [&] {
    v1::GuestStats stats = sample(vmm, 0);
    stats.set_available_bytes(1536 * kMiB);
    vmm.send_stats(stats);
  };
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  EXPECT_TRUE(eventually([&] {
    more_than_it_has();
    const auto guest = ctl_json({"show", "a"});
    return guest.at("state") == "controlled" && guest.at("decision").at("used_bytes") == 0 &&
           guest.at("decision").at("need_bytes") == guest.at("min_bytes") && vmm.actual() < 400 * kMiB;
  })) << ctl({"explain", "a"}).out;
  EXPECT_GE(std::ranges::min(vmm.targets()), 360 * kMiB) << "what it is guaranteed";
}

TEST_F(StatisticsTest, AvailableAboveBootMemoryIsNotBelievedAndSaidToBeWrong) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  v1::GuestStats stats;  // its total is not known
  stats.set_actual_bytes(kGiB);
  stats.set_available_bytes(3 * kGiB);
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(stats);
    return state_of("a") == "stale";
  })) << ctl({"list"}).out;
  const std::string why = ctl({"explain", "a"}).out;
  EXPECT_NE(why.find("Its newest statistics make no sense: available 3 GiB is above boot memory 2 GiB."),
            std::string::npos)
      << why;
  EXPECT_TRUE(vmm.targets().empty());
  const auto go_on = [&] { vmm.send_stats(stats); };
  EXPECT_TRUE(shows("balloon_guest_blind{guest=\"a\"} 1", go_on));
  EXPECT_TRUE(shows("balloon_guest_state{guest=\"a\",state=\"stale\"} 1", go_on));
}

}  // namespace
}  // namespace balloon::test

// SPDX-License-Identifier: Apache-2.0
// What balloonctl and the metrics say of guests that cannot be judged or moved, and of what binds the others.
#include <algorithm>
#include <sstream>

#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

class GuestStatesTest : public DaemonTest {
 protected:
  void SetUp() override {
    policy("");
    start("metrics: {listen: \"" + address_ + "\"}\n");
  }
  /// What takes seconds to minutes takes a second here, or an hour where it is not wanted.
  void policy(
      const std::string& more,
      const std::string& times = "stale_after: 1s, blind_after: 1h, stuck_after: 1s, retry_after: 1h") const {
    directory_.write("policy.yaml", "engine: {hold: 0s, shrink_ratio_per_second: 1, need_half_life: 100ms, " +
                                        times + "}\n" + more);
  }
  void reload() {
    daemon_->signal(SIGHUP);
    ASSERT_TRUE(logs("the new configuration is in force")) << daemon_->log();
  }
  bool decided(int times) const {
    return ctl({"watch", "-o", "json", "--count", std::to_string(times + 1)}).exit_code == 0;
  }

  /// The words of its line in `balloonctl list`: name, state, then sizes of two words, or "-" for one that is
  /// not known.
  std::vector<std::string> row(const std::string& guest) const {
    std::istringstream lines(ctl({"list", "--no-headings"}).out);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::vector<std::string> found;
      for (std::string word; words >> word;) found.push_back(word);
      if (!found.empty() && found.front() == guest) return found;
    }
    return {};
  }
  bool lists(const std::string& guest, const std::string& state) const {
    return eventually([&] {
      const auto words = row(guest);
      return words.size() > 1 && words[1] == state;
    });
  }
  std::string reason_of(const std::string& guest) const {
    const auto words = row(guest);
    return words.empty() ? "" : words.back();
  }
  bool explains(const std::string& guest, const std::string& why) const {
    return eventually([&] { return ctl({"explain", guest}).out.find(why) != std::string::npos; });
  }
  std::string explanation(const std::string& guest) const { return ctl({"explain", guest}).out; }
  /// Once the page of metrics has this line.
  bool shows(const std::string& line) const {
    return eventually([&] { return http_get(address_).find("\n" + line + "\n") != std::string::npos; });
  }
  bool shows_state(const std::string& guest, const std::string& state) const {
    return shows("balloon_guest_state{guest=\"" + guest + "\",state=\"" + state + "\"} 1") &&
           shows("balloon_guests{state=\"" + state + "\"} 1");
  }
  bool shows_blind(const std::string& guest, bool blind) const {
    return shows("balloon_guest_blind{guest=\"" + guest + "\"} " + (blind ? "1" : "0"));
  }
  /// USED, which stands after the two words of the guest's memory, is not known, nor is it in JSON and the
  /// metrics.
  void expect_use_is_unknown(const std::string& guest) const {
    const auto words = row(guest);
    ASSERT_GT(words.size(), 4U);
    EXPECT_EQ(words[4], "-") << ctl({"list"}).out;
    EXPECT_TRUE(ctl_json({"show", guest}).at("decision").at("used_bytes").is_null());
    EXPECT_FALSE(http_get(address_).contains("\nballoon_guest_used_bytes{guest=\"" + guest + "\"}"));
  }

  const std::string address_ = free_address();
};

TEST_F(GuestStatesTest, AGuestWhoseDriverIsNotUpIsBootingHoweverLongThatTakes) {
  v1::Register booting = FakeVmm::guest("a", 2 * kGiB, 2 * kGiB);
  booting.mutable_balloon()->set_driver_ready(false);
  const FakeVmm vmm(socket(), booting);
  ASSERT_TRUE(lists("a", "booting"));
  ASSERT_TRUE(decided(15)) << "a time in which statistics grow old";
  EXPECT_TRUE(lists("a", "booting")) << ctl({"list"}).out;
  EXPECT_TRUE(explains("a", "what it uses and needs is unknown")) << explanation("a");
  EXPECT_TRUE(explains("a", "its size is held, as its balloon driver is not up.")) << explanation("a");
  EXPECT_TRUE(shows_state("a", "booting"));
  EXPECT_TRUE(shows_blind("a", true));
  expect_use_is_unknown("a");
  EXPECT_TRUE(vmm.targets().empty());
}

TEST_F(GuestStatesTest, AGuestWhoseStatisticsStopIsStaleAndHeldUntilTheyComeAgain) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << explanation("a");
  EXPECT_TRUE(lists("a", "stale")) << ctl({"list"}).out;
  EXPECT_TRUE(explains("a", "its size is held, as its statistics are missing, old or impossible."))
      << explanation("a");
  EXPECT_TRUE(explains("a", "Statistics that can be believed would let it be moved")) << explanation("a");
  EXPECT_TRUE(shows_state("a", "stale"));
  EXPECT_TRUE(shows_blind("a", true));
  EXPECT_TRUE(explains("a", "; what it uses and needs is unknown; it may have ")) << explanation("a");
  expect_use_is_unknown("a");
  const std::size_t asked = vmm.targets().size();
  ASSERT_TRUE(decided(5));
  EXPECT_EQ(vmm.targets().size(), asked) << "its size is held";
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    const auto words = row("a");
    return words.size() > 1 && words[1] == "controlled";
  })) << ctl({"list"}).out;
}

TEST_F(GuestStatesTest, OfAGuestThatNeverSentStatisticsNothingIsClaimed) {
  const FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  EXPECT_TRUE(lists("a", "stale")) << ctl({"list"}).out;
  EXPECT_TRUE(explains("a", "what it uses and needs is unknown")) << explanation("a");
  EXPECT_TRUE(explains("a", "its size is held, as its balloon driver has sent no statistics."))
      << explanation("a");
  EXPECT_TRUE(shows_state("a", "stale"));
  EXPECT_TRUE(shows_blind("a", true));
  EXPECT_TRUE(shows("balloon_guests_blind 1"));
  expect_use_is_unknown("a");
  EXPECT_TRUE(vmm.targets().empty());
}

TEST_F(GuestStatesTest, AGuestThatIsJudgedByWhatTheHostSeesOfItIsBlind) {
  policy("", "stale_after: 1s, blind_after: 1s");
  reload();
  const FakeVmm silent(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB), true, 300 * kMiB);
  EXPECT_TRUE(eventually([&] { return silent.actual() < kGiB; })) << explanation("a");
  EXPECT_GT(silent.actual(), 300 * kMiB) << "what it has touched";
  EXPECT_TRUE(explains("a", "what it uses is unknown; it needs ")) << explanation("a");
  EXPECT_TRUE(explains("a", "by what the host sees of it")) << explanation("a");
  EXPECT_FALSE(explanation("a").contains("its size is held")) << explanation("a");
  EXPECT_TRUE(lists("a", "blind")) << ctl({"list"}).out;
  EXPECT_EQ(state_of("a"), "blind");
  EXPECT_TRUE(shows_state("a", "blind"));
  EXPECT_TRUE(shows_blind("a", true));
  EXPECT_TRUE(shows("balloon_guests_blind 1"));
  expect_use_is_unknown("a");
}

TEST_F(GuestStatesTest, AGuestThatFallsSilentIsBlindForAsLongAsItIsSilent) {
  policy("", "stale_after: 1s, blind_after: 1s");
  reload();
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB), true, 300 * kMiB);
  vmm.send_stats(400 * kMiB);
  ASSERT_TRUE(explains("a", "by what the host sees of it")) << explanation("a");
  ASSERT_TRUE(decided(2));
  EXPECT_TRUE(http_get(address_).contains("\nballoon_guest_blind{guest=\"a\"} 1\n")) << "or its alert ends";
}

TEST_F(GuestStatesTest, WhereABlindGuestsFiguresComeFromIsExplained) {
  policy("", "stale_after: 1s, blind_after: 1s");
  reload();
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB), true, 300 * kMiB);
  vmm.send_stats(400 * kMiB);
  EXPECT_TRUE(explains("a", "by what the host sees of it")) << explanation("a");
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return explanation("a").find("by what the host sees of it") == std::string::npos;
  })) << "it is not blind any more: "
      << explanation("a");
}

TEST_F(GuestStatesTest, ABalloonThatFreesNothingIsStuckAndItsTargetIsPutWhereItIs) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB), true, 300 * kMiB);
  vmm.stay();
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(250 * kMiB);
    return state_of("a") == "stuck";
  })) << explanation("a");
  EXPECT_TRUE(lists("a", "stuck")) << ctl({"list"}).out;
  EXPECT_TRUE(explains("a", "its balloon makes no progress, and is tried again later.")) << explanation("a");
  EXPECT_TRUE(explains("a", ": what it has touched, may soon touch or is guaranteed. The other "))
      << explanation("a");
  EXPECT_TRUE(explains("a", "A balloon that moves would let it be moved")) << explanation("a");
  EXPECT_TRUE(shows_state("a", "stuck"));
  EXPECT_EQ(reason_of("a"), "stuck");
  EXPECT_EQ(http_get(address_).find("balloon_decisions_total{reason=\"stuck\"} 0\n"), std::string::npos);
  ASSERT_TRUE(eventually([&] { return vmm.targets().size() > 1; }));
  EXPECT_LT(std::ranges::min(vmm.targets()), kGiB) << "it was asked to free what it does not use";
  EXPECT_TRUE(eventually([&] { return vmm.targets().back() == 2 * kGiB; }));
}

TEST_F(GuestStatesTest, AStuckGuestStaysStuckWhileItIsTriedAgain) {
  policy("", "stale_after: 10s, stuck_after: 1s, retry_after: 1s, retry_max: 1s");
  reload();
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  vmm.stay();
  const auto state_now = [&] {
    vmm.send_stats(400 * kMiB);
    return state_of("a");
  };
  ASSERT_TRUE(eventually([&] { return state_now() == "stuck"; })) << explanation("a");
  const auto tries = [&] {
    return std::ranges::count_if(vmm.targets(), [](std::uint64_t target) { return target < kGiB; });
  };
  const auto before = tries();
  std::string other;
  EXPECT_TRUE(eventually([&] {
    if (const std::string state = state_now(); state != "stuck") other = state;
    return tries() >= before + 2;
  }));
  EXPECT_EQ(other, "");
}

TEST_F(GuestStatesTest, AGuestWhoseLinkIsLostIsDisconnectedUntilItIsBack) {
  v1::Register as_left;
  {
    FakeVmm silent(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
    ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
    EXPECT_TRUE(shows("balloon_backend_guests{backend=\"balloon-vmm\"} 1"));
    silent.disconnect();
    as_left = silent.registration();
    EXPECT_TRUE(lists("a", "disconnected")) << ctl({"list"}).out;
    EXPECT_TRUE(explains("a", "what it uses and needs is unknown")) << explanation("a");
    EXPECT_TRUE(explains("a", "its size is held, as its VMM is not connected (since 2")) << explanation("a");
    EXPECT_EQ(reason_of("a"), "disconnected");
    EXPECT_TRUE(shows_state("a", "disconnected"));
    EXPECT_TRUE(shows("balloon_backend_guests{backend=\"balloon-vmm\"} 0"));
    EXPECT_TRUE(shows_blind("a", true));
    expect_use_is_unknown("a");
  }
  FakeVmm back(socket(), as_left);
  EXPECT_TRUE(eventually([&] {
    back.send_stats(400 * kMiB);
    return state_of("a") == "controlled";
  })) << explanation("a");
  back.disconnect();
  EXPECT_TRUE(lists("a", "disconnected")) << ctl({"list"}).out;
  EXPECT_FALSE(explanation("a").contains("its statistics are missing"))
      << "they are good: " << explanation("a");
}

TEST_F(GuestStatesTest, AGuestThatPolicyLeavesAloneSaysSoAndNotThatItsStatisticsWereOld) {
  policy("guests: [{name: a, control: off}]\n");
  reload();
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return row("a").size() > 4 && row("a")[4] != "-";
  })) << ctl({"list"}).out;
  EXPECT_TRUE(lists("a", "left_alone")) << ctl({"list"}).out;
  EXPECT_EQ(reason_of("a"), "left_alone");
  EXPECT_TRUE(explains("a", "its policy leaves it alone (control: off)")) << explanation("a");
}

TEST_F(GuestStatesTest, AGuestWhoseBalloonSomebodyElseMovesIsContestedUntilAPersonDecides) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << explanation("a");
  EXPECT_TRUE(shows("balloon_guest_contested{guest=\"a\"} 0"));
  vmm.move_by_another(1500 * kMiB);
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return ctl_json({"show", "a"}).at("contested").is_object();
  })) << explanation("a");
  EXPECT_EQ(ctl_json({"show", "a"}).at("contested").at("to_bytes"), 1500 * kMiB);
  EXPECT_TRUE(lists("a", "contested")) << ctl({"list"}).out;
  EXPECT_EQ(reason_of("a"), "contested");
  EXPECT_EQ(state_of("a"), "contested");
  EXPECT_TRUE(shows_state("a", "contested"));
  EXPECT_TRUE(explains("a", "its size is held, as somebody else moved its balloon from "))
      << explanation("a");
  EXPECT_TRUE(explains("a", " to 1.46 GiB")) << explanation("a");
  EXPECT_TRUE(explains("a", ", and holds it: it is left alone for ")) << explanation("a");
  EXPECT_TRUE(shows("balloon_guest_contested{guest=\"a\"} 1"));
  EXPECT_TRUE(shows("balloon_guest_contests_total{guest=\"a\"} 1"));
  EXPECT_TRUE(shows("balloon_guests_contested 1"));
  EXPECT_EQ(vmm.actual(), 1500 * kMiB);
  EXPECT_FALSE(explanation("a").contains("statistics")) << "they are good: " << explanation("a");
  ASSERT_EQ(ctl({"set", "a", "1GiB"}).exit_code, 0);
  EXPECT_TRUE(eventually([&] { return vmm.actual() == kGiB; })) << explanation("a");
  EXPECT_TRUE(lists("a", "pinned")) << ctl({"list"}).out;
  EXPECT_TRUE(shows("balloon_guest_contested{guest=\"a\"} 0"));
}

TEST_F(GuestStatesTest, AGuestWhoseVirtualCpusAreStoppedIsPausedUntilTheyGoOn) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  vmm.set_paused(true);
  EXPECT_TRUE(lists("a", "paused")) << ctl({"list"}).out;
  EXPECT_EQ(reason_of("a"), "paused");
  EXPECT_EQ(state_of("a"), "paused");
  EXPECT_TRUE(shows_state("a", "paused"));
  EXPECT_TRUE(explains("a", "its size is held, as it does not run: paused.")) << explanation("a");
  vmm.set_paused(false);
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return state_of("a") == "controlled";
  })) << explanation("a");
}

TEST_F(GuestStatesTest, EachWayNotToBeMovedHasAReasonOfItsOwn) {
  FakeVmm stuck(socket(), FakeVmm::guest("stuck", 2 * kGiB, 2 * kGiB), true, 300 * kMiB);
  const FakeVmm stale(socket(), FakeVmm::guest("stale", kGiB, kGiB));
  v1::Register not_up = FakeVmm::guest("booting", kGiB, kGiB);
  not_up.mutable_balloon()->set_driver_ready(false);
  const FakeVmm booting(socket(), not_up);
  stuck.stay();
  const auto has_reason = [&](const std::string& guest) {
    return eventually([&] {
      stuck.send_stats(250 * kMiB);
      const auto words = row(guest);
      return words.size() > 1 && words[1] == guest && words.back() == guest;
    });
  };
  for (const char* guest : {"stuck", "stale", "booting"})
    EXPECT_TRUE(has_reason(guest)) << guest << '\n' << ctl({"list"}).out;
  EXPECT_FALSE(http_get(address_).contains("\nballoon_decisions_total{reason=\"stuck\"} 0\n"));
  EXPECT_FALSE(http_get(address_).contains("\nballoon_decisions_blocked_total{by=\"balloon\"} 0\n"));
}

/// The settings that bind each guest's target.
TEST_F(GuestStatesTest, TheSettingThatBindsATargetIsNamed) {
  policy(
      "groups: [{name: small, max: 700MiB}]\n"
      "guests:\n"
      "  - {name: idle, min: 1GiB}\n"
      "  - {name: capped, max: 640MiB}\n"
      "  - {name: one, group: small, weight: 300}\n"
      "  - {name: off, control: off}\n");
  reload();
  FakeVmm idle(socket(), FakeVmm::guest("idle", 2 * kGiB, 768 * kMiB));
  FakeVmm capped(socket(), FakeVmm::guest("capped", 2 * kGiB, 512 * kMiB));
  FakeVmm one(socket(), FakeVmm::guest("one", 2 * kGiB, 512 * kMiB));
  FakeVmm off(socket(), FakeVmm::guest("off", 2 * kGiB, 2 * kGiB));
  FakeVmm pinned(socket(), FakeVmm::guest("pinned", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] { return ctl({"set", "pinned", "1GiB"}).exit_code == 0; }));
  const auto named = [&](const std::string& guest, const std::string& setting) {
    return eventually([&] {
      idle.send_stats(200 * kMiB);
      capped.send_stats(capped.actual() - 8 * kMiB);
      one.send_stats(one.actual() - 8 * kMiB);
      off.send_stats(200 * kMiB);
      pinned.send_stats(200 * kMiB);
      return explanation(guest).find(setting) != std::string::npos;
    });
  };
  EXPECT_TRUE(named("idle", "Target 1 GiB: it needs no more than its guaranteed minimum of 1 GiB."))
      << explanation("idle");
  EXPECT_TRUE(named("capped",
                    "Target 640 MiB: it may have all of its maximum of 640 MiB. It is critical: it has "
                    "next to nothing available. A higher maximum than 640 MiB would let it have more."))
      << explanation("capped");
  EXPECT_TRUE(named("one",
                    "Target 700 MiB: the guests of its group small need more than the group may have: this "
                    "is its share by weight 300."))
      << explanation("one");
  EXPECT_TRUE(named("off", "its balloon is left alone: its policy leaves it alone (control: off)"))
      << explanation("off");
  EXPECT_TRUE(named("pinned", "Target 1 GiB: a person or scheduler set it.")) << explanation("pinned");
}

TEST_F(GuestStatesTest, AnInfeasibleHostNamesTheGuestThatCannotBeMovedAndTheReservation) {
  policy("guests: [{name: big, min: 100%}]\n");
  reload();
  const std::uint64_t size = ctl_json({"host"}).at("total_bytes").get<std::uint64_t>() / kMiB * kMiB;
  ASSERT_EQ(ctl({"reserve", "new", "512MiB"}).exit_code, 0);
  FakeVmm small(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  const FakeVmm big(socket(), FakeVmm::guest("big", size, size));
  std::string why;
  ASSERT_TRUE(eventually([&] {
    small.send_stats(400 * kMiB);
    why = ctl({"host"}).out;
    return why.contains(", stale), a (360 MiB, its minimum)");
  })) << why;
  EXPECT_TRUE(why.contains("(for 1 of them what they count with, as they cannot be moved)")) << why;
  EXPECT_NE(why.find("infeasible"), std::string::npos) << why;
  EXPECT_NE(why.find("and reservations of 512 MiB"), std::string::npos) << why;
  EXPECT_TRUE(why.contains("The largest: big (")) << why;
  EXPECT_TRUE(shows("balloon_host_state{state=\"infeasible\"} 1"));
  EXPECT_TRUE(shows("balloon_guest_floor_bytes{guest=\"big\"} " + std::to_string(size)));
  EXPECT_FALSE(http_get(address_).contains("\nballoon_host_deficit_bytes 0\n"));
}

}  // namespace
}  // namespace balloon::test

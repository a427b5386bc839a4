// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/domain.h"

#include <gtest/gtest.h>
#include <libvirt/libvirt.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/pages.h"
#include "tests/unit/balloond/fakes.h"
#include "tests/unit/balloond/guests/told.h"

namespace balloon::daemon::libvirt {
namespace {

using namespace std::chrono_literals;

class DomainTest : public testing::Test {
 protected:
  static Description description() {
    Description out;
    out.memory = kGiB;
    out.vcpus = 2;
    out.has_balloon = true;
    out.labels = {{"tier", "batch"}};
    return out;
  }
  std::unique_ptr<Domain> domain(const Description& described) {
    return std::make_unique<Domain>(surroundings_, "qemu:///system", "QEMU 7.2.22", described,
                                    Peer{.pid = 7, .uid = 0});
  }
  /// As libvirt says it once a second, of a guest whose driver is up.
  Figures figures(Bytes actual) {
    clock_.advance(1s);
    Figures out;
    out.uuid = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31";
    out.name = "web";
    out.state = VIR_DOMAIN_RUNNING;
    out.actual = actual;
    out.maximum = kGiB;
    out.asked = true;
    out.updated_at = std::chrono::floor<std::chrono::seconds>(clock_.wall().time_since_epoch());
    out.sample.available = 300 * kMiB;
    out.sample.disk_read = Bytes{9};
    return out;
  }
  void ask(Bytes target) {
    told_.channel->ask({.kind = Request::Kind::target, .sequence = ++sequence_, .target = target});
    domain_->on_mail();
  }
  /// Carries out what is to be done, as libvirt would.
  std::vector<Errand> carry_out(const std::string& refusal = "") {
    std::vector<Errand> carried_out;
    while (const auto errand = domain_->take_errand()) {
      carried_out.push_back(*errand);
      domain_->done(*errand, refusal);
    }
    return carried_out;
  }
  void come_up() {
    domain_ = domain(description());
    domain_->see(figures(kGiB), clock_.now());
    carry_out();
  }

  test::FakeClock clock_;
  test::Told told_;
  BackendHealth health_;
  Surroundings surroundings_{
      .clock = clock_, .guests = told_, .wake = [] {}, .stats_interval = 1s, .health = health_};
  std::uint64_t sequence_ = 0;
  std::unique_ptr<Domain> domain_;
};

TEST_F(DomainTest, AGuestIsIntroducedWithItsLabelsAndUuid) {
  come_up();
  ASSERT_EQ(told_.guests.size(), 1U);
  const Registration& guest = told_.guests.front();
  EXPECT_EQ(guest.name, "web");
  EXPECT_EQ(guest.hypervisor, "libvirt");
  EXPECT_EQ(guest.memory, kGiB);
  EXPECT_EQ(guest.vcpus, 2U);
  EXPECT_EQ(guest.labels.at("tier"), "batch");
  EXPECT_EQ(guest.labels.at("uuid"), "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31");
  EXPECT_EQ(guest.labels.at("libvirt"), "qemu:///system");
  EXPECT_TRUE(guest.balloon->driver_ready);
  domain_.reset();
  EXPECT_EQ(told_.leavings, 1);
}

TEST_F(DomainTest, AGuestIsLeftAloneForAsLongAsItsProcessHasItsMemoryLocked) {
  constexpr Bytes kLocked = 64 * kKiB;
  Description described = description();
  described.memory = 2 * kLocked;
  domain_ = std::make_unique<Domain>(surroundings_, "qemu:///system", "QEMU 7.2.22", described,
                                     Peer{.pid = ::getpid(), .uid = 0});
  const auto see = [&] {
    Figures seen = figures(2 * kLocked);
    seen.maximum = 2 * kLocked;
    domain_->see(seen, clock_.now());
    return told_.balloon_now.obstacle;
  };
  EXPECT_EQ(see(), "");
  void* const memory =
      ::mmap(nullptr, kLocked.count(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::syscall(SYS_mlock, memory, kLocked.count()), 0);  // sanitizers make nothing of mlock()
  EXPECT_EQ(see(), "its memory is locked");
  ::munmap(memory, kLocked.count());
  EXPECT_EQ(see(), "");
}

TEST_F(DomainTest, UntilItsDriverIsUpAGuestHasAllItsMemory) {
  domain_ = domain(description());
  Figures booting = figures(256 * kMiB);
  booting.updated_at.reset();
  domain_->see(booting, clock_.now());
  EXPECT_FALSE(told_.balloon_now.driver_ready);
  EXPECT_EQ(told_.balloon_now.actual, kGiB);
  domain_->see(figures(256 * kMiB), clock_.now());
  EXPECT_TRUE(told_.balloon_now.driver_ready);
  EXPECT_EQ(told_.balloon_now.actual, 256 * kMiB);
}

TEST_F(DomainTest, AfterARebootOldStatisticsAreNoSignOfADriver) {
  come_up();
  domain_->see(figures(512 * kMiB), clock_.now());
  const Figures before = figures(512 * kMiB);
  domain_->note_reboot();
  domain_->see(before, clock_.now());
  EXPECT_FALSE(told_.balloon_now.driver_ready);
  EXPECT_EQ(told_.balloon_now.actual, kGiB) << "libvirt still says 512 MiB";
  domain_->see(figures(512 * kMiB), clock_.now());
  EXPECT_TRUE(told_.balloon_now.driver_ready);
}

TEST_F(DomainTest, StatisticsGoOnOnceWithTheSizeThatTheyBelongTo) {
  come_up();
  told_.samples.clear();
  const Figures once = figures(kGiB);
  domain_->see(once, clock_.now());
  domain_->see(once, clock_.now());
  ASSERT_EQ(told_.samples.size(), 1U);
  EXPECT_EQ(told_.samples.front().actual, kGiB);
  EXPECT_EQ(told_.samples.front().available, 300 * kMiB);
  EXPECT_EQ(told_.samples.front().disk_read, Bytes{9});
  domain_->see(figures(700 * kMiB), clock_.now());
  EXPECT_EQ(told_.samples.size(), 1U) << "which size they belong to is not known";
  domain_->see(figures(700 * kMiB), clock_.now());
  EXPECT_EQ(told_.samples.size(), 2U);
}

TEST_F(DomainTest, ATargetIsCarriedOutAndAnsweredThen) {
  come_up();
  ask(700 * kMiB + Bytes{1});
  const auto errand = domain_->take_errand();
  ASSERT_TRUE(errand);
  EXPECT_EQ(errand->target, 700 * kMiB + kPageSize) << "whole pages, and no less than was granted";
  EXPECT_FALSE(domain_->take_errand()) << "one at a time";
  EXPECT_TRUE(told_.answers.empty());
  domain_->done(*errand, "");
  EXPECT_EQ(told_.answers, std::vector<std::string>{""});
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, 700 * kMiB + kPageSize);
}

TEST_F(DomainTest, ATargetWaitsWhileTheOneBeforeIsCarriedOut) {
  come_up();
  ask(700 * kMiB);
  const auto first = domain_->take_errand();
  ASSERT_TRUE(first);
  ask(600 * kMiB);
  EXPECT_FALSE(domain_->take_errand());
  domain_->done(*first, "");
  const auto second = domain_->take_errand();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->target, 600 * kMiB);
}

TEST_F(DomainTest, WhatLibvirtRefusesIsRefused) {
  come_up();
  ask(700 * kMiB);
  carry_out("internal error");
  EXPECT_EQ(told_.answers, std::vector<std::string>{"internal error"});
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, kGiB);
}

TEST_F(DomainTest, ABalloonThatSomebodyElseMovesIsTakenAsItIs) {
  come_up();
  ask(700 * kMiB);
  carry_out();
  clock_.advance(2s);
  domain_->see(figures(700 * kMiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, 700 * kMiB);
  domain_->see(figures(600 * kMiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, 600 * kMiB);
}

TEST_F(DomainTest, AGuestThatCannotBeMovedIsLeftAloneWithTheReason) {
  const auto reason = [&](const Description& described, int state, bool job) {
    domain_ = domain(described);
    if (job) domain_->note_job(true);
    Figures seen = figures(kGiB);
    seen.state = state;
    domain_->see(seen, clock_.now());
    return told_.balloon_now.obstacle;
  };
  Description bare = description();
  bare.has_balloon = false;
  Description locked = description();
  locked.interlock = "its memory is locked";
  EXPECT_EQ(reason(description(), VIR_DOMAIN_RUNNING, false), "");
  EXPECT_EQ(reason(bare, VIR_DOMAIN_RUNNING, false), "it has no balloon device");
  EXPECT_EQ(reason(locked, VIR_DOMAIN_RUNNING, false), "its memory is locked");
  EXPECT_EQ(reason(description(), VIR_DOMAIN_PAUSED, false), "it does not run: paused");
  EXPECT_EQ(reason(description(), VIR_DOMAIN_PMSUSPENDED, false), "it does not run: suspended by the guest");
  EXPECT_EQ(reason(description(), VIR_DOMAIN_RUNNING, true), "libvirt migrates, saves, dumps or backs it up");
  ask(700 * kMiB);
  EXPECT_TRUE(carry_out().empty());
  EXPECT_EQ(told_.answers.back(), "libvirt migrates, saves, dumps or backs it up");
}

TEST_F(DomainTest, AGuestThatAnotherCallHoldsIsNotTouched) {
  come_up();
  Figures held = figures(kGiB);
  held.asked = false;
  held.updated_at.reset();
  domain_->see(held, clock_.now());
  EXPECT_TRUE(told_.balloon_now.driver_ready) << "as it was";
  ask(700 * kMiB);
  EXPECT_TRUE(carry_out().empty());
  EXPECT_EQ(told_.answers, std::vector<std::string>{"another call to libvirt holds it"});
}

TEST_F(DomainTest, StatisticsArePolledForAndAgainWhenTheyStop) {
  domain_ = domain(description());
  domain_->see(figures(kGiB), clock_.now());
  const auto first = carry_out();
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first.front().kind, Errand::Kind::period);
  EXPECT_EQ(first.front().period, 1s);
  for (int i = 0; i < 30; ++i) {
    domain_->see(figures(kGiB), clock_.now());
    EXPECT_TRUE(carry_out().empty()) << "they come";
  }
  const Figures last = figures(kGiB);
  int asked = 0;
  for (int i = 0; i < 25; ++i) {
    clock_.advance(1s);
    domain_->see(last, clock_.now());
    asked += static_cast<int>(carry_out().size());
  }
  EXPECT_GE(asked, 2);
  EXPECT_LE(asked, 3) << "every 10 s at most";
}

TEST_F(DomainTest, AnIntervalThatTheDomainHasIsLeftWhenItIsShortEnough) {
  Description described = description();
  described.period = 1s;
  surroundings_.stats_interval = 2s;
  domain_ = domain(described);
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_TRUE(carry_out().empty());
}

TEST_F(DomainTest, AGuestThatIsManagedAlreadyIsTriedAgain) {
  told_.refusal =
      JoinRefusal{.kind = JoinRefusal::Kind::already_managed, .reason = "process 7 is already managed"};
  domain_ = domain(description());
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_TRUE(told_.samples.empty());
  EXPECT_TRUE(carry_out().empty());
  told_.refusal.reset();
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_EQ(told_.guests.size(), 1U);
}

TEST_F(DomainTest, AGuestWhoseMemoryIsPluggedJoinsAnew) {
  come_up();
  Figures more = figures(kGiB);
  more.maximum = 2 * kGiB;
  domain_->see(more, clock_.now());
  EXPECT_EQ(told_.leavings, 1);
  ASSERT_EQ(told_.guests.size(), 2U);
  EXPECT_EQ(told_.guests.back().memory, 2 * kGiB);
}

TEST_F(DomainTest, ABalloonThatSomebodyElseMovesInTheMiddleOfOurMoveIsTakenAsItIs) {
  const auto found_after_our_move = [&](const std::vector<Bytes>& sizes, std::optional<Bytes> free) {
    come_up();
    ask(600 * kMiB);
    carry_out();
    for (const Bytes size : sizes) {
      Figures seen = figures(size);
      seen.sample.free = free;
      domain_->see(seen, clock_.now());
    }
    return told_.balloon_now.target;
  };
  EXPECT_EQ(found_after_our_move({900 * kMiB, 800 * kMiB, 700 * kMiB}, 400 * kMiB), 600 * kMiB);
  EXPECT_EQ(found_after_our_move({900 * kMiB, 800 * kMiB, 900 * kMiB}, 400 * kMiB), 900 * kMiB) << "back";
  EXPECT_EQ(found_after_our_move({900 * kMiB, 700 * kMiB, 500 * kMiB}, 400 * kMiB), 500 * kMiB) << "further";
  std::vector<Bytes> stopped{900 * kMiB};
  stopped.insert(stopped.end(), 10, 800 * kMiB);
  EXPECT_EQ(found_after_our_move(stopped, 400 * kMiB), 800 * kMiB) << "somebody stopped it";
  EXPECT_EQ(found_after_our_move(stopped, 10 * kMiB), 600 * kMiB) << "its guest has no more to give";
}

TEST_F(DomainTest, ASizeFromBeforeOurTargetWasSetIsNoSignOfOtherHands) {
  come_up();
  ask(600 * kMiB);
  carry_out();
  domain_->see(figures(900 * kMiB), clock_.now());
  ask(700 * kMiB);
  carry_out();
  domain_->see(figures(900 * kMiB), clock_.now());  // libvirt has heard of nothing since
  domain_->see(figures(640 * kMiB), clock_.now());  // where the balloon was when 700 MiB was set
  domain_->see(figures(700 * kMiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, 700 * kMiB);
}

TEST_F(DomainTest, WhatASlowLookSaysIsAsOldAsItsBeginning) {
  come_up();
  ask(285 * kMiB);
  carry_out();
  clock_.advance(60s);
  domain_->see(figures(783 * kMiB), clock_.now());
  const Time looked = clock_.now();
  clock_.advance(1s);
  domain_->see(figures(772 * kMiB), clock_.now());
  ask(772 * kMiB);  // policy holds it where it is
  carry_out();
  clock_.advance(5s);
  domain_->see(figures(774 * kMiB), looked);
  EXPECT_EQ(told_.balloon_now.target, 772 * kMiB);
  domain_->see(figures(772 * kMiB), clock_.now());
  EXPECT_EQ(told_.balloon_now.target, 772 * kMiB);
}

TEST_F(DomainTest, WhatItIsConfiguredToHaveAtLeastIsALabelForPolicy) {
  Description described = description();
  described.least = 768 * kMiB;
  domain_ = domain(described);
  domain_->see(figures(kGiB), clock_.now());
  EXPECT_EQ(told_.guests.back().labels.at("limits/min"), "768 MiB");
  come_up();
  EXPECT_FALSE(told_.guests.back().labels.contains("limits/min")) << "it has all its memory";
}

}  // namespace
}  // namespace balloon::daemon::libvirt

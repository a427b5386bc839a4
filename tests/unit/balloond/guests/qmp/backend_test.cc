// SPDX-License-Identifier: Apache-2.0
// The backend's thread and the sockets that it finds, with QEMUs that have threads of their own.
#include "balloond/guests/qmp/backend.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "tests/unit/balloond/fakes.h"
#include "tests/unit/balloond/guests/patience.h"
#include "tests/unit/balloond/guests/qmp/fake_qemu.h"
#include "tests/unit/balloond/guests/told.h"

namespace balloon::daemon::qmp {
namespace {

using namespace std::chrono_literals;

/// What the backend's thread tells, for whoever waits for it.
class Guests final : public GuestEvents {
  auto change(const auto& what) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    return what();
  }

 public:
  std::expected<daemon::Session, JoinRefusal> joined(const Registration& registration, const Peer& peer,
                                                     std::shared_ptr<GuestChannel> channel) override {
    return change([&] { return told_.joined(registration, peer, std::move(channel)); });
  }
  void stats(daemon::Session session, const StatsSample& stats) override {
    change([&] { told_.stats(session, stats); });
  }
  void balloon(daemon::Session session, const BalloonState& balloon) override {
    change([&] { told_.balloon(session, balloon); });
  }
  void counters(daemon::Session, const BalloonCounters&) override {}
  void answered(daemon::Session session, Request::Kind kind, std::uint64_t sequence,
                const std::string& refusal) override {
    change([&] { told_.answered(session, kind, sequence, refusal); });
  }
  void left(daemon::Session session) override {
    change([&] { told_.left(session); });
  }
  /// Waits until so it is.
  bool eventually(const std::function<bool(const test::Told&)>& is_so) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, test::kPatience, [&] { return is_so(told_); });
  }
  bool come_to(std::size_t guests, int leavings) {
    return eventually(
        [&](const test::Told& told) { return told.guests.size() == guests && told.leavings == leavings; });
  }
  std::shared_ptr<GuestChannel> channel() {
    const std::lock_guard lock(mutex_);
    return told_.channel;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  test::Told told_;
};

/// A second of the backend's takes twenty, so that a QEMU of a slow machine is none that hangs.
class SlowClock final : public Clock {
 public:
  Time now() const override { return SystemClock().now() / 20; }
  WallTime wall() const override { return SystemClock().wall(); }
};

/// A QEMU that answers by itself.
class LiveQemu {
 public:
  explicit LiveQemu(const std::string& path, bool another_process = false) : qemu_(path, another_process) {
    thread_ = std::thread([this] { run(); });
  }
  ~LiveQemu() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  LiveQemu(const LiveQemu&) = delete;
  LiveQemu& operator=(const LiveQemu&) = delete;

 private:
  void run() {
    while (true) {
      pollfd polled[] = {{.fd = stop_.get(), .events = POLLIN, .revents = 0},
                         {.fd = qemu_.listener_fd(), .events = POLLIN, .revents = 0},
                         {.fd = qemu_.client_fd(), .events = POLLIN, .revents = 0}};
      ::poll(polled, std::size(polled), -1);
      if (polled[0].revents != 0) return;
      while (qemu_.serve()) {
      }
      if (!qemu_.has_client()) qemu_.hang_up();
    }
  }
  FakeQemu qemu_;
  UniqueFd stop_{::eventfd(0, 0)};
  std::thread thread_;
};

class BackendTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return tree_.root() + "/" + name; }
  QmpSockets all(bool exclusive = true) const {
    return {.path = "", .directory = tree_.root(), .pattern = "*.qmp", .exclusive = exclusive};
  }
  QmpSockets one(const std::string& name) const {
    return {.path = path(name), .directory = "", .exclusive = true};
  }
  void manage(std::vector<QmpSockets> sources) {
    const auto done = backend_.manage(std::move(sources), 50ms);
    EXPECT_TRUE(done) << done.error().message;
  }

  test::FakeTree tree_;
  SlowClock clock_;
  Guests guests_;
  Backend backend_{clock_, guests_};
};

TEST_F(BackendTest, WithoutSocketsThereIsNothingToDo) {
  manage({});
  EXPECT_FALSE(backend_.health().configured);
  backend_.stop();
}

TEST_F(BackendTest, GuestsBehindAllSocketsJoinAndLeaveWithTheBackend) {
  const LiveQemu first(path("1.qmp"));
  const LiveQemu second(path("2.qmp"), /*another_process=*/true);
  manage({all()});
  EXPECT_TRUE(backend_.health().configured);
  EXPECT_TRUE(guests_.come_to(2, 0));
  test::expect_eventually(backend_.health().connected, 2);
  EXPECT_EQ(backend_.health().failing, 0U);
  backend_.stop();
  EXPECT_TRUE(guests_.come_to(2, 2));
}

TEST_F(BackendTest, ASocketThatComesLaterIsFound) {
  const LiveQemu first(path("1.qmp"));
  manage({all()});
  EXPECT_TRUE(guests_.come_to(1, 0));
  const LiveQemu later(path("2.qmp"), /*another_process=*/true);
  EXPECT_TRUE(guests_.come_to(2, 0));
}

TEST_F(BackendTest, AGuestIsLookedAtAgainAndAgain) {
  const LiveQemu qemu(path("1.qmp"));
  manage({one("1.qmp")});
  EXPECT_TRUE(guests_.come_to(1, 0));
  guests_.channel()->ask({.kind = Request::Kind::target, .sequence = 1, .target = 300 * kMiB});
  EXPECT_TRUE(guests_.eventually([](const test::Told& told) { return told.answers.size() == 1; }));
  guests_.channel()->ask({.kind = Request::Kind::merging, .sequence = 1});
  EXPECT_TRUE(guests_.eventually([](const test::Told& told) { return told.answers.size() == 2; }));
}

TEST_F(BackendTest, ASocketThatIsNoLongerToBeManagedIsLetGo) {
  const LiveQemu first(path("1.qmp"));
  const LiveQemu second(path("2.qmp"), /*another_process=*/true);
  manage({all()});
  EXPECT_TRUE(guests_.come_to(2, 0));
  manage({one("2.qmp")});
  EXPECT_TRUE(guests_.come_to(2, 1));
  test::expect_eventually(backend_.health().connected, 1);
  manage({});
  EXPECT_TRUE(guests_.come_to(2, 2));
  test::expect_eventually(backend_.health().connected, 0);
  EXPECT_FALSE(backend_.health().configured);
}

TEST_F(BackendTest, ASocketThatIsToBeUsedInAnotherWayIsTakenAnew) {
  const LiveQemu qemu(path("1.qmp"));
  manage({all(/*exclusive=*/true)});
  EXPECT_TRUE(guests_.come_to(1, 0));
  manage({all(/*exclusive=*/false)});
  EXPECT_TRUE(guests_.come_to(2, 1));
  manage({all(/*exclusive=*/false)});
  manage({all(/*exclusive=*/true)});
  EXPECT_TRUE(guests_.come_to(3, 2)) << "and stays as it is otherwise";
}

TEST_F(BackendTest, AGuestWhoseSocketsFileIsGoneStaysWhileItIsConnected) {
  const LiveQemu qemu(path("1.qmp"));
  manage({all()});
  EXPECT_TRUE(guests_.come_to(1, 0));
  std::filesystem::remove(path("1.qmp"));
  const LiveQemu other(path("2.qmp"), /*another_process=*/true);
  EXPECT_TRUE(guests_.come_to(2, 0)) << "the directory has been looked through since";
}

TEST_F(BackendTest, AQemuThatEndsTakesItsGuestWithItAndIsFoundWhenItIsBack) {
  auto qemu = std::make_unique<LiveQemu>(path("1.qmp"));
  manage({all()});
  EXPECT_TRUE(guests_.come_to(1, 0));
  qemu.reset();
  EXPECT_TRUE(guests_.come_to(1, 1));
  test::expect_eventually(backend_.health().failing, 1);
  test::expect_eventually(backend_.health().connected, 0);
  qemu = std::make_unique<LiveQemu>(path("1.qmp"));
  EXPECT_TRUE(guests_.come_to(2, 1));
  test::expect_eventually(backend_.health().failing, 0);
  test::expect_eventually(backend_.health().connected, 1);
}

TEST_F(BackendTest, TwoSocketsOfOneProcessAreOneGuest) {
  const LiveQemu first(path("1.qmp"));
  const LiveQemu second(path("2.qmp"));
  manage({all()});
  EXPECT_TRUE(guests_.come_to(1, 0));
  test::expect_eventually(backend_.health().failing, 1);
  test::expect_eventually(backend_.health().connected, 1);
}

}  // namespace
}  // namespace balloon::daemon::qmp

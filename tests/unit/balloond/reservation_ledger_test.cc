// SPDX-License-Identifier: Apache-2.0
// The ledger: whatever order calls, decisions, writes, failures of the disk and kill -9 come in, nothing is
// granted twice, nothing that was answered is lost, and nothing is kept for nobody.
//
// BALLOON_LEDGER_ROUNDS: how many random histories, each of kSteps steps (scripts/nightly.sh: a million).
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "balloond/control/reservation_file.h"
#include "policy/engine.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using namespace std::chrono_literals;
using Kind = ReservationOutcome::Kind;

constexpr int kSteps = 30;
constexpr const char* kBoot = "boot";
constexpr Bytes kHost = 6 * kGiB;
constexpr std::chrono::nanoseconds kLease = 20s;

/// What a scheduler knows of one request of its own.
struct Wish {
  ReservationRequest request{};
  std::string token{};    ///< answered
  Time lease_at_least{};  ///< answered
  bool release_asked = false;
  bool released = false;  ///< answered
  bool consumed = false;  ///< its guest has come

  /// It must be there: it was granted, and nothing that could end it has been asked for or has happened.
  bool is_promised(Time now) const {
    return !token.empty() && !release_asked && !consumed && now < lease_at_least;
  }
};

class Ledger {
 public:
  explicit Ledger(std::uint64_t seed) : random_(seed) { start(); }

  void run() {
    for (int i = 0; i < kSteps && !::testing::Test::HasFailure(); ++i) step();
    settle_all();
  }
  const std::string& history() const { return history_; }

 private:
  struct Run {
    explicit Run(const Clock& clock) : book(clock) {}
    ReservationBook book;
    policy::Engine engine{policy::Tunables{}};
  };

  std::size_t pick(std::size_t below) { return random_() % below; }
  void note(const std::string& what) { history_ += what + "; "; }

  void start() {
    run_ = std::make_unique<Run>(clock_);
    if (!disk_.empty()) {
      const auto read = read_reservations(disk_, {.now = clock_.now(), .wall = clock_.wall(), .boot = kBoot});
      ASSERT_TRUE(read) << read.error().message;
      run_->book.restore(*read);
    }
    run_->book.keep_by([] {});
  }
  /// What waits for an answer hears no more.
  void kill() {
    note("kill");
    ++life_;
    start();
  }

  void step() {
    switch (pick(13)) {
      case 0:
      case 1:
        return reserve();
      case 2:
        return wishes_.empty() ? reserve() : ask(pick(wishes_.size()));
      case 3:
        return renew(false);
      case 4:
        return renew(true);
      case 5:
        return release();
      case 6:
        return write();
      case 7:
        return fail_to_write();
      case 8:
        return kill();
      case 9:
        return pass();
      case 10:
        return guest();
      default:
        return decide();
    }
  }

  void reserve() {
    Wish wish;
    const std::string number = std::to_string(wishes_.size());
    wish.request = {.id = "g-" + std::to_string(pick(3)),
                    .min = (1 + pick(2)) * kGiB,
                    .priority = 100,
                    .within = 5s,
                    .lease = kLease,
                    .request_id = "r-" + number,
                    .uid = static_cast<uid_t>(pick(2))};
    wish.request.max = wish.request.min;
    wish.request.detached = pick(4) == 0;
    wishes_.push_back(wish);
    ask(wishes_.size() - 1);
  }

  void ask(std::size_t which) {
    Wish& wish = wishes_[which];
    note("ask " + wish.request.request_id + " for " + wish.request.id);
    const auto asked = run_->book.ask(wish.request, nullptr,
                                      wish.request.detached ? ReservationBook::Tell() : hear_grant(which));
    if (!asked) {
      EXPECT_FALSE(wish.is_promised(clock_.now())) << asked.error().reason;
    }
  }

  ReservationBook::Tell hear_grant(std::size_t which) {
    return [this, which, life = life_](const ReservationOutcome& outcome) {
      if (life != life_ || outcome.kind != Kind::granted) return;
      Wish& wish = wishes_[which];
      EXPECT_FALSE(wish.released) << "granted again after its release";
      EXPECT_TRUE(wish.token.empty() || wish.token == outcome.record.token) << "a second grant";
      EXPECT_EQ(outcome.record.wish.request_id, wish.request.request_id);
      wish.token = outcome.record.token;
      wish.lease_at_least = std::max(wish.lease_at_least, outcome.record.lease_ends);
    };
  }

  Wish* held() {
    std::vector<Wish*> some;
    for (Wish& wish : wishes_) {
      if (!wish.token.empty()) some.push_back(&wish);
    }
    return some.empty() ? nullptr : some[pick(some.size())];
  }

  void renew(bool commit) {
    Wish* const wish = held();
    if (wish == nullptr) return;
    note((commit ? "commit " : "extend ") + wish->request.request_id);
    const auto which = static_cast<std::size_t>(wish - wishes_.data());
    if (pick(5) == 0) {
      EXPECT_FALSE(run_->book.extend(wish->request.id, {.token = "wrong"}, kLease, hear_grant(which)));
      return;
    }
    const ReservationBook::Claim claim{.token = wish->token};
    const auto asked = commit ? run_->book.commit(wish->request.id, claim, kLease, hear_grant(which))
                              : run_->book.extend(wish->request.id, claim, kLease, hear_grant(which));
    if (!asked) {
      EXPECT_FALSE(wish->is_promised(clock_.now())) << asked.error().reason;
    }
  }

  void release() {
    Wish* const wish = held();
    if (wish == nullptr) return;
    note("release " + wish->request.request_id);
    const auto which = static_cast<std::size_t>(wish - wishes_.data());
    const bool promised = wish->is_promised(clock_.now());
    const auto tell = [this, which, life = life_](const ReservationOutcome& outcome) {
      if (life == life_ && outcome.kind == Kind::released) wishes_[which].released = true;
    };
    wish->release_asked = true;
    const auto asked = run_->book.release(wish->request.id, {.token = wish->token}, tell);
    EXPECT_TRUE(asked || !promised) << asked.error().reason;
  }

  void write() {
    const auto all = run_->book.unkept();
    if (!all) return;
    note("write");
    disk_ = write_reservations(*all, kBoot);
    if (pick(4) == 0) return kill();  // it is there, and nobody was told
    run_->book.kept(all->revision);
    check();
  }
  /// Which may have put the file in place all the same.
  void fail_to_write() {
    const auto all = run_->book.unkept();
    if (!all) return;
    note("fail");
    if (pick(2) == 0) disk_ = write_reservations(*all, kBoot);
    run_->book.not_kept(all->revision, "the disk is full");
    check();
  }

  void pass() {
    const auto by = pick(3) == 0 ? 15s : 1s;
    note("pass " + std::to_string(by.count()));
    clock_.advance(by);
  }

  /// One comes, as a reserved one or as one of its name that is too small; or they all go.
  void guest() {
    if (!guests_.empty()) {
      note("guests go");
      return guests_.clear();
    }
    policy::GuestSnapshot guest;
    guest.name = "g-" + std::to_string(pick(3));
    guest.memory = pick(2) == 0 ? 2 * kGiB : kGiB / 2;
    guest.actual = guest.target = 64 * kMiB;
    guest.limits.max = guest.memory;
    guest.controllable = pick(3) != 0;
    note("guest " + guest.name + " " + std::to_string(guest.memory / kMiB));
    guests_ = {guest};
  }

  void decide() {
    note("decide");
    policy::Snapshot seen;
    seen.now = clock_.now();
    seen.host.total = seen.host.free = seen.host.available = kHost;
    seen.guests = guests_;
    seen.reservations = run_->book.for_decision(seen.guests);
    const policy::Plan plan = run_->engine.decide(seen);
    Bytes kept{};
    for (const policy::ReservationPlan& each : plan.reservations) kept += each.granted;
    EXPECT_LE(kept, plan.budget) << "more is kept than there is";
    run_->book.settle(seen, plan);
    note_consumed();
    check();
  }

  void note_consumed() {
    for (Wish& wish : wishes_) {
      const auto ended = run_->book.find_ended(wish.request.id);
      if (ended && ended->outcome.kind == Kind::joined && ended->outcome.record.is_granted() &&
          ended->outcome.record.wish.request_id == wish.request.request_id && !wish.consumed) {
        wish.consumed = true;
        EXPECT_GE(guests_.at(0).memory, wish.request.min) << "by a guest that it was not for";
      }
    }
  }

  void check() {
    Bytes granted{};
    std::map<std::string, int> ids;
    std::set<std::string> requests;
    const auto records = run_->book.list();
    for (const ReservationRecord& record : records) {
      granted += record.is_granted() ? record.granted : Bytes{0};
      EXPECT_EQ(ids[record.wish.id]++, 0) << "two of one id";
      EXPECT_TRUE(requests.insert(record.wish.request_id).second) << "two of one request";
    }
    EXPECT_LE(granted, kHost);
    for (const Wish& wish : wishes_) {
      const auto there = std::ranges::find_if(records, [&](const ReservationRecord& record) {
        return record.wish.request_id == wish.request.request_id;
      });
      const bool is_there = there != records.end() && there->is_granted();
      if (wish.is_promised(clock_.now())) {
        EXPECT_TRUE(is_there) << wish.request.request_id << " is lost";
        if (is_there) {
          EXPECT_EQ(there->token, wish.token);
          EXPECT_GE(there->lease_ends, wish.lease_at_least) << wish.request.request_id << " is shortened";
        }
      }
      if (is_there) {
        EXPECT_FALSE(wish.released) << wish.request.request_id << " is kept after its release";
        EXPECT_LE(there->lease_ends, clock_.now() + kLease);
      }
    }
  }

  void keep() {
    const auto all = run_->book.unkept();
    if (!all) return;
    disk_ = write_reservations(*all, kBoot);
    run_->book.kept(all->revision);
  }

  /// Once everybody has had their turn and the last lease is over nothing is kept, in memory or on the disk.
  void settle_all() {
    note("the end");
    guests_.clear();
    for (std::size_t turn = 0; turn <= wishes_.size() && !run_->book.list().empty(); ++turn) {
      decide();
      keep();
      clock_.advance(2 * kLease);
    }
    decide();
    keep();
    EXPECT_TRUE(run_->book.list().empty());
    if (disk_.empty()) return;
    const auto read = read_reservations(disk_, {.now = clock_.now(), .wall = clock_.wall(), .boot = kBoot});
    ASSERT_TRUE(read);
    EXPECT_TRUE(read->grants.empty());
  }

  std::mt19937_64 random_;
  test::FakeClock clock_;
  std::string disk_;
  std::unique_ptr<Run> run_;
  int life_ = 0;
  std::vector<Wish> wishes_;
  std::vector<policy::GuestSnapshot> guests_;
  std::string history_;
};

TEST(ReservationLedgerTest, NothingIsGrantedTwiceLostOrKeptForNobodyWhateverHappensInWhicheverOrder) {
  const char* const wanted = std::getenv("BALLOON_LEDGER_ROUNDS");
  const std::uint64_t rounds = wanted == nullptr ? 5000 : std::strtoull(wanted, nullptr, 10);
  ASSERT_GT(rounds, 0U);
  for (std::uint64_t seed = 1; seed <= rounds; ++seed) {
    Ledger ledger(seed);
    ledger.run();
    ASSERT_FALSE(HasFailure()) << "history " << seed << ": " << ledger.history();
  }
}

}  // namespace
}  // namespace balloon::daemon

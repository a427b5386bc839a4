// What schedulers have reserved, from asking to the end: the engine decides, this remembers and tells. Any
// thread.
//
// Grants, renewals and releases are answered once they are kept: where keep_by() was called, that is when
// somebody (ReservationKeeper) has written them down and says so; else at once.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "balloond/clock.h"
#include "base/log.h"
#include "policy/types.h"

namespace balloon::daemon {

using policy::Bytes;

/// As a guest's boot memory (guests/sanitize.cc).
inline constexpr Bytes kReservationSizeMax = 1ULL << 46;
// scheduler.proto, ReserveRequest.
inline constexpr std::uint32_t kReservationPriorityMax = 10'000;
inline constexpr std::chrono::nanoseconds kLeaseMax = std::chrono::hours(24);

struct ReservationRequest {
  std::string id{};
  Bytes min = 0;
  Bytes max = 0;
  std::uint32_t priority = 100;
  std::chrono::nanoseconds within{};  ///< the memory must be there
  std::chrono::nanoseconds lease{};   ///< how long a grant is kept
};

struct ReservationRecord {
  ReservationRequest wish{};
  Time since{};  ///< when it was asked for; once granted, when it was granted or found granted
  Time deadline{};
  WallTime deadline_wall{};
  policy::GrantState state = policy::GrantState::pending;
  Bytes granted = 0;
  Time lease_ends{};  ///< once granted
  WallTime lease_until{};
};

/// What became of a wish.
struct ReservationOutcome {
  enum class Kind : std::uint8_t {
    granted,
    refused,  ///< at the first look: it cannot be had
    expired,  ///< it could not be had in its time
    released,
    lapsed,   ///< its lease has run out
    joined,   ///< its guest runs: it came before the memory, or was there already
    unsaved,  ///< it could not be written down, so all is as it was before
  } kind = Kind::granted;
  ReservationRecord record{};
  std::string reason{};  ///< of one that is not granted
};

/// How reservations end, by ReservationOutcome::Kind less one.
inline constexpr std::array<std::string_view, 6> kReservationEnds{"refused", "expired", "released",
                                                                  "lapsed",  "joined",  "unsaved"};

/// For the metrics. Written by the book, read by any thread.
struct ReservationCounters {
  std::array<std::atomic<std::uint64_t>, kReservationEnds.size()> ended{};  ///< by kReservationEnds
  std::atomic<std::uint64_t> granted{0};
  std::atomic<Bytes> granted_bytes{0};
  std::atomic<Bytes> used_bytes{0};  ///< of grants whose guest came
};

/// All grants as they are to be kept, in the order in which they came.
struct KeptReservations {
  std::uint64_t revision = 0;
  std::vector<ReservationRecord> grants{};
};

class ReservationBook {
 public:
  /// At once; more would be a program that has gone wrong.
  static constexpr std::size_t kMost = 1000;
  using Tell = std::function<void(const ReservationOutcome&)>;
  enum class Refusal : std::uint8_t { already_exists, too_many };

  explicit ReservationBook(const Clock& clock) : clock_(clock) {}

  /// Sets who is told that there is something to decide. Set before anybody asks.
  void on_change(std::function<void()> listener) { listener_ = std::move(listener); }
  /// Takes over what a book before this one had granted. Before anybody asks.
  void restore(const std::vector<ReservationRecord>& grants);
  /// From now on answers wait for kept(); `changed`, which must not block or call back, says that there is
  /// something to keep. Before anybody asks.
  void keep_by(std::function<void()> changed);

  /// `tell` is called once, with nothing locked: when it is granted and kept, or will not be. When the same
  /// is granted already its lease begins anew. `caller` is whose wish it is, for withdraw().
  std::expected<void, Refusal> ask(const ReservationRequest& request, const void* caller, Tell tell);
  /// The caller no longer waits. What nobody waits for and is not granted yet ends.
  void withdraw(const void* caller);
  /// False when there is none of that id; else `tell` is called once, as for ask().
  bool release(const std::string& id, Tell tell);
  /// In the order in which they came.
  std::vector<ReservationRecord> list() const;

  /// Control thread: the reservations for one decision; ends those whose lease has run out, and those whose
  /// guest is among `guests` (sorted by name) with its driver up: it is counted as a guest then.
  std::vector<policy::Reservation> for_decision(const std::vector<policy::GuestSnapshot>& guests);
  /// Control thread: what was decided of them.
  void settle(const policy::Snapshot& seen, const policy::Plan& plan);

  /// What is to be kept, unless it is kept already.
  std::optional<KeptReservations> unkept() const;
  /// What unkept() gave is on disk: who waits for it is told.
  void kept(std::uint64_t revision);
  /// It is not: what waits for it has not happened, and who waits is told why. It stays unkept.
  void not_kept(std::uint64_t revision, const std::string& why);
  /// The newest attempt to keep it has failed.
  bool failing() const { return failing_; }
  const ReservationCounters& counters() const { return counters_; }

 private:
  struct Waiter {
    const void* caller;
    Tell tell;
  };
  /// What is to happen to an entry as soon as it is kept.
  struct Change {
    ReservationOutcome::Kind kind = ReservationOutcome::Kind::granted;  ///< or released
    std::uint64_t revision = 0;                                         ///< the first that has it
    ReservationRecord record{};                                         ///< of a grant: as it will be
    std::list<Waiter> waiters{};
  };
  struct Entry {
    ReservationRecord record{};
    std::list<Waiter> waiters{};  ///< for the decision
    std::list<Change> changes{};  ///< in the order in which they are to happen
    bool seen = false;            ///< by the newest decision
    bool judged = false;          ///< by some decision, and not denied

    bool granted() const { return record.state == policy::GrantState::granted; }
    bool is_waited_for() const;
    const ReservationRecord& newest() const { return changes.empty() ? record : changes.back().record; }
  };
  struct Answer {
    std::list<Waiter> waiters{};
    ReservationOutcome outcome;
  };
  /// What is said of a change once the book is free: to who waits for it, and in the log.
  struct News {
    std::vector<Answer> answers{};
    log::Later lines{};
  };
  using Entries = std::list<Entry>;

  Entries::iterator find(const std::string& id);
  /// Its end, and what those who wait for it will be told.
  Entries::iterator end(Entries::iterator entry, ReservationOutcome outcome, News& news);
  void grant(Entries::iterator entry, const ReservationRecord& as, std::list<Waiter> waiters, News& news);
  void change(Entries::iterator entry, Change change, News& news);
  /// Lets happen what is kept by `revision`. The entry after it: it may end.
  Entries::iterator carry_out(Entries::iterator entry, std::uint64_t revision, News& news);
  Entries::iterator give_up(Entries::iterator entry, std::uint64_t revision, const std::string& why,
                            News& news);
  void revise();
  static void tell(const News& news);

  const Clock& clock_;
  std::function<void()> listener_;
  std::function<void()> keep_;  ///< empty: nobody keeps it
  mutable std::mutex mutex_;
  Entries entries_;  ///< in the order in which they came
  /// Ended since the newest decision: a new wish by the same id must not inherit what the engine keeps.
  std::set<std::string> ended_;
  std::uint64_t revision_ = 0;  ///< of what is to be kept
  std::uint64_t kept_ = 0;      ///< of what is
  std::atomic<bool> failing_{false};
  ReservationCounters counters_;
};

}  // namespace balloon::daemon

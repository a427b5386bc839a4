// What schedulers have reserved, from asking to the end: the engine decides, this remembers and tells. Any
// thread.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <list>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "balloond/clock.h"
#include "policy/types.h"

namespace balloon::daemon {

using policy::Bytes;

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
    joined,  ///< its guest came before the memory
  } kind = Kind::granted;
  ReservationRecord record{};
  std::string reason{};  ///< of one that is not granted
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

  /// `tell` is called once, with nothing locked: now when the same is granted already (its lease begins
  /// anew), else by the thread that learns of it. `caller` is whose wish it is, for withdraw().
  std::expected<void, Refusal> ask(const ReservationRequest& request, const void* caller, Tell tell);
  /// The caller no longer waits. What nobody waits for and is not granted yet ends.
  void withdraw(const void* caller);
  /// False when there is none of that id.
  bool release(const std::string& id);
  /// In the order in which they came.
  std::vector<ReservationRecord> list() const;

  /// Control thread: the reservations for one decision; ends those whose lease has run out, and those whose
  /// guest is among `guests` (sorted by name) with its driver up: it is counted as a guest then.
  std::vector<policy::Reservation> for_decision(const std::vector<policy::GuestSnapshot>& guests);
  /// Control thread: what was decided of them.
  void settle(const policy::Snapshot& seen, const policy::Plan& plan);

 private:
  struct Waiter {
    const void* caller;
    Tell tell;
  };
  struct Entry {
    ReservationRecord record{};
    std::list<Waiter> waiters{};
    bool seen = false;    ///< by the newest decision
    bool judged = false;  ///< by some decision, and not denied
  };
  struct News {
    std::list<Waiter> waiters{};
    ReservationOutcome outcome;
  };
  using Entries = std::list<Entry>;

  Entries::iterator find(const std::string& id);
  Entries::iterator end(Entries::iterator entry, ReservationOutcome outcome, std::vector<News>& news);
  void grant(Entry& entry, Bytes granted, std::vector<News>& news);
  static void tell(const std::vector<News>& news);

  const Clock& clock_;
  std::function<void()> listener_;
  mutable std::mutex mutex_;
  Entries entries_;  ///< in the order in which they came
  /// Ended since the newest decision: a new wish by the same id must not inherit what the engine keeps.
  std::set<std::string> ended_;
};

}  // namespace balloon::daemon

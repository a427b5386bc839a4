// SPDX-License-Identifier: Apache-2.0
// What schedulers have reserved, from asking to the end: the engine decides, this remembers and tells. Any
// thread.
//
// Grants, renewals and releases are answered once they are kept: where keep_by() was called, that is when
// somebody (ReservationKeeper) has written them down and says so; else at once.
#pragma once

#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "balloond/control/ended_reservations.h"
#include "balloond/control/reservation.h"
#include "base/log.h"
#include "base/mutex.h"

namespace balloon::daemon {

class ReservationBook {
 public:
  /// At once; more would be a program that has gone wrong.
  static constexpr std::size_t kMost = 1000;
  using Tell = std::function<void(const ReservationOutcome&)>;
  template <typename T>
  using Answer = std::expected<T, ReservationRefusal>;

  /// What is shown by whoever changes a reservation: its token, or an operator's word.
  struct Claim {
    std::string token{};
    bool force = false;
  };

  explicit ReservationBook(const Clock& clock) : clock_(clock) {}

  /// Sets who is told that there is something to decide. Set before anybody asks.
  void on_change(std::function<void()> listener) { listener_ = std::move(listener); }
  /// Takes over what a book before this one had granted. Before anybody asks.
  void restore(const KeptReservations& all);
  /// From now on answers wait for kept(); `changed`, which must not block or call back, says that there is
  /// something to keep. Before anybody asks.
  void keep_by(std::function<void()> changed);

  /// `tell` is called once, with nothing locked: when it is granted and kept, or will not be. Empty where
  /// the request is detached. What has the same request_id of the same user is the same reservation.
  /// `caller` is whose wish it is, for withdraw(). Returns the reservation as it is now.
  Answer<ReservationRecord> ask(const ReservationRequest& request, const void* caller, Tell tell);
  /// The caller no longer waits. What nobody waits for and is not granted yet ends, unless it is detached.
  void withdraw(const void* caller);
  /// Begins the lease anew, with the length that it had or another one. `tell` is called once, as for ask().
  Answer<void> extend(const std::string& id, const Claim& claim,
                      std::optional<std::chrono::nanoseconds> lease, Tell tell);
  /// The same, and its guest is being started. Also of one whose guest has come: `tell` hears `joined` then.
  Answer<void> commit(const std::string& id, const Claim& claim,
                      std::optional<std::chrono::nanoseconds> lease, Tell tell);
  Answer<void> release(const std::string& id, const Claim& claim, Tell tell);

  /// In the order in which they came.
  std::vector<ReservationRecord> list() const;
  std::optional<ReservationRecord> find(const std::string& id) const;
  /// The newest of that id that has ended.
  std::optional<EndedReservation> find_ended(const std::string& id) const;

  /// Control thread: the reservations for one decision; ends those whose lease has run out, and those whose
  /// guest is among `guests` (sorted by name) with its driver up: it is counted as a guest then. Refuses new
  /// ones with which boot memory would come to more than `boot_memory_max`.
  std::vector<policy::Reservation> for_decision(const std::vector<policy::GuestSnapshot>& guests,
                                                std::optional<Bytes> boot_memory_max = std::nullopt);
  /// Control thread: what that left of boot_memory_max; nothing where there is none.
  std::optional<Bytes> boot_memory_free() const { return boot_memory_free_; }
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
  using Kind = ReservationOutcome::Kind;
  struct Waiter {
    const void* caller;
    Tell tell;
  };
  /// What is to happen to an entry as soon as it is kept.
  struct Change {
    Kind kind = Kind::granted;   ///< or released
    std::uint64_t revision = 0;  ///< the first that has it
    ReservationRecord record{};  ///< of a grant: as it will be
    std::list<Waiter> waiters{};
  };
  struct Entry {
    ReservationRecord record{};
    std::list<Waiter> waiters{};  ///< for the decision
    std::list<Change> changes{};  ///< in the order in which they are to happen
    bool seen = false;            ///< by the newest decision
    bool judged = false;          ///< by some decision, and not denied
    bool imitated = false;        ///< a guest of its name runs that is not what it is for

    bool granted() const { return record.is_granted(); }
    bool is_waited_for() const;
    /// It will be no more once that is kept.
    bool goes() const;
    const ReservationRecord& newest() const { return changes.empty() ? record : changes.back().record; }
  };
  struct Told {
    std::list<Waiter> waiters{};
    ReservationOutcome outcome;
  };
  /// Who is told of something that has happened once it is kept, too.
  struct Late {
    std::uint64_t revision = 0;
    Waiter waiter;
    ReservationOutcome outcome;
  };
  /// What is said of a change once the book is free: to who waits for it, and in the log.
  struct News {
    std::vector<Told> answers{};
    log::Later lines{};
  };
  using Entries = std::list<Entry>;

  Entries::iterator find_entry(std::string_view id) REQUIRES(mutex_);
  Answer<Entries::iterator> entry_of(const ReservationRequest& request) REQUIRES(mutex_);
  Entries::iterator open(const ReservationRequest& request) REQUIRES(mutex_);
  void wait_with(Entries::iterator entry, Waiter waiter, News& news) REQUIRES(mutex_);
  /// The entry that `claim` may change; else why it may not. Of one that has ended, `ended` has how.
  Answer<Entries::iterator> claimed(const std::string& id, const Claim& claim,
                                    std::optional<ReservationOutcome>& ended) REQUIRES(mutex_);
  Answer<void> renew(const std::string& id, const Claim& claim, bool commit,
                     std::optional<std::chrono::nanoseconds> lease, Tell tell);
  /// Why it ends with this decision; nothing: it goes on.
  std::optional<ReservationOutcome> end_of(Entry& entry, const std::vector<policy::GuestSnapshot>& guests,
                                           News& news) const REQUIRES(mutex_);
  /// Its end, and what those who wait for it will be told.
  Entries::iterator end(Entries::iterator entry, ReservationOutcome outcome, News& news) REQUIRES(mutex_);
  void grant(Entries::iterator entry, const ReservationRecord& as, std::list<Waiter> waiters, News& news)
      REQUIRES(mutex_);
  void change(Entries::iterator entry, Change change, News& news) REQUIRES(mutex_);
  /// Lets happen what is kept by `revision`. The entry after it: it may end.
  Entries::iterator carry_out(Entries::iterator entry, std::uint64_t revision, News& news) REQUIRES(mutex_);
  Entries::iterator give_up(Entries::iterator entry, std::uint64_t revision, const std::string& why,
                            News& news) REQUIRES(mutex_);
  /// Tells those who wait for what is kept by `revision`; `outcome`: that, and not what happened.
  void tell_late(std::uint64_t revision, const std::optional<ReservationOutcome>& outcome, News& news)
      REQUIRES(mutex_);
  void revise() REQUIRES(mutex_);
  static void tell(const News& news);

  const Clock& clock_;
  std::function<void()> listener_;
  std::function<void()> keep_ GUARDED_BY(mutex_);  ///< empty: nobody keeps it
  mutable Mutex mutex_;
  Entries entries_ GUARDED_BY(mutex_);  ///< in the order in which they came
  EndedReservations ended_ GUARDED_BY(mutex_);
  std::list<Late> late_ GUARDED_BY(mutex_);
  std::uint64_t asked_ GUARDED_BY(mutex_) = 0;     ///< wishes, so far
  std::uint64_t revision_ GUARDED_BY(mutex_) = 0;  ///< of what is to be kept
  std::uint64_t kept_ GUARDED_BY(mutex_) = 0;      ///< of what is
  std::atomic<bool> failing_{false};
  std::optional<Bytes> boot_memory_free_;  ///< of the control thread
  ReservationCounters counters_;
};

}  // namespace balloon::daemon

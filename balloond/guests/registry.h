// SPDX-License-Identifier: Apache-2.0
// All guests of the host, whichever hypervisor runs them. One mutex guards it, under which nothing is read
// from /proc and nothing is logged: nothing in it blocks.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "balloond/clock.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/guests/guest_record.h"
#include "balloond/guests/host_processes.h"
#include "balloond/guests/other_hands.h"
#include "base/log.h"
#include "base/mutex.h"
#include "policy/urgency.h"

namespace balloon::daemon {

/// What happened to some guest, for the control loop to wake on.
struct GuestChange {
  enum class Kind : std::uint8_t { joined, left, balloon_moved, stats, pin } kind = Kind::stats;
  std::optional<policy::UseSample> use{};         ///< with Kind::stats, when usable
  std::optional<policy::UseSample> use_before{};  ///< and the sample before it
  bool asked_for = false;                         ///< with Kind::stats: by request_fresh_stats()
  pid_t process = 0;                              ///< of the guest's VMM
};

/// Whose share of the log a guest's or a caller's lines use up: the process's, whatever names it goes by.
log::Source source_of(const Peer& peer);

class Registry final : public GuestEvents {
 public:
  /// `root` goes before /proc: empty but for tests.
  explicit Registry(const Clock& clock, std::string root = "");

  /// Sets who is told of changes; called with the registry locked, so it must not call back. Set before
  /// guests come.
  void on_change(std::function<void(const GuestChange&)> listener) { listener_ = std::move(listener); }

  std::expected<Session, JoinRefusal> joined(const Registration& registration, const Peer& peer,
                                             std::shared_ptr<GuestChannel> channel) override;
  void stats(Session session, const StatsSample& stats) override;
  void balloon(Session session, const BalloonState& balloon) override;
  void counters(Session session, const BalloonCounters& counters) override;
  void answered(Session session, Request::Kind kind, std::uint64_t sequence,
                const std::string& refusal) override;
  void left(Session session) override;

  /// Measures each guest's process, forgets guests that left and whose process is gone, ends pins that ran
  /// out, and judges how much of what VMMs claim counts on a host of `host_total`. The control thread's.
  void refresh(Bytes host_total = Bytes::max());
  /// All guests, by name.
  std::vector<GuestRecord> list() const;
  std::optional<GuestRecord> find(const std::string& name) const;
  /// Asks for a size, unless the guest has left since, is at that target already, or refused that target a
  /// moment ago. Returns whether it asked.
  bool set_target(const std::string& name, Session session, Bytes target);
  /// Returns the guest as it is then; nothing when there is none of that name.
  std::optional<GuestRecord> set_pin(const std::string& name, Bytes target,
                                     std::chrono::nanoseconds duration);
  std::optional<GuestRecord> clear_pin(const std::string& name);
  /// The pin of a guest as it was, where `mine` could not be kept; nothing where there is another one by now.
  void undo_pin(const std::string& name, const std::optional<PinRecord>& mine,
                const std::optional<PinRecord>& before);
  /// Pins of guests that have not joined yet: each has its own when it does, as one has that comes back.
  void await_pins(std::map<std::string, PinRecord> pins);
  /// Every pin that holds, also of guests that have not joined yet.
  std::map<std::string, PinRecord> all_pins() const;
  /// Every pin that is in force, as policy counts it.
  std::map<std::string, Bytes> pins() const;
  /// Asks each guest whose newest statistics are older than `age` for fresh ones; how many were asked.
  int request_fresh_stats(std::chrono::nanoseconds age);
  /// Returns the guest as it is when it has been asked; nothing when none of that name is connected.
  std::optional<GuestRecord> set_merging(const std::string& name, bool merging);
  /// Asks the guest's VMM to keep its memory from KSM, unless that is so, is under way, or was refused a
  /// moment ago. Returns whether it asked.
  bool keep_from_merging(const std::string& name, Session session);
  void set_stats_interval(std::chrono::nanoseconds interval);
  std::chrono::nanoseconds stats_interval() const;
  /// How hypervisors answered, by kBackends; any thread.
  std::span<const RequestCounters> requests() const { return requests_; }

 private:
  /// The newest request of a kind.
  struct Outstanding {
    Request request;
    bool pending = false;  ///< it has no answer yet
    Time asked_at{};
    Time waiting_since{};  ///< with `pending`: when the first was asked that has none
  };
  struct Entry {
    GuestRecord record;
    std::shared_ptr<GuestChannel> channel;
    std::shared_ptr<VmmObserver> observer;  ///< look() is the control thread's, once the guest has joined
    std::optional<StatsSample> previous;    ///< the newest message of this boot, usable or not
    std::array<Outstanding, kRequestKinds> requests{};  ///< by their kinds
    std::optional<Time> merging_kept_at{};              ///< when keep_from_merging() asked last
    bool counts_reads = false;                          ///< its hypervisor has told what its disks read
    std::optional<Bytes> disk_read_seen{};              ///< where it never has: what its process read
    std::optional<Bytes> refused_target;
    Time refused_at{};
    OtherHands other_hands{};

    Outstanding& newest(Request::Kind kind) { return requests.at(static_cast<std::size_t>(kind)); }
    void ask(Request request, Time now);
  };
  Entry* by_session(Session session) REQUIRES(mutex_);
  /// Of the hypervisor that runs the guest; null: none of kBackends.
  RequestCounters* requests_of(const GuestRecord& guest);
  static void contested(GuestRecord& record, const Contest& contest, log::Later& lines);
  void target_refused(Entry& entry, const std::string& refusal, log::Later& lines) REQUIRES(mutex_);
  static void merging_answered(Entry& entry, const std::string& refusal, log::Later& lines);
  const GuestRecord* managed_by_another(const GuestRecord& guest) const REQUIRES(mutex_);
  void take_over(GuestRecord& guest, const GuestRecord& before) REQUIRES(mutex_);
  void tell(const GuestChange& change) const REQUIRES(mutex_);
  HostProcesses::Sights claims() const EXCLUDES(mutex_);
  void look_for_suspects() EXCLUDES(mutex_);
  /// `alive`: its process.
  bool is_gone(const Entry& entry, bool alive) const REQUIRES(mutex_);
  std::optional<Session> ended_stay(const std::string& name) const EXCLUDES(mutex_);

  const Clock& clock_;
  const std::string root_;
  HostProcesses processes_;
  std::function<void(const GuestChange&)> listener_;
  mutable Mutex mutex_;
  std::map<std::string, Entry> guests_ GUARDED_BY(mutex_);
  std::map<Session, std::string> names_ GUARDED_BY(mutex_);
  /// Of guests that have not joined yet, or are gone.
  std::map<std::string, PinRecord> awaited_pins_ GUARDED_BY(mutex_);
  Session last_session_ GUARDED_BY(mutex_) = 0;
  std::array<RequestCounters, kBackends.size()> requests_;
  std::chrono::nanoseconds stats_interval_ GUARDED_BY(mutex_) = std::chrono::seconds(1);
};

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
// All guests of the host, whichever hypervisor runs them. One mutex guards it, under which nothing is read
// from /proc and nothing is logged: nothing in it blocks.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "balloond/clock.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/guests/credit.h"
#include "balloond/host/vmm_observer.h"
#include "base/log.h"
#include "policy/urgency.h"

namespace balloon::daemon {

struct PinRecord {
  Bytes target = 0;
  Time expires{};
  WallTime until;
  bool operator==(const PinRecord&) const = default;
};

/// Somebody else moved a guest's balloon: a person at a monitor, another controller.
struct Contest {
  Time since{};    ///< when it was noticed
  Time noticed{};  ///< when the newest move was
  WallTime noticed_wall;
  Bytes from = 0;  ///< our target
  Bytes to = 0;    ///< what was found instead
  /// Controllers that move balloons and run on this host: one of them may have it. Unset: not looked for yet.
  std::optional<std::string> suspects{};
};

/// One guest, as known now.
struct GuestRecord {
  Session session = 0;
  std::string name;
  std::map<std::string, std::string> labels;
  Bytes memory = 0;
  std::uint32_t vcpus = 0;
  std::string hypervisor;
  std::string version;  ///< of the hypervisor
  Capabilities can;
  Peer peer;
  bool connected = false;
  BalloonState balloon;
  Time ready_since{};  ///< when its balloon driver came up, or was found up
  /// Size last asked for: by this daemon, or as found when the guest joined.
  Bytes target = 0;
  policy::GuestOnHost on_host;               ///< by the newest look at its process: its part of that
  Credit credit;                             ///< how much of its sizes counts
  std::optional<StatsSample> said;           ///< newest message, as sent, less unknown values
  std::optional<policy::GuestStats> usable;  ///< what of it policy may act on
  std::optional<BalloonCounters> counters;   ///< newest, of its balloon since the guest booted
  std::optional<bool>
      merging;  ///< whether KSM may share its pages, by its VMM's word; unset: it does not say
  std::string merging_refusal;  ///< of the newest request about that; empty when it was done
  std::string complaint;        ///< why the newest message is not usable; empty when it is
  std::optional<PinRecord> pin;
  std::optional<Contest> contest;  ///< the newest, until a target of ours holds again
  std::uint64_t contests = 0;
  std::uint64_t rejected = 0;  ///< messages that made no sense
  std::uint64_t refused = 0;   ///< targets that its VMM refused
};

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
  void refresh(Bytes host_total = ~Bytes{0});
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
    Time left_at{};
    std::optional<Bytes> refused_target;
    Time refused_at{};
    bool accepted = false;        ///< the newest target, by the hypervisor
    bool target_is_ours = false;  ///< and it has said so; nobody has moved it since
    std::optional<Contest>
        suspicion{};  ///< a balloon that grew: the next statistics tell whether it gave way

    Outstanding& newest(Request::Kind kind) { return requests.at(static_cast<std::size_t>(kind)); }
    void ask(Request request, Time now);
  };
  Entry* by_session(Session session);
  /// Of the hypervisor that runs the guest; null: none of kBackends.
  RequestCounters* requests_of(const GuestRecord& guest);
  void note_other_hands(Entry& entry, const BalloonState& balloon, log::Later& lines);
  bool is_suspected(const Entry& entry, Bytes target) const;
  static void contested(GuestRecord& record, const Contest& contest, log::Later& lines);
  void target_refused(Entry& entry, const std::string& refusal, log::Later& lines);
  static void merging_answered(Entry& entry, const std::string& refusal, log::Later& lines);
  const GuestRecord* managed_by_another(const GuestRecord& guest) const;
  void tell(const GuestChange& change) const;
  /// What a look at a process found.
  struct Sight {
    Bytes memory = 0;  ///< of its guests together
    int guests = 0;
    bool reads_are_counted = true;     ///< by the hypervisor, of each of them
    std::optional<Bytes> disk_read{};  ///< where they are not, and there is one guest only: by the process
    std::optional<policy::GuestOnHost> on_host{};  ///< nothing once the process has ended
    Credit credit{};
  };
  using Sights = std::map<std::shared_ptr<VmmObserver>, Sight>;
  Sights look(Bytes host_total);
  void look_for_suspects();
  void look_at_rooms(const Sights& sights);
  /// The part of what is seen of its process that is the guest's.
  static policy::GuestOnHost part_of(const Sight& sight, const GuestRecord& guest);
  std::shared_ptr<VmmObserver> observer_of(pid_t pid);
  /// `alive`: its process.
  bool is_gone(const Entry& entry, bool alive) const;
  std::optional<Session> ended_stay(const std::string& name) const;

  const Clock& clock_;
  const std::string root_;
  std::function<void(const GuestChange&)> listener_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> guests_;
  std::map<Session, std::string> names_;
  std::map<std::string, PinRecord> awaited_pins_;  ///< of guests that have not joined yet, or are gone
  std::map<pid_t, std::weak_ptr<VmmObserver>> observers_;
  /// The control thread's: the last whose room was looked at again, and when.
  std::shared_ptr<VmmObserver> room_looked_at_;
  std::optional<Time> rooms_looked_at_;
  Session last_session_ = 0;
  std::array<RequestCounters, kBackends.size()> requests_;
  std::chrono::nanoseconds stats_interval_ = std::chrono::seconds(1);
};

}  // namespace balloon::daemon

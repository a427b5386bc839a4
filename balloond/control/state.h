// SPDX-License-Identifier: Apache-2.0
// One state of everything, as of one tick. Immutable once published: the API and the metrics read it, nothing
// else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "balloond/control/guest_state.h"
#include "balloond/control/reservation_book.h"
#include "balloond/control/token.h"
#include "balloond/guests/registry.h"
#include "balloond/host/sampler.h"
#include "base/mutex.h"
#include "policy/outlook.h"
#include "policy/types.h"

namespace balloon::daemon {

struct GuestStatus {
  GuestRecord record;
  std::optional<Time> contested_until;  ///< it is left alone until then: somebody else moved its balloon
  policy::GuestLimits limits;
  policy::GuestPlan plan;
  Bytes actual{};               ///< its size that the plan was made from
  std::uint64_t reversals = 0;  ///< targets against its last one, within a minute
};

struct State {
  std::uint64_t revision = 0;
  Time at{};
  WallTime wall;
  HostSample host;
  Bytes reserve{};
  Bytes budget{};
  Bytes committed{};   ///< sum of max(actual, target)
  Bytes reserved{};    ///< kept for reservations
  Bytes configured{};  ///< sum of boot memory
  policy::HostState host_state = policy::HostState::unspecified;
  std::string not_applied;          ///< why decisions are not applied; empty: they are
  std::vector<GuestStatus> guests;  ///< by name
  policy::Outlook outlook{};        ///< what is left for guests to be
  /// The boot memory that they may have (admission.ram_allocation_ratio); nothing: any.
  std::optional<Bytes> boot_memory_free{};

  const GuestStatus* find(const std::string& name) const;
};

/// The least that the guest can be brought to now: its minimum, what it is pinned at, or what it counts with
/// while it cannot be moved. Guests whose floors exceed the budget together are what makes a host infeasible.
Bytes floor_of(const GuestStatus& guest);

/// Why the guest's target is what it is, as of `state`: a sentence, made when somebody asks for it.
std::string explain(const GuestStatus& guest, const State& state);

/// Why the host's memory state is what it is; empty while it is normal.
std::string explain_host(const State& state);

/// Where the newest state is, and who wants to know of it.
class StateStore {
 public:
  class Reader {
   public:
    virtual ~Reader() = default;
    /// A newer state is there. Called by the control thread: must not block.
    virtual void state_changed() = 0;
  };

  void publish(std::shared_ptr<const State> state);
  /// Never null: before the first tick it is an empty state with revision 0.
  std::shared_ptr<const State> newest() const;
  /// Of this run of the daemon, whose revisions say nothing of those of another.
  const std::string& epoch() const { return epoch_; }
  void subscribe(std::weak_ptr<Reader> reader);

 private:
  const std::string epoch_ = new_token();
  mutable Mutex mutex_;
  std::shared_ptr<const State> newest_ GUARDED_BY(mutex_) = std::make_shared<State>();
  std::vector<std::weak_ptr<Reader>> readers_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
// What the daemon knows of a guest, whichever hypervisor runs it.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "balloond/clock.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/credit.h"
#include "policy/types.h"

namespace balloon::daemon {

struct PinRecord {
  Bytes target{};
  Time expires{};
  WallTime until;
  bool operator==(const PinRecord&) const = default;
};

/// Somebody else moved a guest's balloon: a person at a monitor, another controller.
struct Contest {
  Time since{};    ///< when it was noticed
  Time noticed{};  ///< when the newest move was
  WallTime noticed_wall;
  Bytes from{};  ///< our target; the contest ends when the balloon has it again
  Bytes to{};    ///< what was found instead
  /// Controllers that move balloons and run on this host: one of them may have it. Unset: not looked for yet.
  std::optional<std::string> suspects{};
};

/// One guest, as known now.
struct GuestRecord {
  Session session = 0;
  std::string name;
  std::map<std::string, std::string> labels;
  Bytes memory{};
  std::uint32_t vcpus = 0;
  std::string hypervisor;
  std::string version;  ///< of the hypervisor
  Capabilities can;
  Peer peer;
  bool connected = false;
  Time left_at{};  ///< when its hypervisor's connection ended
  BalloonState balloon;
  Time ready_since{};  ///< when its balloon driver came up, or was found up
  /// Size last asked for: by this daemon, or as found when the guest joined.
  Bytes target{};
  std::optional<Time> unanswered{};  ///< since when its VMM owes an answer to a target, if that is long ago
  policy::GuestOnHost on_host;       ///< by the newest look at its process: its part of that
  Credit credit;                     ///< how much of its sizes counts
  std::optional<StatsSample> said;   ///< newest message, as sent, less unknown values
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

}  // namespace balloon::daemon

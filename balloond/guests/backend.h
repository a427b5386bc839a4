// SPDX-License-Identifier: Apache-2.0
// The seam between the daemon and the hypervisors whose balloons it moves. A backend is a file or a folder
// here: it finds guests, tells GuestEvents what they do, and gives each a GuestChannel through which its
// balloon is driven. Whatever a hypervisor does or fails to do, no call of either waits for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "balloond/guests/guest.h"

namespace balloon::daemon {

/// One stay of one guest, from joining to leaving. Never used twice, so that late news of a former stay harm
/// nobody.
using Session = std::uint64_t;

/// Something that is asked of a guest's hypervisor. GuestEvents::answered has the answer.
struct Request {
  enum class Kind : std::uint8_t {
    target,   ///< a size
    stats,    ///< statistics that the guest gathers from now on; they come as GuestEvents::stats
    merging,  ///< KSM may share equal pages of the guest's memory, or may no longer
  };
  Kind kind = Kind::target;
  std::uint64_t sequence = 0;  ///< rises with each request of its kind in a session
  Bytes target{};              ///< with Kind::target
  bool merging = false;        ///< with Kind::merging
};
inline constexpr std::size_t kRequestKinds = 3;

/// The way to one guest's balloon. Calls come from any thread, never block, and do nothing once the guest has
/// left.
class GuestChannel {
 public:
  virtual ~GuestChannel() = default;
  /// A newer request may take the place of one of its kind that is not on its way yet.
  virtual void ask(const Request& request) = 0;
  virtual void set_stats_interval(std::chrono::nanoseconds interval) = 0;
};

struct JoinRefusal {
  enum class Kind : std::uint8_t {
    invalid,
    already_exists,   ///< another process runs a guest of that name
    already_managed,  ///< that process's guest is managed by another backend
  } kind = Kind::invalid;
  std::string reason;
};

/// What backends report. Everything is validated behind this interface. Calls come from any thread and do not
/// block.
class GuestEvents {
 public:
  virtual ~GuestEvents() = default;
  virtual std::expected<Session, JoinRefusal> joined(const Registration& registration, const Peer& peer,
                                                     std::shared_ptr<GuestChannel> channel) = 0;
  virtual void stats(Session session, const StatsSample& stats) = 0;
  virtual void balloon(Session session, const BalloonState& balloon) = 0;
  virtual void counters(Session session, const BalloonCounters& counters) = 0;
  /// `refusal` is empty when it was done. Of statistics only a refusal is an answer; else they come
  /// themselves.
  virtual void answered(Session session, Request::Kind kind, std::uint64_t sequence,
                        const std::string& refusal) = 0;
  virtual void left(Session session) = 0;
};

}  // namespace balloon::daemon

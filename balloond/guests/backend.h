// The seam between the daemon and the hypervisors whose balloons it moves. A backend is one file: it finds
// guests, tells GuestEvents what they do, and gives each a GuestChannel through which its balloon is driven.
// A guest's state travels in the words of the guest link (balloon.v1), whatever the hypervisor speaks itself.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "balloon/v1/guest_link.pb.h"
#include "policy/types.h"

namespace balloon::daemon {

/// One stay of one guest, from joining to leaving. Never used twice, so that late news of a former stay harm
/// nobody.
using Session = std::uint64_t;

/// Who runs a guest, by the kernel's word.
struct Peer {
  pid_t pid = 0;  ///< 0: unknown
  uid_t uid = static_cast<uid_t>(-1);
};

/// The way to one guest's balloon. Calls come from any thread, never block, and do nothing once the guest has
/// left.
class GuestChannel {
 public:
  virtual ~GuestChannel() = default;
  /// Asks for a size. The answer comes as GuestEvents::target_result with the same number.
  virtual void set_target(std::uint64_t sequence, policy::Bytes target) = 0;
  virtual void set_stats_interval(std::chrono::nanoseconds interval) = 0;
  /// Asks for statistics that the guest gathers from now on; they come as GuestEvents::stats.
  virtual void request_stats(std::uint64_t sequence) = 0;
  /// Lets KSM share equal pages of the guest's memory, or ends that. The answer comes as
  /// GuestEvents::merging_result.
  virtual void set_merging(std::uint64_t sequence, bool merging) = 0;
};

struct JoinRefusal {
  enum class Kind : std::uint8_t { invalid, already_exists } kind = Kind::invalid;
  std::string reason;
};

/// What backends report. Everything is validated behind this interface. Calls come from any thread and do not
/// block.
class GuestEvents {
 public:
  virtual ~GuestEvents() = default;
  virtual std::expected<Session, JoinRefusal> joined(const v1::Register& registration, const Peer& peer,
                                                     std::shared_ptr<GuestChannel> channel) = 0;
  virtual void stats(Session session, const v1::GuestStats& stats) = 0;
  virtual void balloon(Session session, const v1::BalloonUpdate& balloon) = 0;
  virtual void counters(Session session, const v1::BalloonCounters& counters) = 0;
  virtual void target_result(Session session, std::uint64_t sequence, const std::string& refusal) = 0;
  virtual void stats_result(Session session, std::uint64_t sequence, const std::string& refusal) = 0;
  virtual void merging_result(Session session, std::uint64_t sequence, const std::string& refusal) = 0;
  virtual void left(Session session) = 0;
};

}  // namespace balloon::daemon

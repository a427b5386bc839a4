// SPDX-License-Identifier: Apache-2.0
// One running domain as a guest: what the daemon is told of it, and what is asked of it. No call to libvirt
// is made here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/guests/held_memory.h"
#include "balloond/guests/libvirt/description.h"
#include "balloond/guests/libvirt/figures.h"
#include "balloond/guests/mailbox.h"
#include "balloond/guests/our_target.h"
#include "base/log.h"

namespace balloon::daemon::libvirt {

/// What domains and their libvirtd share.
struct Surroundings {
  const Clock& clock;
  GuestEvents& guests;
  /// Wakes the backend's thread; any thread.
  std::function<void()> wake;
  std::chrono::nanoseconds stats_interval;  ///< as configured, for guests to come
  BackendHealth& health;
};

/// Something to be done to a domain, which may take its time.
struct Errand {
  enum class Kind : std::uint8_t { target, period } kind = Kind::target;
  std::uint64_t number = 0;  ///< rises with each of a libvirtd
  std::string uuid;
  std::uint64_t sequence = 0;  ///< of the request
  Bytes target{};
  std::chrono::seconds period{0};
};

class Domain {
 public:
  Domain(const Surroundings& surroundings, std::string uri, std::string version, Description description,
         const Peer& peer);
  /// The guest leaves.
  ~Domain();
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;

  /// `looked`: when libvirt was asked for them.
  void see(const Figures& figures, Time looked);
  void note_job(bool has_job) { has_job_ = has_job; }
  void note_reboot();
  void on_mail();
  /// The next thing to be done, unless one is under way already.
  std::optional<Errand> take_errand();
  /// `refusal` is empty when it was done.
  void done(const Errand& errand, const std::string& refusal);

 private:
  bool driver_ready() const;
  Bytes memory() const;
  Bytes actual() const;
  std::string obstacle() const;
  BalloonState balloon() const;
  void join();
  void note_other_hands(Time looked);
  void report_sample(bool moved);
  void refuse_target(const std::string& reason);
  void complain(const std::string& complaint);

  const Surroundings& surroundings_;
  const std::string uri_;
  const std::string version_;
  const Description description_;
  const Peer peer_;

  Figures figures_;
  HeldMemory held_;
  bool has_job_ = false;
  std::optional<std::chrono::seconds> rebooted_at_;  ///< by the wall clock
  std::optional<Session> guest_;
  std::shared_ptr<Mailbox> mailbox_;
  std::chrono::nanoseconds stats_interval_;
  BalloonState told_;
  OurTarget ours_;
  std::optional<Time> asked_at_;  ///< for the target
  std::optional<Bytes> last_actual_;
  std::optional<Request> waiting_;  ///< a target that is not on its way yet
  bool errand_under_way_ = false;
  std::optional<std::chrono::seconds> sampled_;  ///< time of the newest statistics seen
  Time sampled_at_{};                            ///< when they were seen
  std::chrono::seconds period_;                  ///< of its statistics, as far as we know
  std::optional<Time> period_asked_at_;
  std::string complaint_;
};

}  // namespace balloon::daemon::libvirt

// SPDX-License-Identifier: Apache-2.0
// The controller that comes with qemus/qemu: a proportional-integral loop on the host's free memory, one for
// each guest, none of which knows of the others.
#pragma once

#include <optional>

#include "policy/controller.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// Published constants of qemus/qemu (src/balloon.py), under the names of its options.
struct PiSettings {
  double min_mem = 0.33;           ///< of a guest's memory, for guests that have no minimum of their own
  double psi_pressure = 10;        ///< PSI some avg10 in percent from which on guests have less than all
  double psi_pressure_max = 50;    ///< and at which they have their minimum
  double ram_threshold = 80;       ///< percent of the host's memory to have in use
  double ram_threshold_hard = 90;  ///< above this guests get less than they use
  Bytes hysteresis = 128 * kMiB;
  double kp = 0.5;
  double ki = 0.05;
  double interval = 5;  ///< s; the error of a turn that comes sooner counts for less
};

class PiLoops final : public Controller {
 public:
  explicit PiLoops(const PiSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Loop {
    std::optional<double> first_total;  ///< MemTotal of the first statistics: tells the driver's accounting
    std::optional<double> last_target;  ///< bytes
    double integral = 0;                ///< of the error, s
    std::optional<Time> turned_at;
  };
  struct Range {
    double low = 0;
    double high = 0;
  };

  void turn(Loop& loop, const GuestSnapshot& guest, const HostSnapshot& host, Time now,
            GuestPlan& plan) const;
  Range range(const Loop& loop, const GuestSnapshot& guest, const HostSnapshot& host, double least) const;
  double control(Loop& loop, const GuestSnapshot& guest, double host_free, double passed,
                 const Range& range) const;

  PiSettings settings_;
  Roster<Loop> loops_;
};

}  // namespace balloon::policy::peers

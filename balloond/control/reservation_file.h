// SPDX-License-Identifier: Apache-2.0
// The grants on disk: one small file (proto/balloon/state/v1), replaced whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "balloond/control/reservation_book.h"
#include "balloond/control/stored_time.h"
#include "base/error.h"

namespace balloon::daemon {

std::string write_reservations(const KeptReservations& all, const std::string& boot);

/// The grants whose lease is not over at `at`, and what has ended: of grants whose lease is over, too, if
/// their request may be asked again. Also of the format before this one. A lease ends by the clock that
/// counts since boot, and after another boot by the clock on the wall; however that was set, no lease has
/// more left than its length. What is not as it was written is refused, with what it is.
Result<KeptReservations> read_reservations(std::string_view text, const Moment& at);

class ReservationFile {
 public:
  /// A thousand reservations and a thousand that ended, with the longest names, take some 2 MiB.
  static constexpr std::size_t kSizeMax = 4U << 20;

  ReservationFile(const Clock& clock, std::string path, std::string boot = boot_id());

  /// Nothing when there is no file. The error says what to do.
  Result<KeptReservations> load() const;
  /// On the disk when it returns.
  Result<void> save(const KeptReservations& all) const;

  const std::string& path() const { return path_; }

 private:
  const Clock& clock_;
  std::string path_;
  std::string boot_;
};

}  // namespace balloon::daemon

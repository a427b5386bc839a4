// SPDX-License-Identifier: Apache-2.0
// The pins on disk: one small file (proto/balloon/state/v1), replaced whole.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "balloond/control/stored_time.h"
#include "balloond/guests/registry.h"

namespace balloon::daemon {

using Pins = std::map<std::string, PinRecord>;

std::string write_pins(const Pins& pins, const std::string& boot);
/// Those that are not over at `at`: within a boot by the clock that counts since then, after another by the
/// clock on the wall, and however that was set for no longer than a pin may hold.
Result<Pins> read_pins(std::string_view text, const Moment& at);

class PinFile {
 public:
  /// 10,000 guests with the longest names take some 2 MiB.
  static constexpr std::size_t kSizeMax = 4U << 20;

  PinFile(const Clock& clock, std::string path, std::string boot = boot_id());

  /// Nothing when there is no file. The error says what to do.
  Result<Pins> load() const;
  /// On the disk when it returns.
  Result<void> save(const Pins& pins) const;

  const std::string& path() const { return path_; }

 private:
  const Clock& clock_;
  std::string path_;
  std::string boot_;
};

}  // namespace balloon::daemon

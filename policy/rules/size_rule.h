// SPDX-License-Identifier: Apache-2.0
// A size as a policy writes it: fixed, a share of memory, or Hyper-V's floor for Linux guests.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/strict_yaml.h"

namespace balloon::policy::rules {

struct SizeRule {
  Bytes bytes{};
  double ratio = 0;          ///< of memory; used when not 0
  bool linux_floor = false;  ///< goes before both
  bool operator==(const SizeRule&) const = default;

  /// What it is of `memory`, not rounded to pages.
  Bytes of(Bytes memory) const;
};

/// What a Linux guest needs at least to go on, by Hyper-V's driver (drivers/hv/hv_balloon.c,
/// compute_balloon_floor): 8 MiB and half of the memory below 128 MiB, then 40 MiB and 1/4 below 512 MiB, 104
/// MiB and 1/8 below 2 GiB, 232 MiB and 1/16 below 8 GiB, 488 MiB and 1/32 above. 360 MiB of 2 GiB.
Bytes linux_floor(Bytes memory);

/// Without rounding, so that two sizes have the same text only when they are the same: "1536 MiB".
std::string exact_bytes(Bytes bytes);

/// As it is written: "512 MiB", "25%", "linux-floor".
std::string describe(const SizeRule& rule);

/// What shares are of, in words, and whether the floor makes sense there.
struct SizeWords {
  std::string_view whole = "boot memory";
  bool floor = false;
};

/// Reads "512MiB", "25%" or "linux-floor"; at least one page.
void read_size_rule(const yaml::Value& value, const SizeWords& words, SizeRule& out);

/// A share above 0 % and at most `most` %, as a ratio; complains and returns false when it is none.
bool read_percent(const yaml::Value& value, std::string_view whole, double most, double& out);

}  // namespace balloon::policy::rules

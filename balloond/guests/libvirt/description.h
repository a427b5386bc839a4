// SPDX-License-Identifier: Apache-2.0
// What a domain's XML says that matters here. Pure.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "balloond/guests/guest.h"

namespace balloon::daemon::libvirt {

/// Of the element in <metadata> that has a guest's labels: <label name="tier" value="batch"/>.
inline constexpr std::string_view kMetadataUri = "urn:balloond:guest";

struct Description {
  std::string name;
  std::string guest;  ///< what it is called as a guest
  Bytes memory{};     ///< <memory>: boot memory
  Bytes current{};    ///< <currentMemory>; of a running domain what its balloon has
  Bytes least{};      ///< <currentMemory> of its next start, where that is below <memory>; 0: not so
  std::uint32_t vcpus = 0;
  bool has_balloon = false;
  bool deflate_on_oom = false;       ///< autodeflate
  bool free_page_reporting = false;  ///< freePageReporting
  bool merging = true;               ///< KSM may share its memory: no <nosharepages/>
  std::chrono::seconds period{0};    ///< of statistics; 0: off
  /// Why its balloon frees nothing, for a person; empty: it does.
  std::string interlock;
  std::map<std::string, std::string> labels;
};

Result<Description> read_description(const std::string& xml);

}  // namespace balloon::daemon::libvirt

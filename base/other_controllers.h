// SPDX-License-Identifier: Apache-2.0
// Programs that also move balloons or run KSM on this host, known by their names.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace balloon {

struct OtherController {
  std::string name;  ///< as its package calls it
  pid_t pid = 0;
  bool moves_balloons = false;
  bool runs_ksm = false;
  std::string advice;  ///< how it and balloond get along
};

/// Those that run now, each once, by name. Reads `root`/proc: one small file a process, for interpreters two.
/// A process that ends meanwhile is left out.
std::vector<OtherController> other_controllers(const std::string& root = "");

}  // namespace balloon

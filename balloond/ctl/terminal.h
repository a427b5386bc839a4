// SPDX-License-Identifier: Apache-2.0
// What standard output is: a terminal with a size and colours, or a pipe or file with neither.
#pragma once

namespace balloon::ctl {

struct Terminal {
  unsigned columns = 0;  ///< 0: no terminal, nothing is cut
  unsigned rows = 0;
  bool colour = false;

  static Terminal of_output();
};

}  // namespace balloon::ctl

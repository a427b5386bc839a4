// SPDX-License-Identifier: Apache-2.0
// Cuts a stream of bytes into JSON objects, as QEMU's monitor does: by matching braces and brackets, not by
// lines. Tools send with newlines, without, and several requests at once. Bounded whatever comes. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace balloon::vmm {

class JsonFrames {
 public:
  /// Far more than any request needs; a client that sends more without an end is not a client.
  static constexpr std::size_t kMaxBytes = std::size_t{256} * 1024;
  /// Requests are three deep at most.
  static constexpr std::uint32_t kMaxDepth = 64;

  /// Calls `each` with every value that `bytes` completes: an object or array, or a run of other characters
  /// up to the end of its line (which is no request, but wants an answer). A character that no value can have
  /// (a control character, 0xFE, 0xFF) ends what there is of one: so a client gets back to a known state
  /// (QEMU's docs/interop/qmp-spec, "Expected Client Behavior"). After an error nothing more is taken.
  Result<void> feed(std::string_view bytes, const std::function<void(std::string_view)>& each);

 private:
  std::string pending_;
  std::uint32_t depth_ = 0;
  char quote_ = 0;  ///< of the string that the bytes are in; 0: they are in none
  bool escaped_ = false;
  bool failed_ = false;
  bool lost_ = false;  ///< skips what follows a broken value, up to where another may begin
};

}  // namespace balloon::vmm

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
  static constexpr std::size_t kMaxBytes = 256 * 1024;
  /// Requests are three deep at most.
  static constexpr std::uint32_t kMaxDepth = 64;

  /// Calls `each` with every value that `bytes` completes: an object or array, or a run of other characters
  /// up to the end of its line (which is no request, but wants an answer). After an error nothing more is
  /// taken: the stream has no known place to go on from.
  Result<void> feed(std::string_view bytes, const std::function<void(std::string_view)>& each);

 private:
  std::string pending_;
  std::uint32_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  bool failed_ = false;
};

}  // namespace balloon::vmm

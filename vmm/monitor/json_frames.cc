#include "vmm/monitor/json_frames.h"

#include <fmt/format.h>

namespace balloon::vmm {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

Result<void> JsonFrames::feed(std::string_view bytes, const std::function<void(std::string_view)>& each) {
  const auto finish = [&] {
    const std::string value = std::move(pending_);
    pending_.clear();
    each(value);
  };
  for (const char c : bytes) {
    if (failed_) return fail("the stream is broken");
    if (pending_.empty() && is_space(c)) continue;
    const bool bare = depth_ == 0 && !in_string_;
    if (bare && !pending_.empty() && (c == '\n' || c == '{')) finish();
    if (pending_.empty() && is_space(c)) continue;
    if (pending_.size() == kMaxBytes) {
      failed_ = true;
      pending_ = {};
      return fail(fmt::format("a request has more than {} bytes", kMaxBytes));
    }
    pending_ += c;
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      continue;
    }
    if (depth_ > 0 && c == '"') in_string_ = true;
    if (c == '{' || c == '[') {
      if (++depth_ > kMaxDepth) {
        failed_ = true;
        pending_ = {};
        return fail(fmt::format("a request is nested more than {} deep", kMaxDepth));
      }
    } else if ((c == '}' || c == ']') && depth_ > 0) {
      // Whether they match is the parser's business.
      if (--depth_ == 0) finish();
    }
  }
  return {};
}

}  // namespace balloon::vmm

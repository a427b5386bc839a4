// SPDX-License-Identifier: Apache-2.0
#include "vmm/monitor/json_frames.h"

#include <fmt/format.h>

namespace balloon::vmm {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// Control characters, and bytes that UTF-8 does not have: in strings and out of them, they end a value.
bool breaks(char c, bool in_string) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0xfe || (byte < 0x20 && (in_string || !is_space(c)));
}

bool is_structural(char c) { return std::string_view("{}[]:,").contains(c); }

}  // namespace

Result<void> JsonFrames::feed(std::string_view bytes, const std::function<void(std::string_view)>& each) {
  const auto finish = [&] {
    const std::string value = std::move(pending_);
    pending_.clear();
    each(value);
  };
  for (const char c : bytes) {
    if (failed_) return fail("the stream is broken");
    const bool broken = breaks(c, quote_ != 0);
    if (lost_ && !broken && !is_structural(c) && c != '\n' && c != '\r') continue;
    lost_ = broken;
    if (broken) {
      pending_ += c;
      depth_ = 0;
      quote_ = 0;
      escaped_ = false;
      finish();
      continue;
    }
    if (pending_.empty() && is_space(c)) continue;
    const bool bare = depth_ == 0;
    if (bare && !pending_.empty() && (c == '\n' || c == '{')) finish();
    if (pending_.empty() && is_space(c)) continue;
    if (pending_.size() == kMaxBytes) {
      failed_ = true;
      pending_ = {};
      return fail(fmt::format("a request has more than {} bytes", kMaxBytes));
    }
    pending_ += c;
    if (quote_ != 0) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == quote_) {
        quote_ = 0;
      }
      continue;
    }
    if (depth_ > 0 && (c == '"' || c == '\'')) quote_ = c;
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

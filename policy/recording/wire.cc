// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/wire.h"

#include <array>

namespace balloon::policy::recording {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reflected

constexpr std::array<std::uint32_t, 256> kTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    table.at(i) = value;
  }
  return table;
}();

constexpr std::uint8_t kMore = 0x80;
/// In a difference's first byte: it counts units.
constexpr std::uint8_t kUnits = 0x40;

char as_char(std::uint64_t byte) { return static_cast<char>(static_cast<std::uint8_t>(byte)); }

/// Small numbers of either sign become small ones.
std::uint64_t zigzag(std::uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
std::uint64_t unzigzag(std::uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<std::uint8_t>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

void put_u32(std::string& out, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(as_char(value >> shift));
}

std::uint32_t get_u32(const char* bytes) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<std::uint8_t>(bytes[i]);
  return value;
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= kMore; value >>= 7) out.push_back(as_char(value | kMore));
  out.push_back(as_char(value));
}

void put_difference(std::string& out, std::uint64_t difference, std::uint64_t unit) {
  const auto number = static_cast<std::int64_t>(difference);
  const bool units = number % static_cast<std::int64_t>(unit) == 0;
  if (units) difference = static_cast<std::uint64_t>(number / static_cast<std::int64_t>(unit));
  std::uint64_t value = zigzag(difference);
  out.push_back(as_char((value & 0x3f) | (units ? kUnits : 0U) | (value > 0x3f ? kMore : 0U)));
  if (value > 0x3f) put_varint(out, value >> 6);
}

void put_text(std::string& out, std::string_view text) {
  put_varint(out, text.size());
  out.append(text);
}

void close_frame(std::string& out, std::size_t start) {
  const std::string_view payload = std::string_view(out).substr(start + kFrameSize);
  std::string frame;
  put_u32(frame, static_cast<std::uint32_t>(payload.size()));
  put_u32(frame, static_cast<std::uint32_t>(payload.size()) ^ kLengthMask);
  put_u32(frame, crc32c(payload));
  out.replace(start, kFrameSize, frame);
}

std::uint8_t Input::byte() {
  if (left_.empty()) {
    good_ = false;
    return 0;
  }
  const auto byte = static_cast<std::uint8_t>(left_.front());
  left_.remove_prefix(1);
  return byte;
}

std::uint64_t Input::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; good_; shift += 7) {
    const std::uint64_t next = byte();
    if (shift > 63 || (shift == 63 && (next & 0x7e) != 0)) break;
    value |= (next & 0x7f) << shift;
    if ((next & kMore) == 0) return good_ ? value : 0;
  }
  good_ = false;
  return 0;
}

std::size_t Input::count(std::size_t least) {
  const std::uint64_t count = varint();
  if (count <= left_.size() / least) return static_cast<std::size_t>(count);
  good_ = false;
  return 0;
}

std::uint64_t Input::difference(std::uint64_t unit) {
  const std::uint8_t first = byte();
  std::uint64_t value = first & 0x3fU;
  if ((first & kMore) != 0) {
    const std::uint64_t rest = varint();
    if (rest >> 58 != 0) good_ = false;
    value |= rest << 6;
  }
  if (!good_) return 0;
  return unzigzag(value) * ((first & kUnits) != 0 ? unit : 1);
}

std::uint64_t Input::fixed64() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 8) value |= std::uint64_t{byte()} << shift;
  return good_ ? value : 0;
}

std::string_view Input::text() {
  const std::size_t size = count();
  if (size > kTextMax) {
    good_ = false;
    return {};
  }
  const std::string_view text = left_.substr(0, size);
  left_.remove_prefix(size);
  return text;
}

}  // namespace balloon::policy::recording

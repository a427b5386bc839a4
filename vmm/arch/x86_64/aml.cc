// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/aml.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace balloon::vmm::aml {
namespace {

// Opcodes and prefixes of ACPI 6.4, table 20.1.
constexpr std::uint8_t kZeroOp = 0x00;
constexpr std::uint8_t kOneOp = 0x01;
constexpr std::uint8_t kNameOp = 0x08;
constexpr std::uint8_t kBytePrefix = 0x0a;
constexpr std::uint8_t kWordPrefix = 0x0b;
constexpr std::uint8_t kDwordPrefix = 0x0c;
constexpr std::uint8_t kStringPrefix = 0x0d;
constexpr std::uint8_t kQwordPrefix = 0x0e;
constexpr std::uint8_t kScopeOp = 0x10;
constexpr std::uint8_t kBufferOp = 0x11;
constexpr std::uint8_t kPackageOp = 0x12;
constexpr std::uint8_t kMethodOp = 0x14;
constexpr std::uint8_t kDualNamePrefix = 0x2e;
constexpr std::uint8_t kNotifyOp = 0x86;
constexpr std::uint8_t kExtOpPrefix = 0x5b;
constexpr std::uint8_t kDeviceOp = 0x82;
constexpr std::size_t kNameSegmentSize = 4;

// A plain loop: GCC 12 takes an insert() into a vector of known size for an overflow.
void append(Term& out, const Term& more) {
  for (std::uint8_t byte : more) out.push_back(byte);
}

void append_little_endian(Term& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

/// PkgLength (20.2.4): counts itself. One byte holds 6 bits; of more bytes the first holds 4 and the others 8
/// each.
Term package_length(std::size_t content) {
  if (content + 1 < 0x40) return {static_cast<std::uint8_t>(content + 1)};
  std::size_t more = 1;
  while (content + 1 + more >= std::size_t{1} << (4 + 8 * more)) ++more;
  const std::size_t total = content + 1 + more;
  Term length{static_cast<std::uint8_t>(more << 6 | (total & 0xf))};
  append_little_endian(length, total >> 4, more);
  return length;
}

Term with_length(std::initializer_list<std::uint8_t> opcode, const Term& content) {
  Term term(opcode);
  append(term, package_length(content.size()));
  append(term, content);
  return term;
}

Term name_string(std::string_view name) {
  Term encoded;
  if (name.starts_with('\\')) {
    encoded.push_back('\\');
    name.remove_prefix(1);
  }
  for (std::size_t i = 0; i < kNameSegmentSize; ++i) {
    encoded.push_back(i < name.size() ? static_cast<std::uint8_t>(name[i]) : '_');
  }
  return encoded;
}

Term named_body(std::initializer_list<std::uint8_t> opcode, std::string_view name, const Term& body) {
  Term content = name_string(name);
  append(content, body);
  return with_length(opcode, content);
}

/// The value of one hexadecimal digit in upper case.
std::uint32_t digit(char c) { return static_cast<std::uint32_t>(c <= '9' ? c - '0' : c - 'A' + 10); }

Term name_segment(std::string_view name) {
  Term encoded;
  for (std::size_t i = 0; i < kNameSegmentSize; ++i) {
    encoded.push_back(i < name.size() ? static_cast<std::uint8_t>(name[i]) : '_');
  }
  return encoded;
}

}  // namespace

Term concat(std::initializer_list<Term> terms) {
  Term all;
  for (const Term& term : terms) append(all, term);
  return all;
}

Term integer(std::uint64_t value) {
  if (value == 0) return {kZeroOp};
  if (value == 1) return {kOneOp};
  constexpr std::array<std::pair<std::uint8_t, std::size_t>, 4> kWidths = {
      {{kBytePrefix, 1}, {kWordPrefix, 2}, {kDwordPrefix, 4}, {kQwordPrefix, 8}}};
  for (auto [prefix, bytes] : kWidths) {
    if (bytes < sizeof value && value >> (8 * bytes) != 0) continue;
    Term term{prefix};
    append_little_endian(term, value, bytes);
    return term;
  }
  std::unreachable();
}

Term string(std::string_view text) {
  Term term{kStringPrefix};
  for (char c : text) term.push_back(static_cast<std::uint8_t>(c));
  term.push_back(0);
  return term;
}

Term eisa_id(std::string_view id) {
  // Three letters of 5 bits, then four hexadecimal digits; stored big-endian (ACPI 6.4, 19.3.4).
  std::uint32_t value = 0;
  for (char letter : id.substr(0, 3)) value = value << 5 | (static_cast<std::uint32_t>(letter) & 0x1f);
  for (char c : id.substr(3, 4)) value = value << 4 | digit(c);
  return integer(__builtin_bswap32(value));
}

Term package(const std::vector<Term>& elements) {
  Term content{static_cast<std::uint8_t>(elements.size())};
  for (const Term& element : elements) append(content, element);
  return with_length({kPackageOp}, content);
}

Term name(std::string_view name, const Term& value) {
  Term term{kNameOp};
  append(term, name_string(name));
  append(term, value);
  return term;
}

Term scope(std::string_view name, const Term& body) { return named_body({kScopeOp}, name, body); }

Term method(std::string_view name, std::uint8_t arguments, const Term& body) {
  constexpr std::uint8_t kArgumentsMask = 0x7;
  Term content = name_string(name);
  content.push_back(arguments & kArgumentsMask);
  append(content, body);
  return with_length({kMethodOp}, content);
}

Term notify(std::string_view object, std::uint8_t value) {
  const std::size_t dot = object.find('.');
  Term term{kNotifyOp, '\\', kDualNamePrefix};
  append(term, name_segment(object.substr(1, dot - 1)));
  append(term, name_segment(object.substr(dot + 1)));
  append(term, integer(value));
  return term;
}

Term device(std::string_view name, const Term& body) {
  return named_body({kExtOpPrefix, kDeviceOp}, name, body);
}

Term resource_template(std::initializer_list<Term> descriptors) {
  constexpr std::uint8_t kEndTag = 0x79;
  Term resources = concat(descriptors);
  resources.push_back(kEndTag);
  resources.push_back(0);  // checksum: 0 means that it is not to be checked
  Term content = integer(resources.size());
  append(content, resources);
  return with_length({kBufferOp}, content);
}

Term io_ports(std::uint16_t first, std::uint8_t count) {
  constexpr std::uint8_t kTag = 0x47;
  constexpr std::uint8_t kDecodes16Bits = 1;
  Term term{kTag, kDecodes16Bits};
  append_little_endian(term, first, 2);  // lowest base
  append_little_endian(term, first, 2);  // highest base
  term.push_back(1);                     // alignment
  term.push_back(count);
  return term;
}

namespace {

/// An extended interrupt descriptor (6.4.3.6) with one interrupt.
Term interrupt(std::uint8_t flags, std::uint32_t gsi) {
  constexpr std::uint8_t kTag = 0x89;
  Term term{kTag};
  append_little_endian(term, 6, 2);
  term.push_back(flags);
  term.push_back(1);  // interrupts in the list
  append_little_endian(term, gsi, 4);
  return term;
}

}  // namespace

Term edge_interrupt(std::uint32_t gsi) {
  constexpr std::uint8_t kConsumerEdge = 1 << 0 | 1 << 1;
  return interrupt(kConsumerEdge, gsi);
}

Term level_interrupt(std::uint32_t gsi) {
  constexpr std::uint8_t kConsumerShared = 1 << 0 | 1 << 3;
  return interrupt(kConsumerShared, gsi);
}

/// 6.4.3.4
Term fixed_memory(std::uint32_t first, std::uint32_t size) {
  constexpr std::uint8_t kTag = 0x86;
  constexpr std::uint8_t kReadWrite = 1;
  Term term{kTag};
  append_little_endian(term, 9, 2);
  term.push_back(kReadWrite);
  append_little_endian(term, first, 4);
  append_little_endian(term, size, 4);
  return term;
}

namespace {

enum class Window : std::uint8_t { memory = 0, io = 1, bus = 2 };

/// A word or dword address space descriptor (6.4.3.5): fixed range, produced for what is behind the bridge.
Term window(Window kind, std::uint8_t type_flags, std::uint64_t first, std::uint64_t last,
            std::size_t width) {
  constexpr std::uint8_t kDwordTag = 0x87;
  constexpr std::uint8_t kWordTag = 0x88;
  constexpr std::uint8_t kFixedMinimumAndMaximum = 1 << 2 | 1 << 3;
  Term term{width == 2 ? kWordTag : kDwordTag};
  append_little_endian(term, 3 + 5 * width, 2);
  term.push_back(static_cast<std::uint8_t>(kind));
  term.push_back(kFixedMinimumAndMaximum);
  term.push_back(type_flags);
  append_little_endian(term, 0, width);  // granularity
  append_little_endian(term, first, width);
  append_little_endian(term, last, width);
  append_little_endian(term, 0, width);  // translation
  append_little_endian(term, last - first + 1, width);
  return term;
}

}  // namespace

Term bus_window(std::uint16_t first, std::uint16_t last) { return window(Window::bus, 0, first, last, 2); }

Term io_window(std::uint16_t first, std::uint16_t last) {
  constexpr std::uint8_t kEntireRange = 3;
  return window(Window::io, kEntireRange, first, last, 2);
}

Term memory_window(std::uint32_t first, std::uint32_t last) {
  constexpr std::uint8_t kReadWrite = 1;  // and not cacheable
  return window(Window::memory, kReadWrite, first, last, 4);
}

}  // namespace balloon::vmm::aml

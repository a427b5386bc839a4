// SPDX-License-Identifier: Apache-2.0
// Builds ACPI Machine Language: just the terms that our DSDT needs (ACPI 6.4, chapter 20). Pure.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace balloon::vmm::aml {

/// An encoded term or a list of them.
using Term = std::vector<std::uint8_t>;

Term concat(std::initializer_list<Term> terms);

Term integer(std::uint64_t value);
Term string(std::string_view text);
/// "PNP0A03" as the integer that EISAID() makes.
Term eisa_id(std::string_view id);
Term package(const std::vector<Term>& elements);

/// `name`: up to four characters, padded with '_'; a leading '\' makes it absolute.
Term name(std::string_view name, const Term& value);
Term scope(std::string_view name, const Term& body);
Term device(std::string_view name, const Term& body);

/// A buffer with resource descriptors and their end tag.
Term resource_template(std::initializer_list<Term> descriptors);

/// Method(name, arguments) { body }, not serialised.
Term method(std::string_view name, std::uint8_t arguments, const Term& body);
/// Notify(object, value): `object` is an absolute path, "\\_SB.PWRB".
Term notify(std::string_view object, std::uint8_t value);

// Resource descriptors (ACPI 6.4, 6.4).
/// Ports that a device decodes itself, all 16 bits.
Term io_ports(std::uint16_t first, std::uint8_t count);
/// An edge-triggered, active-high, exclusive interrupt.
Term edge_interrupt(std::uint32_t gsi);
/// A level-triggered, active-high one that devices may share.
Term level_interrupt(std::uint32_t gsi);
/// Memory that a device decodes itself.
Term fixed_memory(std::uint32_t first, std::uint32_t size);
// Windows of a bridge, handed down to what is behind it.
Term bus_window(std::uint16_t first, std::uint16_t last);
Term io_window(std::uint16_t first, std::uint16_t last);
Term memory_window(std::uint32_t first, std::uint32_t last);

}  // namespace balloon::vmm::aml

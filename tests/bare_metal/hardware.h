// SPDX-License-Identifier: Apache-2.0
// The bare machine as the test guest sees it: ports, the serial line, PCI configuration, interrupt
// controllers. 32-bit flat mode, no paging, one CPU. Freestanding: no library.
#pragma once

#include <stdint.h>

namespace bare {

template <typename T>
volatile T& at(uint32_t address) {
  return *reinterpret_cast<volatile T*>(address);
}

template <typename T>
void out(uint16_t port, T value) {
  if constexpr (sizeof(T) == 1) asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
  if constexpr (sizeof(T) == 2) asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
  if constexpr (sizeof(T) == 4) asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
template <typename T>
T in(uint16_t port) {
  T value;
  if constexpr (sizeof(T) == 1) asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  if constexpr (sizeof(T) == 2) asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  if constexpr (sizeof(T) == 4) asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

inline void print(const char* text) {
  for (; *text != 0; ++text) out<uint8_t>(0x3f8, static_cast<uint8_t>(*text));
}
inline void print(uint32_t number) {
  char digits[11];
  char* start = digits + 10;
  *start = 0;
  do {
    *--start = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  print(start);
}

/// What was typed on the serial port; waits for it.
inline char read_key() {
  while ((in<uint8_t>(0x3fd) & 1) == 0) asm volatile("pause");
  return static_cast<char>(in<uint8_t>(0x3f8));
}
inline uint64_t clock_ticks() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return uint64_t{high} << 32 | low;
}

/// ACPI's S5 through the sleep control register (vmm/arch/x86_64/layout.h).
[[noreturn]] inline void power_off() {
  out<uint8_t>(0x600, 1U << 5 | 5U << 2);
  for (;;) asm volatile("cli; hlt");
}
[[noreturn]] inline void fail(const char* what) {
  print("FAILED: ");
  print(what);
  print("\n");
  power_off();
}
inline void expect(bool holds, const char* what) {
  if (!holds) fail(what);
}

/// One PCI function of bus 0, by configuration mechanism 1.
struct Pci {
  unsigned slot;
  template <typename T>
  T read(unsigned offset) const {
    out<uint32_t>(0xcf8, 0x80000000U | slot << 11 | (offset & 0xfc));
    return in<T>(static_cast<uint16_t>(0xcfc + offset % 4));
  }
  template <typename T>
  void write(unsigned offset, T value) const {
    out<uint32_t>(0xcf8, 0x80000000U | slot << 11 | (offset & 0xfc));
    out<T>(static_cast<uint16_t>(0xcfc + offset % 4), value);
  }
  /// The next capability with this id behind `from` (0: from the start); 0 when there is none.
  unsigned capability(uint8_t id, unsigned from = 0) const {
    for (unsigned place = read<uint8_t>(from == 0 ? 0x34 : from + 1); place != 0;
         place = read<uint8_t>(place + 1)) {
      if (read<uint8_t>(place) == id) return place;
    }
    return 0;
  }
};

// Interrupts: messages to kMessageVector + n, the shared pins of PCI to kPinVector.
constexpr uint8_t kMessageVector = 0x40;
constexpr uint8_t kPinVector = 0x50;
constexpr uint32_t kLocalApic = 0xfee00000;
constexpr uint32_t kIoApic = 0xfec00000;
inline volatile uint32_t messages;  ///< how many came
inline volatile uint32_t pins;
/// Reads and acknowledges the ISR of the device under test, which lets go of the pin.
inline uint8_t (*acknowledge)();

extern "C" [[gnu::used]] inline void on_message() {
  messages = messages + 1;
  at<uint32_t>(kLocalApic + 0xb0) = 0;  // end of interrupt
}
extern "C" [[gnu::used]] inline void on_pin() {
  if (acknowledge != nullptr && acknowledge() != 0) pins = pins + 1;
  at<uint32_t>(kLocalApic + 0xb0) = 0;
}
// They leave without IRET, which KVM cannot emulate in protected mode; on hosts where it has to emulate much
// (a KVM nested in a weak one), it meets that instruction.
extern "C" void message_entry();
extern "C" void pin_entry();
asm("message_entry: pusha\n call on_message\n popa\n pushl 8(%esp)\n popfl\n ret $8\n"
    "pin_entry: pusha\n call on_pin\n popa\n pushl 8(%esp)\n popfl\n ret $8\n");

inline uint64_t interrupt_table[256];
inline void set_gate(unsigned vector, void (*handler)()) {
  const auto address = reinterpret_cast<uint32_t>(handler);
  uint16_t code;
  asm("mov %%cs, %0" : "=r"(code));
  interrupt_table[vector] = (address & 0xffff) | uint64_t{code} << 16 | uint64_t{0x8e00} << 32 |
                            uint64_t{address & 0xffff0000} << 32;
}
inline void set_up_interrupts() {
  for (unsigned vector = kMessageVector; vector < kPinVector; ++vector) set_gate(vector, message_entry);
  set_gate(kPinVector, pin_entry);
  struct [[gnu::packed]] {
    uint16_t limit;
    uint32_t base;
  } const table{sizeof(interrupt_table) - 1, reinterpret_cast<uint32_t>(interrupt_table)};
  asm volatile("lidt %0" : : "m"(table));
  at<uint32_t>(kLocalApic + 0xf0) = 0x1ff;     // on, spurious vector 0xff
  at<uint32_t>(kLocalApic + 0x350) = 0x10000;  // LINT0, where the PIC is: masked
  for (unsigned pin = 16; pin < 24; ++pin) {   // level-triggered, active low, to CPU 0
    at<uint32_t>(kIoApic) = 0x11 + 2 * pin;
    at<uint32_t>(kIoApic + 0x10) = 0;
    at<uint32_t>(kIoApic) = 0x10 + 2 * pin;
    at<uint32_t>(kIoApic + 0x10) = 1U << 15 | 1U << 13 | kPinVector;
  }
}
/// Sleeps until an interrupt made `done` true.
template <typename Done>
void wait_for(Done done) {
  for (;;) {
    asm volatile("cli");
    if (done()) break;
    asm volatile("sti; hlt");
  }
  asm volatile("sti");
}

}  // namespace bare

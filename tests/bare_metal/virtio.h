// SPDX-License-Identifier: Apache-2.0
// A small virtio driver for the test guest: modern and legacy interface of PCI functions, MMIO windows, split
// and packed rings, MSI-X and pins.
#pragma once

#include "hardware.h"

namespace bare {

struct Mode {
  bool legacy = false;
  bool packed = false;
  bool pin = false;   ///< INTx instead of MSI-X; MMIO has nothing else
  bool mmio = false;  ///< windows instead of PCI functions
};

constexpr uint64_t kVersion1 = 1ULL << 32;
constexpr uint64_t kRingPacked = 1ULL << 34;

struct Buffer {
  const void* address;
  uint32_t size;
  bool writable;
  bool table = false;  ///< of descriptors (INDIRECT_DESC)
};

/// Memory for rings, each page used once.
inline uint32_t next_page = 0x800000;
inline uint32_t take_pages(uint32_t count) {
  const uint32_t pages = next_page;
  next_page += count * 4096;
  for (uint32_t offset = 0; offset < count * 4096; offset += 4) at<uint32_t>(pages + offset) = 0;
  return pages;
}

struct [[gnu::packed]] Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t first;   ///< split: flags; packed: id
  uint16_t second;  ///< split: next; packed: flags
};

class Queue {
 public:
  uint16_t size = 0;
  bool packed = false;
  uint32_t descriptors = 0, available = 0, used = 0;

  void lay_out(uint16_t entries, bool as_packed) {
    size = entries;
    packed = as_packed;
    // The legacy layout, which is good for all: the used ring on a page of its own.
    const uint32_t front = 16U * size + 2U * (3 + size);
    const uint32_t front_pages = (front + 4095) / 4096;
    descriptors = take_pages(front_pages + (6 + 8U * size + 4095) / 4096);
    available = descriptors + 16U * size;
    used = descriptors + front_pages * 4096;
  }

  void submit(const Buffer* buffers, unsigned count) {
    const uint16_t head = next_;
    const uint16_t head_flags = flags(buffers[0], count > 1);
    for (unsigned i = 0; i < count; ++i) {
      volatile Descriptor& place = at<Descriptor>(descriptors + 16U * next_);
      place.address = reinterpret_cast<uint32_t>(buffers[i].address);
      place.length = buffers[i].size;
      const uint16_t its_flags = flags(buffers[i], i + 1 < count);
      const uint16_t following = next_ + 1 == size ? 0 : static_cast<uint16_t>(next_ + 1);
      if (packed) {
        place.first = head;
        if (i > 0) place.second = its_flags;
      } else {
        place.first = its_flags;
        place.second = following;
      }
      next_ = following;
      if (next_ == 0) wrap_ = !wrap_;
    }
    slots_ = count;
    if (packed) {
      at<Descriptor>(descriptors + 16U * head).second = head_flags;
    } else {
      at<uint16_t>(available + 4 + 2U * (available_count_ % size)) = head;
      ++available_count_;
      at<uint16_t>(available + 2) = available_count_;
    }
  }
  /// Whether the chain is back; then `length` has what the device says it wrote.
  bool pop(uint32_t& length) {
    if (packed) {
      const volatile Descriptor& place = at<Descriptor>(descriptors + 16U * used_place_);
      const bool available_bit = (place.second >> 7 & 1) != 0;
      const bool used_bit = (place.second >> 15) != 0;
      if (available_bit != used_bit || used_bit != used_wrap_) return false;
      length = place.length;
      used_place_ += slots_;
      if (used_place_ >= size) {
        used_place_ -= size;
        used_wrap_ = !used_wrap_;
      }
      return true;
    }
    if (at<uint16_t>(used + 2) == used_count_) return false;
    length = at<uint32_t>(used + 4 + 8U * (used_count_ % size) + 4);
    ++used_count_;
    return true;
  }

 private:
  uint16_t flags(const Buffer& buffer, bool more) const {
    const unsigned state = packed ? (wrap_ ? 1U << 7 : 1U << 15) : 0;
    return static_cast<uint16_t>((more ? 1U : 0U) | (buffer.writable ? 2U : 0U) | (buffer.table ? 4U : 0U) |
                                 state);
  }
  uint16_t next_ = 0;
  bool wrap_ = true;
  unsigned slots_ = 0;
  uint16_t available_count_ = 0;
  uint16_t used_count_ = 0;
  unsigned used_place_ = 0;
  bool used_wrap_ = true;
};

class Device {
 public:
  static constexpr unsigned kQueues = 4;

  /// The window of MMIO device `slot` (vmm/arch/x86_64/layout.h; Linux has it from ACPI).
  static uint32_t window(unsigned slot) { return 0xfeb00000 + 4096 * slot; }
  /// The virtio id of the function or window in `slot`; 0 when it is none.
  static unsigned id(unsigned slot, const Mode& mode) {
    if (mode.mmio) return at<uint32_t>(window(slot)) == 0x74726976 ? at<uint32_t>(window(slot) + 8) : 0;
    const Pci pci{slot};
    if (pci.read<uint16_t>(0) != 0x1af4) return 0;
    const uint16_t device = pci.read<uint16_t>(2);
    expect(mode.legacy ? device < 0x1040 : true, "a legacy device has a transitional id");
    return device >= 0x1040 ? device - 0x1040U : pci.read<uint16_t>(0x2e);
  }

  /// Resets the device, negotiates `wanted` of what it offers, and gives it its first `count` queues.
  void start(unsigned slot, const Mode& mode, uint64_t wanted, unsigned count) {
    pci_.slot = slot;
    mode_ = mode;
    if (mode_.mmio) {
      window_ = window(slot);
      config_ = window_ + 0x100;
      expect(at<uint32_t>(window_ + 4) == 2, "the window is of version 2");
    } else {
      pci_.write<uint16_t>(4, 7);
      mode_.legacy ? find_ports() : find_structures();
    }
    set_status(0);
    set_status(1);
    set_status(3);
    negotiate(wanted);
    if (!mode_.pin) set_up_vectors(count);
    for (unsigned index = 0; index < count; ++index) set_up_queue(static_cast<uint16_t>(index));
    current = this;
    acknowledge = [] { return current->read_isr(); };
    set_status(mode_.legacy ? 7 : 15);
    expect((status() & 64) == 0, "the device runs");
  }
  void stop() { set_status(0); }

  /// Sends a chain and sleeps until an interrupt says that it is back; what the device wrote.
  uint32_t request(uint16_t index, const Buffer* buffers, unsigned count) {
    queue(index).submit(buffers, count);
    kick(index);
    uint32_t length = 0;
    wait_for([&] { return queue(index).pop(length); });
    return length;
  }
  Queue& queue(uint16_t index) { return queues_[index]; }
  void kick(uint16_t index) {
    asm volatile("mfence" : : : "memory");
    if (mode_.mmio) {
      at<uint32_t>(window_ + 0x50) = index;
    } else if (mode_.legacy) {
      out<uint16_t>(static_cast<uint16_t>(ports_ + 16), index);
    } else if (by_port_ = !by_port_; by_port_) {  // both doorbells in turn
      out<uint16_t>(static_cast<uint16_t>(ports_bell_.of(bells_[index])), index);
    } else {
      at<uint16_t>(memory_bell_.of(bells_[index])) = index;
    }
  }
  /// Acknowledges what it returns.
  uint8_t read_isr() const {
    if (mode_.mmio) {
      const uint32_t status = at<uint32_t>(window_ + 0x60);
      at<uint32_t>(window_ + 0x64) = status;
      return static_cast<uint8_t>(status);
    }
    return mode_.legacy ? in<uint8_t>(static_cast<uint16_t>(ports_ + 19)) : at<uint8_t>(isr_);
  }
  template <typename T>
  void write_config(uint32_t offset, T value) const {
    if (mode_.legacy) return out<T>(static_cast<uint16_t>(ports_ + (mode_.pin ? 20 : 24) + offset), value);
    at<T>(config_ + offset) = value;
  }
  template <typename T>
  T read_config(uint32_t offset) const {
    if (!mode_.legacy) return at<T>(config_ + offset);
    return in<T>(static_cast<uint16_t>(ports_ + (mode_.pin ? 20 : 24) + offset));
  }
  uint64_t features() const { return features_; }

 private:
  uint32_t bar(unsigned index) const { return pci_.read<uint32_t>(0x10 + 4 * index); }
  void find_ports() {
    expect((bar(0) & 1) == 1, "BAR 0 of a legacy device is in I/O space");
    ports_ = bar(0) & ~3U;
  }
  void find_structures() {
    for (unsigned place = pci_.capability(9); place != 0; place = pci_.capability(9, place)) {
      const uint32_t base = bar(pci_.read<uint8_t>(place + 4));
      const bool is_port = (base & 1) == 1;
      const uint32_t address = (base & (is_port ? ~3U : ~15U)) + pci_.read<uint32_t>(place + 8);
      switch (pci_.read<uint8_t>(place + 3)) {
        case 1:
          common_ = address;
          break;
        case 2:
          (is_port ? ports_bell_ : memory_bell_) = {address, pci_.read<uint32_t>(place + 16)};
          break;
        case 3:
          isr_ = address;
          break;
        case 4:
          config_ = address;
          break;
        default:
          break;
      }
    }
    const bool has_config = pci_.read<uint16_t>(2) != 0x1044;  // an rng has none
    expect(common_ != 0 && memory_bell_.base != 0 && isr_ != 0 && (config_ != 0) == has_config,
           "every structure has its capability");
    expect(ports_bell_.base != 0, "there are doorbells in I/O space, too");
  }
  void set_status(uint8_t value) const {
    if (mode_.mmio) {
      at<uint32_t>(window_ + 0x70) = value;
      return;
    }
    if (mode_.legacy) return out<uint8_t>(static_cast<uint16_t>(ports_ + 18), value);
    at<uint8_t>(common_ + 20) = value;
  }
  uint8_t status() const {
    if (mode_.mmio) return static_cast<uint8_t>(at<uint32_t>(window_ + 0x70));
    return mode_.legacy ? in<uint8_t>(static_cast<uint16_t>(ports_ + 18)) : at<uint8_t>(common_ + 20);
  }
  void negotiate(uint64_t wanted) {
    if (mode_.legacy) {
      features_ = in<uint32_t>(static_cast<uint16_t>(ports_)) & wanted;
      return out<uint32_t>(static_cast<uint16_t>(ports_ + 4), static_cast<uint32_t>(features_));
    }
    wanted |= kVersion1 | (mode_.packed ? kRingPacked : 0);
    const uint32_t offered_select = mode_.mmio ? window_ + 0x14 : common_;
    const uint32_t offered = mode_.mmio ? window_ + 0x10 : common_ + 4;
    const uint32_t taken_select = mode_.mmio ? window_ + 0x24 : common_ + 8;
    const uint32_t taken = mode_.mmio ? window_ + 0x20 : common_ + 12;
    for (uint32_t word = 0; word < 2; ++word) {
      at<uint32_t>(offered_select) = word;
      const uint64_t take = at<uint32_t>(offered) & static_cast<uint32_t>(wanted >> (32 * word));
      features_ |= take << (32 * word);
      at<uint32_t>(taken_select) = word;
      at<uint32_t>(taken) = static_cast<uint32_t>(take);
    }
    expect((features_ & kVersion1) != 0, "VERSION_1 is offered");
    expect(!mode_.packed || (features_ & kRingPacked) != 0, "packed rings are offered");
    set_status(11);
    expect((status() & 8) != 0, "FEATURES_OK sticks");
  }
  void set_up_vectors(unsigned count) {
    const unsigned place = pci_.capability(0x11);
    expect(place != 0, "the device has MSI-X");
    const uint32_t table = pci_.read<uint32_t>(place + 4);
    const uint32_t entries = (bar(table & 7) & ~15U) + (table & ~7U);
    for (unsigned vector = 0; vector <= count; ++vector) {
      at<uint32_t>(entries + 16 * vector) = kLocalApic;
      at<uint32_t>(entries + 16 * vector + 4) = 0;
      at<uint32_t>(entries + 16 * vector + 8) = kMessageVector + vector;
      at<uint32_t>(entries + 16 * vector + 12) = 0;
    }
    pci_.write<uint16_t>(place + 2, 0x8000);
  }
  void set_up_queue(uint16_t index) {
    Queue& queue = queues_[index];
    queue = Queue();
    if (mode_.mmio) {
      at<uint32_t>(window_ + 0x30) = index;
      queue.lay_out(static_cast<uint16_t>(at<uint32_t>(window_ + 0x34)), mode_.packed);
      at<uint32_t>(window_ + 0x38) = queue.size;
      at<uint32_t>(window_ + 0x80) = queue.descriptors;
      at<uint32_t>(window_ + 0x90) = queue.packed ? queue.available & ~3U : queue.available;
      at<uint32_t>(window_ + 0xa0) = queue.used;
      at<uint32_t>(window_ + 0x44) = 1;
      return;
    }
    if (mode_.legacy) {
      out<uint16_t>(static_cast<uint16_t>(ports_ + 14), index);
      queue.lay_out(in<uint16_t>(static_cast<uint16_t>(ports_ + 12)), false);
      out<uint32_t>(static_cast<uint16_t>(ports_ + 8), queue.descriptors / 4096);
      if (!mode_.pin) out<uint16_t>(static_cast<uint16_t>(ports_ + 22), static_cast<uint16_t>(index + 1));
      return;
    }
    at<uint16_t>(common_ + 22) = index;
    queue.lay_out(at<uint16_t>(common_ + 24), mode_.packed);
    at<uint32_t>(common_ + 32) = queue.descriptors;
    at<uint32_t>(common_ + 40) = queue.packed ? queue.available & ~3U : queue.available;
    at<uint32_t>(common_ + 48) = queue.used;
    if (!mode_.pin) at<uint16_t>(common_ + 26) = static_cast<uint16_t>(index + 1);
    bells_[index] = at<uint16_t>(common_ + 30);
    at<uint16_t>(common_ + 28) = 1;
  }

  /// A notification structure (4.1.4.4).
  struct Bells {
    uint32_t base = 0, multiplier = 0;
    uint32_t of(uint16_t bell) const { return base + bell * multiplier; }
  };

  static inline Device* current;
  Pci pci_{0};
  Mode mode_;
  uint64_t features_ = 0;
  uint32_t ports_ = 0, common_ = 0, isr_ = 0, config_ = 0, window_ = 0;
  Bells ports_bell_, memory_bell_;
  uint16_t bells_[kQueues] = {};  // queue_notify_off
  bool by_port_ = false;
  Queue queues_[kQueues];
};

}  // namespace bare

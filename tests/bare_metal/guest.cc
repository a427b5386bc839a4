// SPDX-License-Identifier: Apache-2.0
// A guest without an operating system: finds the machine's virtio devices, drives each, and says on the
// serial port what it saw. Its command line chooses the interface: "legacy", "packed", "pin", "mmio"; or says
// what else to do: "address".
#include "entry.h"
#include "virtio.h"

namespace bare {
namespace {

unsigned char sector[512];
unsigned char serial[20];
uint32_t pfns[512];

/// Gives 2 MiB to the host: what lay there must be gone, and the memory must be good again afterwards.
void drive_balloon(unsigned slot, const Mode& mode) {
  constexpr uint32_t kStart = 0x1000000;
  constexpr unsigned kPages = sizeof(pfns) / sizeof(pfns[0]);
  Device device;
  device.start(slot, mode, 0, 2);  // without MUST_TELL_HOST: released at once
  for (unsigned i = 0; i < kPages; ++i) {
    at<uint32_t>(kStart + 4096 * i) = 0xfeedface;
    pfns[i] = kStart / 4096 + i;
  }
  const Buffer all{pfns, sizeof(pfns), false};
  device.request(0, &all, 1);
  device.write_config<uint32_t>(4, kPages);
  expect(device.read_config<uint32_t>(4) == kPages, "actual reads back");
  for (unsigned i = 0; i < kPages; ++i)
    expect(at<uint32_t>(kStart + 4096 * i) == 0, "an inflated page is gone");
  device.request(1, &all, 1);
  device.write_config<uint32_t>(4, 0);
  for (unsigned i = 0; i < kPages; ++i) at<uint32_t>(kStart + 4096 * i) = i;
  for (unsigned i = 0; i < kPages; ++i)
    expect(at<uint32_t>(kStart + 4096 * i) == i, "a deflated page is good");
  device.stop();
  print("balloon: 512 pages inflated and deflated\n");
}

void drive_block(unsigned slot, const Mode& mode) {
  struct [[gnu::packed]] {
    uint32_t type, reserved;
    uint64_t sector;
  } header{1, 0, 3};
  uint8_t status = 0xff;
  Device device;
  device.start(slot, mode, 0, 1);
  for (unsigned i = 0; i < 512; ++i) sector[i] = static_cast<unsigned char>(i * 7);
  // More requests than the queue has places, so that packed rings go round.
  for (unsigned round = 0; round < 300; ++round) {
    const Buffer write[] = {{&header, 16, false}, {sector, 512, false}, {&status, 1, true}};
    status = 0xff;
    expect(device.request(0, write, 3) == 1 && *const_cast<volatile uint8_t*>(&status) == 0,
           "a write succeeds");
  }
  for (unsigned char& byte : sector) byte = 0;
  header.type = 0;
  const Buffer read[] = {{&header, 16, false}, {sector, 512, true}, {&status, 1, true}};
  expect(device.request(0, read, 3) == 513 && status == 0, "a read succeeds");
  asm volatile("" : : : "memory");
  for (unsigned i = 0; i < 512; ++i)
    expect(sector[i] == static_cast<unsigned char>(i * 7), "what was written is read");
  header.type = 8;  // GET_ID
  const Buffer id[] = {{&header, 16, false}, {serial, 20, true}, {&status, 1, true}};
  device.request(0, id, 3);
  print("block: 300 writes, read back, serial ");
  print(reinterpret_cast<const char*>(serial));
  print("\n");
  device.stop();
}

/// Sends one broadcast frame, with the header of a driver that knows no offloads.
void drive_net(unsigned slot, const Mode& mode) {
  static unsigned char packet[12 + 60];
  const unsigned header = mode.legacy ? 10 : 12;
  for (unsigned char& byte : packet) byte = 0;
  unsigned char* frame = packet + header;
  for (unsigned i = 0; i < 6; ++i) frame[i] = 0xff;
  frame[6] = 0x52;
  frame[11] = 0x01;
  frame[12] = 0x88;  // an EtherType for local experiments (IEEE 802)
  frame[13] = 0xb5;
  const char* text = "hello from bare metal";
  for (unsigned i = 0; text[i] != 0; ++i) frame[14 + i] = static_cast<unsigned char>(text[i]);
  Device device;
  device.start(slot, mode, 0, 2);
  const Buffer out{packet, header + 60, false};
  device.request(1, &out, 1);
  device.stop();
  print("net: a frame sent\n");
}

/// Says the network device's address, and reboots.
[[noreturn]] void say_address(unsigned slot, const Mode& mode) {
  Device device;
  device.start(slot, mode, 1U << 5, 0);  // VIRTIO_NET_F_MAC
  print("address");
  for (unsigned i = 0; i < 6; ++i) {
    print(" ");
    print(device.read_config<uint8_t>(i));
  }
  print("\n");
  out<uint8_t>(0x64, 0xfe);  // the keyboard controller's reset line
  for (;;) asm volatile("cli; hlt");
}

void run(const char* command_line) {
  const bool mmio = contains(command_line, "mmio");
  const Mode mode{contains(command_line, "legacy"), contains(command_line, "packed"),
                  mmio || contains(command_line, "pin"), mmio};
  set_up_interrupts();
  for (unsigned slot = mmio ? 0 : 1; slot < 32; ++slot) {
    switch (Device::id(slot, mode)) {
      case 1:
        if (contains(command_line, "address")) say_address(slot, mode);
        drive_net(slot, mode);
        break;
      case 2:
        drive_block(slot, mode);
        break;
      case 5:
        drive_balloon(slot, mode);
        break;
      default:
        break;
    }
  }
  expect(mode.pin ? messages == 0 && pins > 0 : messages > 0 && pins == 0,
         "interrupts come the way that was chosen");
  print(mode.pin ? "interrupts by the pin\n" : "interrupts by message\n");
  print("done\n");
  power_off();
}

}  // namespace
}  // namespace bare

void bare::start(const char* command_line) { run(command_line); }

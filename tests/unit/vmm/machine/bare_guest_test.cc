// Small guests of a few instructions on this host's own KVM: the whole machine, from the first instruction to its end. They need /dev/kvm
// and fail without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

/// An ELF file with a PVH entry note (Xen's XEN_ELFNOTE_PHYS32_ENTRY, 18) whose only segment is `code` at 1 MiB: what load_kernel() takes.
std::vector<std::uint8_t> make_kernel(const std::vector<std::uint8_t>& code) {
  constexpr std::uint32_t kEntry = 0x100000;
  constexpr std::size_t kHeader = 64, kProgramHeader = 56, kNoteAt = kHeader + 2 * kProgramHeader, kCodeAt = 0x200;
  std::vector<std::uint8_t> file(kCodeAt + code.size());
  const auto put = [&](std::size_t offset, auto value) { std::memcpy(file.data() + offset, &value, sizeof value); };
  const std::uint8_t identity[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  std::memcpy(file.data(), identity, sizeof identity);
  put(16, std::uint16_t{2});    // executable
  put(18, std::uint16_t{62});   // x86-64
  put(20, std::uint32_t{1});
  put(24, std::uint64_t{kEntry});
  put(32, std::uint64_t{kHeader});
  put(52, std::uint16_t{kHeader});
  put(54, std::uint16_t{kProgramHeader});
  put(56, std::uint16_t{2});
  const auto segment = [&](std::size_t at, std::uint32_t type, std::uint64_t offset, std::uint64_t address,
                           std::uint64_t size, std::uint64_t align) {
    put(at, type);
    put(at + 4, std::uint32_t{7});
    put(at + 8, offset);
    put(at + 16, address);
    put(at + 24, address);
    put(at + 32, size);
    put(at + 40, size);
    put(at + 48, align);
  };
  segment(kHeader, 1, kCodeAt, kEntry, code.size(), 0x200);
  segment(kHeader + kProgramHeader, 4, kNoteAt, 0, 20, 4);
  put(kNoteAt, std::uint32_t{4});
  put(kNoteAt + 4, std::uint32_t{4});
  put(kNoteAt + 8, std::uint32_t{18});
  std::memcpy(file.data() + kNoteAt + 12, "Xen", 4);
  put(kNoteAt + 16, kEntry);
  std::memcpy(file.data() + kCodeAt, code.data(), code.size());
  return file;
}

/// 32-bit instructions, put together.
class Code {
 public:
  Code& raw(std::initializer_list<std::uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes);
    return *this;
  }
  Code& set_dx(std::uint16_t port) {  // mov dx, port
    return raw({0x66, 0xba, static_cast<std::uint8_t>(port), static_cast<std::uint8_t>(port >> 8)});
  }
  Code& out8(std::uint16_t port, std::uint8_t value) { return set_dx(port).raw({0xb0, value, 0xee}); }
  Code& out32(std::uint16_t port, std::uint32_t value) { return set_dx(port).load_eax(value).raw({0xef}); }
  Code& in32(std::uint16_t port) { return set_dx(port).raw({0xed}); }
  Code& load_eax(std::uint32_t value) { return raw({0xb8}).word(value); }
  Code& store_eax(std::uint32_t address) { return raw({0xa3}).word(address); }
  Code& fetch_eax(std::uint32_t address) { return raw({0xa1}).word(address); }
  /// Sends AL, AH and so on as they are.
  Code& print_eax() {
    for (int i = 0; i < 4; ++i) set_dx(layout_serial).raw({0xee, 0xc1, 0xe8, 0x08});  // out dx, al; shr eax, 8
    return *this;
  }
  Code& print(std::string_view text) {
    for (const char c : text) out8(layout_serial, static_cast<std::uint8_t>(c));
    return *this;
  }
  Code& power_off() { return out8(0x600, 1U << 5 | 5U << 2).halt(); }
  Code& halt() { return raw({0xf4, 0xeb, 0xfd}); }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  static constexpr std::uint16_t layout_serial = 0x3f8;
  Code& word(std::uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return *this;
  }
  std::vector<std::uint8_t> bytes_;
};

class BareGuestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory);
    config.name = "bare";
    config.memory = 64 * kMiB;
    config.boot.kernel = directory / "kernel";
    config.serial = {SerialConfig::Kind::file, directory / "serial"};
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm = std::make_unique<Kvm>(std::move(*opened));
    serial = std::move(*SerialBackend::create(config.serial, *loop));
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  /// Boots `code` and waits for the machine's end.
  Outcome run(const Code& code) {
    const auto kernel = make_kernel(code.bytes());
    std::ofstream(config.boot.kernel, std::ios::binary)
        .write(reinterpret_cast<const char*>(kernel.data()), static_cast<std::streamsize>(kernel.size()));
    auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
    if (!machine) return {Ending::failed, machine.error().message};
    (*machine)->start();
    pollfd ended{.fd = (*machine)->outcome().fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 30'000) != 1) return {Ending::failed, "it did not end within 30 s"};
    return *(*machine)->outcome().get();
  }
  std::string printed() const {
    std::ifstream file(config.serial.path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path directory = std::filesystem::temp_directory_path() / ("bare-guest-" + std::to_string(::getpid()));
  VmmConfig config;
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<SerialBackend> serial;
};

TEST_F(BareGuestTest, ItPrintsAndPowersOff) {
  const Outcome outcome = run(Code().print("hello").power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), "hello");
}

TEST_F(BareGuestTest, ATripleFaultIsAReboot) {
  // An empty interrupt table, then an exception.
  const Outcome outcome = run(Code().raw({0x6a, 0x00, 0x6a, 0x00}).raw({0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b}));
  EXPECT_EQ(outcome.ending, Ending::reboot) << outcome.why;
}

TEST_F(BareGuestTest, TheResetPortsReboot) {
  EXPECT_EQ(run(Code().out8(0x602, 1).halt()).ending, Ending::reboot);
  EXPECT_EQ(run(Code().out8(0x64, 0xfe).halt()).ending, Ending::reboot);
}

TEST_F(BareGuestTest, UnknownPortsAndAddressesReadAsAllOnes) {
  const Outcome outcome =
      run(Code().in32(0x1234).print_eax().fetch_eax(0xd0000000).print_eax().out32(0x1234, 7).load_eax(7).store_eax(0xd0000000).power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), std::string(8, '\xff'));
}

TEST_F(BareGuestTest, ItFindsTheBalloonOnThePciBus) {
  const Outcome outcome = run(Code().out32(0xcf8, 0x80000800).in32(0xcfc).print_eax().power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  EXPECT_EQ(printed(), "\xf4\x1a\x45\x10");
}

TEST_F(BareGuestTest, ItReachesTheBalloonThroughItsBar) {
  // Command: memory on. Then the device's status (acknowledge) written and read back through BAR 0, the first in the window.
  const Outcome outcome = run(Code()
                                  .out32(0xcf8, 0x80000804)
                                  .out32(0xcfc, 0x6)
                                  .raw({0xb0, 0x01, 0xa2, 0x14, 0x00, 0x00, 0xc0})  // mov al, 1; mov [0xc0000014], al
                                  .fetch_eax(0xc0000014)
                                  .print_eax()
                                  .power_off());
  EXPECT_EQ(outcome.ending, Ending::power_off) << outcome.why;
  ASSERT_EQ(printed().size(), 4U);
  EXPECT_EQ(printed()[0], 1);
}

TEST_F(BareGuestTest, MachineAfterMachineRunsInOneProcess) {
  for (int life = 0; life < 5; ++life) ASSERT_EQ(run(Code().print("x").power_off()).ending, Ending::power_off);
  EXPECT_EQ(printed(), "xxxxx");
}

TEST_F(BareGuestTest, AGuestThatSpinsIsStopped) {
  const auto kernel = make_kernel(Code().raw({0xeb, 0xfe}).bytes());
  std::ofstream(config.boot.kernel, std::ios::binary)
      .write(reinterpret_cast<const char*>(kernel.data()), static_cast<std::streamsize>(kernel.size()));
  config.cpus = 2;
  auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_TRUE(machine) << machine.error().message;
  (*machine)->start();
  const auto start = std::chrono::steady_clock::now();
  machine->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(BareGuestTest, TheBalloonsFirstTargetIsTheConfigurations) {
  config.balloon.initial_target = 32 * kMiB;
  const auto kernel = make_kernel(Code().halt().bytes());
  std::ofstream(config.boot.kernel, std::ios::binary)
      .write(reinterpret_cast<const char*>(kernel.data()), static_cast<std::streamsize>(kernel.size()));
  auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_TRUE(machine) << machine.error().message;
  EXPECT_EQ((*machine)->balloon().state().target, 32 * kMiB);
}

TEST_F(BareGuestTest, AKernelThatIsNoneIsNamedInTheError) {
  std::ofstream(config.boot.kernel) << "this is no kernel";
  const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_FALSE(machine);
  EXPECT_THAT(machine.error().message, HasSubstr(config.boot.kernel));
}

TEST_F(BareGuestTest, ADiskThatIsAbsentIsNamedInTheError) {
  const auto kernel = make_kernel(Code().halt().bytes());
  std::ofstream(config.boot.kernel, std::ios::binary)
      .write(reinterpret_cast<const char*>(kernel.data()), static_cast<std::streamsize>(kernel.size()));
  config.disks.push_back({.path = directory / "absent.img", .read_only = false, .serial = ""});
  const auto machine = Machine::create(config, {.kvm = *kvm, .loop = *loop, .serial = *serial});
  ASSERT_FALSE(machine);
  EXPECT_THAT(machine.error().message, HasSubstr("absent.img"));
}

TEST(KvmOpen, AnAbsentDeviceSaysWhatToDo) {
  const auto kvm = Kvm::open("/no/such/kvm");
  ASSERT_FALSE(kvm);
  EXPECT_THAT(kvm.error().message, HasSubstr("kvm-intel or kvm-amd"));
}

TEST(KvmOpen, AnotherDeviceIsNotKvm) {
  const auto kvm = Kvm::open("/dev/null");
  ASSERT_FALSE(kvm);
  EXPECT_THAT(kvm.error().message, HasSubstr("/dev/null"));
}

}  // namespace
}  // namespace balloon::vmm::test

// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/log.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/kvm/list.h"

namespace balloon::vmm {
namespace {

/// The I/O APIC has 24 pins; MSI lines have the numbers behind them.
constexpr std::uint32_t kIoApicPins = 24;
/// PIC inputs, eight on each of two controllers.
constexpr std::uint32_t kPicPins = 16;
/// KVM_MAX_IRQ_ROUTES of the kernel's kvm_host.h.
constexpr std::uint32_t kMaxGsi = 4096;

kvm_irq_routing_entry chip_route(std::uint32_t gsi, std::uint32_t chip, std::uint32_t pin) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip = {.irqchip = chip, .pin = pin};
  return entry;
}

Result<void> irqfd(int vm, std::uint32_t gsi, int event, std::uint32_t flags) {
  kvm_irqfd request{};
  request.fd = static_cast<std::uint32_t>(event);
  request.gsi = gsi;
  request.flags = flags;
  if (::ioctl(vm, KVM_IRQFD, &request) != 0)
    return fail_errno(fmt::format("connecting interrupt {}", gsi), errno);
  return {};
}

Result<void> ioeventfd(int vm, const Doorbell& doorbell, int event, std::uint32_t flags) {
  kvm_ioeventfd request{};
  request.addr = doorbell.address;
  request.len = doorbell.width;
  request.fd = event;
  request.flags = flags;
  if (doorbell.port) request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (doorbell.value != Doorbell::kAnyValue) {
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    request.datamatch = static_cast<std::uint64_t>(doorbell.value);
  }
  if (::ioctl(vm, KVM_IOEVENTFD, &request) != 0) {
    return fail_errno(fmt::format("connecting the doorbell at {:#x}", doorbell.address), errno);
  }
  return {};
}

}  // namespace

/// An eventfd that KVM turns into an MSI.
class Vm::IrqfdLine final : public MsiLine {
 public:
  IrqfdLine(Vm& vm, std::uint32_t gsi, UniqueFd event) : vm_(vm), gsi_(gsi), event_(std::move(event)) {}
  ~IrqfdLine() override {
    // The irqfd goes before its number is free for another line (the order that QEMU's CVE-2024-4693 got
    // wrong).
    if (!held_) hold();
    vm_.give_back_gsi(gsi_);
  }
  Result<void> route(const MsiMessage& message) override { return vm_.set_route(gsi_, message); }
  void trigger() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof(one));
  }
  int event() const override { return event_.get(); }
  /// Without the irqfd, signals stay in the eventfd's count.
  void hold() override {
    [[maybe_unused]] const auto done = irqfd(vm_.fd(), gsi_, event_.get(), KVM_IRQFD_FLAG_DEASSIGN);
    held_ = true;
  }
  bool release() override {
    // A signal between this and KVM_IRQFD raises the interrupt: KVM looks at the count when it is connected
    // (virt/kvm/eventfd.c, kvm_irqfd_assign()).
    std::uint64_t count = 0;
    const bool remembered = ::read(event_.get(), &count, sizeof(count)) == sizeof(count);
    held_ = false;
    if (const auto done = irqfd(vm_.fd(), gsi_, event_.get(), 0); !done)
      log::error("{}", done.error().message);
    return remembered;
  }
  bool held_signal() const override {
    pollfd events{.fd = event_.get(), .events = POLLIN, .revents = 0};
    return held_ && ::poll(&events, 1, 0) == 1;
  }

 private:
  Vm& vm_;
  std::uint32_t gsi_;
  UniqueFd event_;
  bool held_ = false;
};

/// KVM keeps one state a pin for all of user space, so the devices that assert it are counted here.
class Vm::SharedPin final : public PinLine {
 public:
  SharedPin(Vm& vm, std::uint32_t gsi) : vm_(vm), gsi_(gsi) {}
  ~SharedPin() override { set(false); }
  void set(bool asserted) override {
    if (asserted == asserted_) return;
    asserted_ = asserted;
    const MutexLock lock(vm_.pins_mutex_);
    unsigned& count = vm_.asserted_[gsi_];
    const bool before = count > 0;
    asserted ? ++count : --count;
    if ((count > 0) == before) return;
    kvm_irq_level level{};
    level.irq = gsi_;
    level.level = asserted ? 1 : 0;
    if (::ioctl(vm_.fd(), KVM_IRQ_LINE, &level) != 0) {
      log::error("interrupt pin {}: KVM refuses to set it, errno {}", gsi_, errno);
    }
  }

 private:
  Vm& vm_;
  std::uint32_t gsi_;
  bool asserted_ = false;
};

Result<std::unique_ptr<Vm>> Vm::create(const Kvm& kvm, const GuestMemory& memory) {
  auto vm = std::unique_ptr<Vm>(new Vm(kvm));
  // A signal may interrupt the creation.
  int fd = -1;
  do {
    fd = ::ioctl(kvm.fd(), KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno("creating a virtual machine", errno);
  vm->fd_ = UniqueFd(fd);
  BALLOON_TRY(vm->set_up(memory));
  return vm;
}

Vm::~Vm() = default;

Result<void> Vm::set_up(const GuestMemory& memory) {
  std::uint64_t identity_map = layout::kKvmIdentityMap;
  if (::ioctl(fd(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0) {
    return fail_errno("placing KVM's identity map", errno);
  }
  if (::ioctl(fd(), KVM_SET_TSS_ADDR, layout::kKvmTss) != 0) return fail_errno("placing KVM's TSS", errno);
  if (::ioctl(fd(), KVM_CREATE_IRQCHIP, 0) != 0)
    return fail_errno("creating the interrupt controllers", errno);
  kvm_pit_config pit{};
  pit.flags = KVM_PIT_SPEAKER_DUMMY;  // answers port 0x61, which kernels poll when they calibrate
  if (::ioctl(fd(), KVM_CREATE_PIT2, &pit) != 0) return fail_errno("creating the timer", errno);

  std::uint32_t slot = 0;
  for (const GuestMemory::Region& region : memory.regions()) {
    kvm_userspace_memory_region request{};
    request.slot = slot++;
    request.guest_phys_addr = region.start;
    request.memory_size = region.host.size();
    request.userspace_addr = reinterpret_cast<std::uintptr_t>(region.host.data());
    if (::ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &request) != 0) {
      return fail_errno(fmt::format("giving the guest {} of memory at {:#x}",
                                    format_bytes(Bytes{region.host.size()}), region.start),
                        errno);
    }
  }
  return write_routes();
}

Result<void> Vm::connect_irq(std::uint32_t gsi, int event) { return irqfd(fd(), gsi, event, 0); }

void Vm::disconnect_irq(std::uint32_t gsi, int event) {
  [[maybe_unused]] const auto done = irqfd(fd(), gsi, event, KVM_IRQFD_FLAG_DEASSIGN);
}

Result<std::unique_ptr<PinLine>> Vm::new_pin_line(std::uint32_t gsi) {
  if (gsi >= kIoApicPins) return fail(fmt::format("the I/O APIC has no pin {}", gsi));
  return std::make_unique<SharedPin>(*this, gsi);
}

Result<void> Vm::connect_doorbell(const Doorbell& doorbell, int event) {
  return ioeventfd(fd(), doorbell, event, 0);
}

void Vm::disconnect_doorbell(const Doorbell& doorbell, int event) {
  [[maybe_unused]] const auto done = ioeventfd(fd(), doorbell, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Result<std::unique_ptr<MsiLine>> Vm::new_msi_line() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("making an eventfd", errno);
  const auto gsi = take_gsi();
  if (!gsi) return std::unexpected(gsi.error());
  const int raw = event.get();
  auto line = std::make_unique<IrqfdLine>(*this, *gsi, std::move(event));
  BALLOON_TRY(irqfd(fd(), *gsi, raw, 0));
  return line;
}

Result<std::uint32_t> Vm::take_gsi() {
  const MutexLock lock(mutex_);
  for (std::uint32_t gsi = kIoApicPins; gsi < kMaxGsi; ++gsi) {
    if (msi_gsis_.insert(gsi).second) return gsi;
  }
  return fail("no interrupt number is left");
}

void Vm::give_back_gsi(std::uint32_t gsi) {
  const MutexLock lock(mutex_);
  msi_gsis_.erase(gsi);
  routes_.erase(gsi);  // the kernel's table forgets it with the next change
}

Result<void> Vm::set_route(std::uint32_t gsi, const MsiMessage& message) {
  const MutexLock lock(mutex_);
  const auto before = routes_;
  routes_[gsi] = message;
  auto done = write_routes();
  if (!done) routes_ = before;
  return done;
}

/// KVM takes the routing table as a whole.
Result<void> Vm::write_routes() {
  std::vector<kvm_irq_routing_entry> entries;
  for (std::uint32_t pin = 0; pin < kPicPins; ++pin) {
    entries.push_back(chip_route(pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8));
  }
  for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin)
    entries.push_back(chip_route(pin, KVM_IRQCHIP_IOAPIC, pin));
  for (const auto& [gsi, message] : routes_) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<std::uint32_t>(message.address);
    entry.u.msi.address_hi = static_cast<std::uint32_t>(message.address >> 32);
    entry.u.msi.data = message.data;
    entries.push_back(entry);
  }
  KvmList<kvm_irq_routing_entry> table(entries);
  if (::ioctl(fd(), kKvmSetGsiRouting, table.data()) != 0)
    return fail_errno("setting the interrupt routes", errno);
  return {};
}

}  // namespace balloon::vmm

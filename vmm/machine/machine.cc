// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/machine.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/log.h"
#include "vmm/arch/x86_64/acpi.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"
#include "vmm/memory/lost_memory.h"
#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm {
namespace {

/// The UART's wires lead to the process's serial backend and to the guest's interrupt line.
Uart::Wires serial_wires(SerialBackend& serial, const UniqueFd& irq) {
  return {.transmit = [&serial](std::byte byte) { serial.transmit(byte); },
          .interrupt =
              [&irq] {
                const std::uint64_t one = 1;
                [[maybe_unused]] const auto written = ::write(irq.get(), &one, sizeof(one));
              },
          .receive_ready = [&serial] { serial.resume_input(); }};
}

}  // namespace

Machine::Machine(const VmmConfig& config, const MachineHost& host, std::shared_ptr<const GuestAssets> assets,
                 GuestMemory memory, std::unique_ptr<OutcomeLatch> outcome)
    : config_(config),
      host_(host),
      assets_(std::move(assets)),
      memory_(std::move(memory)),
      outcome_(std::move(outcome)),
      power_(*outcome_),
      keyboard_(*outcome_),
      pci_({.memory = mmio_, .ports = ports_}),
      pci_ports_(pci_, *outcome_),
      no_balloon_(config.memory),
      uart_(serial_wires(host.serial, serial_irq_)) {}

Result<std::unique_ptr<Machine>> Machine::create(const VmmConfig& config, const MachineHost& host) {
  auto assets = GuestAssets::open(config);
  if (!assets) return std::unexpected(std::move(assets.error()));
  return create(config, host, std::move(*assets), config.restore);
}

Result<std::unique_ptr<Machine>> Machine::create(const VmmConfig& config, const MachineHost& host,
                                                 std::shared_ptr<const GuestAssets> assets,
                                                 const std::string& restore) {
  if (config.cpus > host.kvm.max_vcpus()) {
    return fail(fmt::format("this host's KVM allows {} vCPUs, not {}", host.kvm.max_vcpus(), config.cpus));
  }
  auto memory = GuestMemory::create(config.memory, config.memory_backing);
  if (!memory) return std::unexpected(memory.error());
  auto outcome = OutcomeLatch::create();
  if (!outcome) return std::unexpected(outcome.error());
  auto machine = std::unique_ptr<Machine>(
      new Machine(config, host, std::move(assets), std::move(*memory), std::move(*outcome)));

  set_guest_memory(machine->memory_);
  auto vm = Vm::create(host.kvm, machine->memory_);
  if (!vm) return std::unexpected(vm.error());
  machine->vm_ = std::move(*vm);
  BALLOON_TRY(machine->add_devices());

  if (!restore.empty()) {
    BALLOON_TRY(machine->restore(restore));
    host.serial.attach(&machine->uart_);  // not before: what comes in has its place after what was saved
    return machine;
  }
  const Result<BootFiles>& files = machine->assets_->boot;
  if (!files) return std::unexpected(files.error());
  const auto entry = load_kernel(machine->memory_, *files);
  if (!entry) return std::unexpected(entry.error());
  const AcpiConfig acpi{.vcpus = config.cpus,
                        .mmio_devices = static_cast<std::uint32_t>(machine->mmio_devices_.size())};
  if (!machine->memory_.write(layout::kAcpiTables, build_acpi_tables(acpi)) ||
      !machine->memory_.write(kResetVector, kResetCode)) {
    return fail("the guest's memory has no room for the ACPI tables");
  }
  BALLOON_TRY(machine->add_vcpus(&*entry));
  host.serial.attach(&machine->uart_);
  return machine;
}

Machine::~Machine() {
  for (const auto& vcpu : vcpus_) vcpu->request_stop();
  vcpus_.clear();
  host_.serial.attach(nullptr);
  if (vm_ && serial_irq_) vm_->disconnect_irq(layout::kSerialIrq, serial_irq_.get());
  if (vm_ && power_button_irq_) vm_->disconnect_irq(layout::kPowerButtonIrq, power_button_irq_.get());
  if (paused_) each_loop([](EventLoop& loop) { loop.resume(); });
}

Result<void> Machine::add_devices() {
  BALLOON_TRY(add_power());
  BALLOON_TRY(ports_.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, pci_ports_));
  BALLOON_TRY(add_serial());

  reserve_slots();
  BALLOON_TRY(add_balloon());
  for (std::size_t i = 0; i < config_.disks.size(); ++i) {
    // A loop of its own: a slow disk holds up neither the balloon nor another disk.
    const auto loop = add_loop("disk");
    if (!loop) return std::unexpected(loop.error());
    auto device = make_block(config_.disks[i], assets_->disks[i], **loop);
    if (!device) return std::unexpected(device.error());
    disks_.push_back(device->control);
    BALLOON_TRY(add_virtio(std::move(device->device), **loop, config_.disks[i].identity.slot));
  }
  for (std::size_t i = 0; i < config_.nets.size(); ++i) {
    // Likewise: a flood of frames delays nobody else.
    const auto loop = add_loop("net");
    if (!loop) return std::unexpected(loop.error());
    auto device = make_net(config_.nets[i], assets_->nets[i], memory_, **loop);
    if (!device) return std::unexpected(device.error());
    nets_.push_back(device->control);
    BALLOON_TRY(add_virtio(std::move(device->device), **loop, config_.nets[i].identity.slot));
  }
  if (config_.rng.enabled) {
    auto device = make_rng(config_.rng, host_.loop);
    if (!device) return std::unexpected(device.error());
    BALLOON_TRY(add_virtio(std::move(*device), host_.loop));
  }
  if (host_.console != nullptr) {
    auto device = make_console(*host_.console, host_.loop);
    if (!device) return std::unexpected(device.error());
    BALLOON_TRY(add_virtio(std::move(*device), host_.loop));
  }
  return {};
}

/// What has an address of its own keeps it from those that take any.
void Machine::reserve_slots() {
  const auto reserve = [this](const DeviceIdentity& identity) {
    if (identity.slot) pci_.reserve(*identity.slot);
  };
  reserve(config_.balloon.identity);
  for (const BlockConfig& disk : config_.disks) reserve(disk.identity);
  for (const NetConfig& net : config_.nets) reserve(net.identity);
}

Result<void> Machine::add_balloon() {
  if (!config_.balloon.enabled) return {};
  auto balloon = make_balloon(config_.balloon, memory_, host_.loop);
  if (!balloon) return std::unexpected(balloon.error());
  balloon_ = balloon->control;
  return add_virtio(std::move(balloon->device), host_.loop, config_.balloon.identity.slot);
}

Result<EventLoop*> Machine::add_loop(std::string_view kind) {
  auto loop = EventLoop::create(fmt::format("{}-{}", kind, device_loops_.size()));
  if (!loop) return std::unexpected(loop.error());
  return device_loops_.emplace_back(std::move(*loop)).get();
}

Result<void> Machine::add_virtio(std::unique_ptr<VirtioDevice> device, EventLoop& loop,
                                 std::optional<unsigned> slot) {
  if (config_.virtio.interface == VirtioInterface::mmio) return add_mmio(std::move(device), loop);
  auto transport = VirtioPci::create(std::move(device), memory_, loop, *vm_,
                                     {.memory = mmio_, .ports = ports_}, config_.virtio);
  if (!transport) return std::unexpected(transport.error());
  virtio_.push_back(transport->get());
  return pci_.add(std::move(*transport), slot);
}

Result<void> Machine::add_mmio(std::unique_ptr<VirtioDevice> device, EventLoop& loop) {
  static_assert(layout::kMmioWindowSize == virtio_mmio::kWindow);
  const auto index = static_cast<std::uint32_t>(mmio_devices_.size());
  if (index == layout::kMmioDevices) {
    return fail(fmt::format("virtio-mmio has room for {} devices at most", layout::kMmioDevices));
  }
  auto transport = VirtioMmio::create(std::move(device), memory_, loop, *vm_, mmio_,
                                      {.address = layout::mmio_window(index), .pin = layout::mmio_pin(index)},
                                      config_.virtio);
  if (!transport) return std::unexpected(transport.error());
  virtio_.push_back(transport->get());
  mmio_devices_.push_back(std::move(*transport));
  return {};
}

Result<void> Machine::add_power() {
  BALLOON_TRY(ports_.add("power", layout::kSleepControlPort, PowerPorts::kPorts, power_));
  BALLOON_TRY(ports_.add("keyboard reset", KeyboardReset::kPort, 1, keyboard_));
  power_button_irq_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!power_button_irq_) return fail_errno("making an eventfd", errno);
  return vm_->connect_irq(layout::kPowerButtonIrq, power_button_irq_.get());
}

Result<void> Machine::add_serial() {
  serial_irq_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!serial_irq_) return fail_errno("making an eventfd", errno);
  BALLOON_TRY(vm_->connect_irq(layout::kSerialIrq, serial_irq_.get()));
  BALLOON_TRY(ports_.add("serial port", layout::kSerialPort, Uart::kPorts, uart_));
  return {};
}

Result<void> Machine::add_vcpus(const BootEntry* entry) {
  const auto supported = host_.kvm.supported_cpuid();
  if (!supported) return std::unexpected(supported.error());
  for (std::uint32_t index = 0; index < config_.cpus; ++index) {
    VcpuState state{
        .cpuid = guest_cpuid(
            *supported,
            {.vcpu = index, .vcpus = config_.cpus, .tsc_deadline_timer = host_.kvm.has_tsc_deadline_timer()}),
        .msrs = boot_msrs(),
        .fpu = boot_fpu(),
        .registers = {},
        .system_registers = {}};
    if (index == 0 && entry != nullptr) {
      state.registers = boot_registers(*entry);
      state.system_registers = [&](const kvm_sregs& from_kvm) {
        return boot_system_registers(*entry, from_kvm);
      };
    }
    auto vcpu = Vcpu::create(*vm_, index, state, ports_, mmio_);
    if (!vcpu) return std::unexpected(vcpu.error());
    vcpus_.push_back(std::move(*vcpu));
  }
  return {};
}

void Machine::start() {
  for (const auto& vcpu : vcpus_) {
    vcpu->start([this](const VcpuStop& stop) { on_vcpu_stop(stop); });
  }
}

void Machine::on_vcpu_stop(const VcpuStop& stop) {
  outcome_->set(stop.why == VcpuStop::Why::shutdown ? Ending::reboot : Ending::failed, stop.message);
}

}  // namespace balloon::vmm

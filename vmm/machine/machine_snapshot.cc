// SPDX-License-Identifier: Apache-2.0
// A machine as a file, and a machine made of one.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "vmm/machine/config_virtio.h"
#include "vmm/machine/machine.h"
#include "vmm/snapshot/snapshot_file.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
namespace {

void put(StateWriter& writer, const VcpuSnapshot& vcpu) {
  writer.list(vcpu.cpuid);
  writer.put(vcpu.tsc_khz);
  writer.put(vcpu.mp_state);
  writer.put(vcpu.registers);
  writer.put(vcpu.system_registers);
  writer.list(vcpu.xsave);
  writer.put(vcpu.xcrs);
  writer.put(vcpu.debug_registers);
  writer.put(vcpu.local_apic);
  writer.list(vcpu.msrs);
  writer.put(vcpu.events);
}

VcpuSnapshot get_vcpu(StateReader& reader) {
  VcpuSnapshot vcpu;
  vcpu.cpuid = reader.list<kvm_cpuid_entry2>();
  vcpu.tsc_khz = reader.get<std::uint32_t>();
  vcpu.mp_state = reader.get<kvm_mp_state>();
  vcpu.registers = reader.get<kvm_regs>();
  vcpu.system_registers = reader.get<kvm_sregs>();
  vcpu.xsave = reader.list<std::byte>();
  vcpu.xcrs = reader.get<kvm_xcrs>();
  vcpu.debug_registers = reader.get<kvm_debugregs>();
  vcpu.local_apic = reader.get<kvm_lapic_state>();
  vcpu.msrs = reader.list<kvm_msr_entry>();
  vcpu.events = reader.get<kvm_vcpu_events>();
  return vcpu;
}

void put(StateWriter& writer, const UartState& uart) {
  writer.section("serial port");
  writer.put(uart.interrupt_enable);
  writer.put(uart.fifo_control);
  writer.put(uart.line_control);
  writer.put(uart.modem_control);
  writer.put(uart.scratch);
  writer.put(uart.divisor);
  writer.list(uart.received);
  writer.put(uart.transmitter_empty_pending);
  writer.put(uart.overrun);
  writer.put(uart.modem_deltas);
}

UartState get_uart(StateReader& reader) {
  UartState uart;
  uart.interrupt_enable = reader.get<std::uint8_t>();
  uart.fifo_control = reader.get<std::uint8_t>();
  uart.line_control = reader.get<std::uint8_t>();
  uart.modem_control = reader.get<std::uint8_t>();
  uart.scratch = reader.get<std::uint8_t>();
  uart.divisor = reader.get<std::uint16_t>();
  uart.received = reader.list<std::uint8_t>();
  uart.transmitter_empty_pending = reader.get<std::uint8_t>() != 0;
  uart.overrun = reader.get<std::uint8_t>() != 0;
  uart.modem_deltas = reader.get<std::uint8_t>();
  return uart;
}

}  // namespace

Result<void> Machine::save(const std::string& path) {
  const MutexLock lock(pause_mutex_);
  if (!paused_) return fail("the guest runs: pause it first");
  if (std::ranges::any_of(disks_, &BlockControl::holds_failed))
    return fail(
        "a disk could not do what the guest asked for: make room or mend it, and let the guest go on first");
  StateWriter writer;
  writer.section("machine");
  writer.put(memory_.size());
  writer.put(config_.cpus);
  writer.put(config_.virtio.interface);
  auto vm = vm_->save();
  if (!vm) return std::unexpected(vm.error());
  vm->clock = clock_;  // as it stood when the vCPUs did
  writer.section("interrupt controllers");
  writer.put(vm->irqchips);
  writer.put(vm->pit);
  writer.put(vm->clock);
  for (std::size_t i = 0; i < vcpus_.size(); ++i) {
    const auto vcpu = vcpus_[i]->save();
    if (!vcpu) return fail(fmt::format("saving vCPU {}", i), vcpu.error());
    writer.section(fmt::format("vCPU {}", i));
    put(writer, *vcpu);
  }
  put(writer, uart_.save());
  writer.section("balloon target");
  writer.put(balloon_->state().target);
  BALLOON_TRY(pci_.save(writer));
  for (const auto& device : mmio_devices_) device->save(writer);
  const auto size =
      write_snapshot(path, writer.bytes(), memory_, [this] { return outcome_->get().has_value(); });
  if (!size) return std::unexpected(size.error());
  log::info("snapshot '{}' written: {} of the guest's {} were in use", path, format_bytes(size->memory),
            format_bytes(memory_.size()));
  return {};
}

Result<void> Machine::restore(const std::string& path) {
  auto file = SnapshotFile::open(path);
  if (!file) return std::unexpected(file.error());
  const auto doing = [&](const Error& error) {
    return fail(fmt::format("restoring the snapshot '{}'", path), error);
  };
  StateReader reader(file->state());
  if (const auto found = reader.section("machine"); !found) return doing(found.error());
  const auto memory = reader.get<Bytes>();
  const auto cpus = reader.get<std::uint32_t>();
  const auto interface = reader.get<VirtioInterface>();
  if (memory != memory_.size() || cpus != config_.cpus) {
    return doing({fmt::format(
        "it is of a guest with {} of memory and {} CPUs, this one has {} and {}: start it with the "
        "same options",
        format_bytes(memory), cpus, format_bytes(memory_.size()), config_.cpus)});
  }
  if (interface != config_.virtio.interface) {
    return doing({fmt::format("its devices show another virtio interface: start it with --virtio {}",
                              name_of(interface))});
  }
  // Memory first: setting some of the MSRs has KVM write to it.
  BALLOON_TRY(file->load_memory(memory_));
  if (const auto done = restore_state(reader); !done) return doing(done.error());
  log::info("guest '{}' goes on from the snapshot '{}'", config_.name, path);
  return {};
}

Result<void> Machine::restore_state(StateReader& reader) {
  BALLOON_TRY(reader.section("interrupt controllers"));
  VmSnapshot vm;
  vm.irqchips = reader.get<decltype(vm.irqchips)>();
  vm.pit = reader.get<kvm_pit_state2>();
  vm.clock = reader.get<std::uint64_t>();
  BALLOON_TRY(add_vcpus(nullptr));
  for (std::size_t i = 0; i < vcpus_.size(); ++i) {
    BALLOON_TRY(reader.section(fmt::format("vCPU {}", i)));
    const VcpuSnapshot vcpu = get_vcpu(reader);
    BALLOON_TRY(reader.check());
    if (const auto done = vcpus_[i]->load(vcpu); !done) return fail(fmt::format("vCPU {}", i), done.error());
  }
  BALLOON_TRY(vm_->load(vm));
  for (const auto& vcpu : vcpus_) vcpu->mark_clock_stopped();
  BALLOON_TRY(reader.section("serial port"));
  uart_.load(get_uart(reader));
  BALLOON_TRY(reader.section("balloon target"));
  const auto target = reader.get<Bytes>();
  BALLOON_TRY(reader.check());
  if (const auto done = balloon_->set_target(target); !done)
    return fail("the balloon's target", done.error());
  // Devices last: they go on at once, and may interrupt the vCPUs.
  BALLOON_TRY(pci_.load(reader));
  for (const auto& device : mmio_devices_) BALLOON_TRY(device->load(reader));
  // Switches may know the guest's address in another place.
  for (NetControl* const net : nets_) net->announce();
  if (!reader.at_end()) return fail("there is more in it than this machine has parts");
  return {};
}

}  // namespace balloon::vmm

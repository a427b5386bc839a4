// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/laws.h"

#include <algorithm>
#include <array>

#include "policy/engine.h"
#include "policy/peers/balloond1/law.h"
#include "policy/peers/baselines.h"
#include "policy/peers/esx.h"
#include "policy/peers/hypeman.h"
#include "policy/peers/mom.h"
#include "policy/peers/pi.h"
#include "policy/peers/proxmox.h"
#include "policy/peers/qmemman.h"
#include "policy/peers/squeezed.h"
#include "policy/peers/vm0.h"

namespace balloon::policy::peers {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

template <typename T>
std::unique_ptr<Controller> plain(const Tunables&) {
  return std::make_unique<T>();
}

std::unique_ptr<Controller> our_engine(const Tunables& tunables) {
  return std::make_unique<Engine>(tunables);
}
bool urgent_for_us(const UseSample& sample, const Tunables& tunables) {
  return is_urgent(sample, tunables.margin_min, tunables.margin_ratio);
}
std::unique_ptr<Controller> mom_of_vdsm(const Tunables&) { return std::make_unique<Mom>(vdsm_settings()); }
std::unique_ptr<Controller> proxmox_95(const Tunables&) {
  return std::make_unique<Proxmox>(ProxmoxSettings{.ballooning_target = 0.95});
}

constexpr std::array kLaws = {
    Law{"balloond", "our engine with its default tunables", seconds(1), our_engine, admit, urgent_for_us},
    Law{"balloond-1", "our engine as it was before its rework", seconds(1), balloond1::make, balloond1::admit,
        balloond1::is_urgent},
    Law{"none",
        "no balloon: every guest has its boot memory; the host swaps what does not fit; grants unseen",
        seconds(1), plain<NoBalloon>},
    Law{"static", "a fixed size for each guest, by weight between its limits; grants unseen", seconds(1),
        plain<StaticPartition>},
    Law{"mom", "oVirt MOM, stock rules: every guest 5 % down or up by the host's free memory; grants unseen",
        seconds(5), plain<Mom>},
    Law{"mom-vdsm", "oVirt MOM as vdsm ships it, ballooning enabled: every 15 s; grants unseen", seconds(15),
        mom_of_vdsm},
    Law{"proxmox", "Proxmox VE: shares of 80 % of the host, 100 MiB a guest every 10 s; grants unseen",
        seconds(10), plain<Proxmox>},
    Law{"proxmox-95", "Proxmox VE with ballooning-target 95; grants unseen", seconds(10), proxmox_95},
    Law{"squeezed", "xapi squeezed: the same part of each guest's range; reserves by the same formula",
        seconds(1), plain<Squeezed>},
    Law{"qmemman", "Qubes qmemman: 1.3 x used, the rest in proportion; grants what donors free fast enough",
        milliseconds(100), plain<Qmemman>, nullptr, nullptr, milliseconds(100)},
    Law{"esx", "VMware ESX: by shares with a tax of 75 % on idle memory; grants unreserved memory",
        seconds(1), plain<Esx>},
    Law{"hypeman", "kernel/hypeman: up to 15 % of the host from all alike, at 10 % available; grants unseen",
        seconds(2), plain<Hypeman>},
    Law{"pi", "qemus/qemu: a PI loop on the host's free memory in each guest; grants unseen", seconds(5),
        plain<PiLoops>},
    Law{"vm0", "vm0: two thresholds on each guest's own free memory, down to 1 GiB; grants unseen",
        seconds(5), plain<Vm0>},
};

/// A rival with our timing. What counts in its own periods counts in ours.
template <typename T, auto& kSettings>
constexpr Law at_ours(std::string_view name, std::string_view summary) {
  return {
      .name = name,
      .summary = summary,
      .period = seconds(1),
      .make = [](const Tunables&) -> std::unique_ptr<Controller> { return std::make_unique<T>(kSettings); },
      .urgent = urgent_for_us};
}

const MomSettings kMomAtOurs{.samples_per_decision = 1};
const MomSettings kMomVdsmAtOurs = vdsm_settings();
const ProxmoxSettings kProxmoxAtOurs{};
const ProxmoxSettings kProxmox95AtOurs{.ballooning_target = 0.95};
const SqueezedSettings kSqueezedAtOurs{.balance_check_interval = seconds(1)};
const QmemmanSettings kQmemmanAtOurs{.balloon_delay = 1};
const EsxSettings kEsxAtOurs{.balance_period = {}};
const HypemanSettings kHypemanAtOurs{.per_vm_cooldown = seconds(1)};
const PiSettings kPiAtOurs{.interval = 1};
const Vm0Settings kVm0AtOurs{};

constexpr std::array kLawsAtOurTiming = {
    at_ours<Mom, kMomAtOurs>("mom@1s", "mom, with our timing"),
    at_ours<Mom, kMomVdsmAtOurs>("mom-vdsm@1s", "mom-vdsm, with our timing"),
    at_ours<Proxmox, kProxmoxAtOurs>("proxmox@1s", "proxmox, with our timing"),
    at_ours<Proxmox, kProxmox95AtOurs>("proxmox-95@1s", "proxmox-95, with our timing"),
    at_ours<Squeezed, kSqueezedAtOurs>("squeezed@1s", "squeezed, with our timing"),
    at_ours<Qmemman, kQmemmanAtOurs>("qmemman@1s", "qmemman, with our timing and statistics"),
    at_ours<Esx, kEsxAtOurs>("esx@1s", "esx, with our timing"),
    at_ours<Hypeman, kHypemanAtOurs>("hypeman@1s", "hypeman, with our timing"),
    at_ours<PiLoops, kPiAtOurs>("pi@1s", "pi, with our timing"),
    at_ours<Vm0, kVm0AtOurs>("vm0@1s", "vm0, with our timing"),
};

}  // namespace

std::span<const Law> laws() { return kLaws; }
std::span<const Law> laws_at_our_timing() { return kLawsAtOurTiming; }

const Law* find_law(std::string_view name) {
  for (const std::span<const Law> some : {laws(), laws_at_our_timing()}) {
    const auto found = std::ranges::find(some, name, &Law::name);
    if (found != some.end()) return &*found;
  }
  return nullptr;
}

}  // namespace balloon::policy::peers

#include "policy/peers/laws.h"

#include <algorithm>
#include <array>

#include "policy/engine.h"
#include "policy/peers/balloond1/law.h"
#include "policy/peers/baselines.h"
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
        milliseconds(100), plain<Qmemman>},
    Law{"hypeman", "kernel/hypeman: up to 15 % of the host from all alike, at 10 % available; grants unseen",
        seconds(2), plain<Hypeman>},
    Law{"pi", "qemus/qemu: a PI loop on the host's free memory in each guest; grants unseen", seconds(5),
        plain<PiLoops>},
    Law{"vm0", "vm0: two thresholds on each guest's own free memory, down to 1 GiB; grants unseen",
        seconds(5), plain<Vm0>},
};

}  // namespace

std::span<const Law> laws() { return kLaws; }

const Law* find_law(std::string_view name) {
  const auto found = std::ranges::find(kLaws, name, &Law::name);
  return found == kLaws.end() ? nullptr : &*found;
}

}  // namespace balloon::policy::peers

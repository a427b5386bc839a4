#include "policy/peers/laws.h"

#include <algorithm>
#include <array>

#include "policy/engine.h"
#include "policy/peers/baselines.h"

namespace balloon::policy::peers {
namespace {

using std::chrono::seconds;

template <typename T>
std::unique_ptr<Controller> plain() {
  return std::make_unique<T>();
}

std::unique_ptr<Controller> our_engine() { return std::make_unique<Engine>(Tunables{}); }

constexpr std::array kLaws = {
    Law{"balloond", "our engine with its default tunables", seconds(1), true, our_engine},
    Law{"none", "no balloon: every guest has its boot memory, the host's swap has the rest; grants unseen",
        seconds(1), false, plain<NoBalloon>},
    Law{"static", "a fixed size for each guest, by weight between its limits; grants unseen", seconds(1),
        false, plain<StaticPartition>},
};

}  // namespace

std::span<const Law> laws() { return kLaws; }

const Law* find_law(std::string_view name) {
  const auto found = std::ranges::find(kLaws, name, &Law::name);
  return found == kLaws.end() ? nullptr : &*found;
}

}  // namespace balloon::policy::peers

// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/tunable_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "policy/rules/size_rule.h"
#include "policy/rules/values.h"

namespace balloon::policy::rules {
namespace {

using policy::HostStateActions;
using policy::HostStateRules;
using policy::StateActions;
using policy::Surplus;
using policy::Tunables;
using std::chrono::nanoseconds;

/// The engine decides no more often than this: a shorter time would be none.
constexpr nanoseconds kShortest = std::chrono::milliseconds(100);
constexpr nanoseconds kLongest = std::chrono::hours(1);
/// A guest in need that is given more than four times what it uses is given somebody else's memory for
/// nothing.
constexpr double kGrowthMax = 4;
/// A guest is not held for longer than this many times what it takes to know that it comes back.
constexpr double kHoldGrowthMax = 10;
/// A threshold above ten times the minimum that should be free would hold the host's memory back for nothing.
constexpr double kThresholdMaxPercent = 1000;

/// What a key's value is, and the member of T that it sets.
template <typename T>
struct Ratio {
  double T::* member;
};
template <typename T>
struct Factor {
  double T::* member;
  double least;
  double most;
};
template <typename T>
struct Rate {
  double T::* member;  ///< events a second
};
template <typename T>
struct Size {
  Bytes T::* member;
};
template <typename T>
struct BytesASecond {
  double T::* member;
};
template <typename T>
struct Duration {
  nanoseconds T::* member;
  nanoseconds least;
};
template <typename T>
struct Flag {
  bool T::* member;
};
struct NamedSurplus {
  std::string_view name;
  Surplus surplus;
};
constexpr std::array kSurpluses = {NamedSurplus{"headroom", Surplus::headroom},
                                   NamedSurplus{"guests", Surplus::guests},
                                   NamedSurplus{"wanted", Surplus::wanted}};

template <typename T>
struct SurplusName {
  Surplus T::* member;
};

template <typename T>
struct Key {
  std::string_view name;
  std::variant<Ratio<T>, Factor<T>, Rate<T>, Size<T>, BytesASecond<T>, Duration<T>, Flag<T>, SurplusName<T>>
      what;
};

using All = Tunables;
using Act = StateActions;

/// In the order in which they are documented.
constexpr Key<All> kEngine[] = {
    {"budget_rise_ratio_per_second", Ratio<All>{&All::budget_rise_ratio_per_second}},
    {"margin_ratio", Ratio<All>{&All::margin_ratio}},
    {"margin_min", Size<All>{&All::margin_min}},
    {"margin_low", Ratio<All>{&All::margin_low}},
    {"growth_horizon", Duration<All>{&All::growth_horizon, nanoseconds(0)}},
    {"pressure_ratio", Ratio<All>{&All::pressure_ratio}},
    {"pressure_swap_in", BytesASecond<All>{&All::pressure_swap_in}},
    {"pressure_major_faults", Rate<All>{&All::pressure_major_faults}},
    {"pressure_alloc_stalls", Rate<All>{&All::pressure_alloc_stalls}},
    {"pressure_direct_scans", Rate<All>{&All::pressure_direct_scans}},
    {"pressure_host_some", Ratio<All>{&All::pressure_host_some}},
    {"pressure_host_refaults", Rate<All>{&All::pressure_host_refaults}},
    {"critical_ratio", Ratio<All>{&All::critical_ratio}},
    {"critical_growth", Factor<All>{&All::critical_growth, 1, kGrowthMax}},
    {"oom_memory", Duration<All>{&All::oom_memory, kShortest}},
    {"need_half_life", Duration<All>{&All::need_half_life, kShortest}},
    {"peak_window", Duration<All>{&All::peak_window, kShortest}},
    {"swapped_half_life", Duration<All>{&All::swapped_half_life, kShortest}},
    {"cache_half_life", Duration<All>{&All::cache_half_life, kShortest}},
    {"untouched_ratio", Ratio<All>{&All::untouched_ratio}},
    {"untouched_min", Size<All>{&All::untouched_min}},
    {"doubt_after", Duration<All>{&All::doubt_after, kShortest}},
    {"doubt_cache_ratio", Ratio<All>{&All::doubt_cache_ratio}},
    {"deadband_ratio", Ratio<All>{&All::deadband_ratio}},
    {"deadband_min", Size<All>{&All::deadband_min}},
    {"shrink_ratio_per_second", Ratio<All>{&All::shrink_ratio_per_second}},
    {"hold", Duration<All>{&All::hold, nanoseconds(0)}},
    {"hold_growth", Factor<All>{&All::hold_growth, 0, kHoldGrowthMax}},
    {"hold_max", Duration<All>{&All::hold_max, nanoseconds(0)}},
    {"headroom_ratio", Ratio<All>{&All::headroom_ratio}},
    {"stale_after", Duration<All>{&All::stale_after, kShortest}},
    {"blind_after", Duration<All>{&All::blind_after, kShortest}},
    {"stuck_after", Duration<All>{&All::stuck_after, kShortest}},
    {"progress_per_second", Size<All>{&All::progress_per_second}},
    {"retry_after", Duration<All>{&All::retry_after, kShortest}},
    {"retry_max", Duration<All>{&All::retry_max, kShortest}},
    {"balloon_speed", BytesASecond<All>{&All::balloon_speed}},
    {"surplus", SurplusName<All>{&All::surplus}},
    {"ksm_credit", Ratio<All>{&All::ksm_credit}},
    {"ksm_ratio", Ratio<All>{&All::ksm_ratio}},
    {"ksm_scan", Duration<All>{&All::ksm_scan, kShortest}},
    {"ksm_scan_critical", Duration<All>{&All::ksm_scan_critical, kShortest}},
};

/// Beside the thresholds of free memory.
constexpr Key<All> kStates[] = {
    {"swap_tight", BytesASecond<All>{&All::swap_tight}},
    {"swap_critical", BytesASecond<All>{&All::swap_critical}},
    {"pressure_tight", Ratio<All>{&All::pressure_tight}},
    {"pressure_critical", Ratio<All>{&All::pressure_critical}},
};

constexpr Key<Act> kActions[] = {
    {"shrink_ratio_per_second", Ratio<Act>{&Act::shrink_ratio_per_second}},
    {"margin_factor", Factor<Act>{&Act::margin_factor, 0, kMarginFactorMax}},
    {"pressed_give", Flag<Act>{&Act::pressed_give}},
    {"ksm", Flag<Act>{&Act::ksm}},
    {"full_speed", Flag<Act>{&Act::full_speed}},
};

struct State {
  std::string_view name;
  StateActions HostStateActions::* member;
};

constexpr State kActionStates[] = {
    {"normal", &HostStateActions::normal},
    {"tight", &HostStateActions::tight},
    {"critical", &HostStateActions::critical},
    {"emergency", &HostStateActions::emergency},
};

struct Threshold {
  std::string_view name;
  double HostStateRules::* member;
};

/// Mildest first: each must be below the one before.
constexpr Threshold kThresholds[] = {
    {"normal", &HostStateRules::normal},
    {"tight", &HostStateRules::tight},
    {"critical", &HostStateRules::critical},
    {"emergency", &HostStateRules::emergency},
};

bool bound_by_host(const yaml::Value& value, Bytes size, Bytes host_memory, Bytes& out) {
  if (size >= host_memory) {
    value.complain(
        fmt::format("{} is not below the host's memory, {}", format_bytes(size), format_bytes(host_memory)));
    return false;
  }
  out = size;
  return true;
}

/// Reads a value of each kind into a member of `out`.
template <typename T>
struct Reader {
  const yaml::Value& value;
  Bytes host_memory;
  T& out;

  void operator()(const Ratio<T>& key) const {
    double ratio = 0;
    if (!value.read(ratio)) return;
    if (ratio < 0 || ratio > 1) return value.complain(fmt::format("{:g} is not a ratio from 0 to 1", ratio));
    out.*key.member = ratio;
  }
  void operator()(const Factor<T>& key) const {
    double factor = 0;
    if (!value.read(factor)) return;
    if (factor < key.least || factor > key.most)
      return value.complain(
          fmt::format("{:g} is not a factor from {:g} to {:g}", factor, key.least, key.most));
    out.*key.member = factor;
  }
  void operator()(const Rate<T>& key) const {
    double rate = 0;
    if (!value.read(rate)) return;
    if (rate < 0) return value.complain(fmt::format("{:g} is not a number a second from 0 on", rate));
    out.*key.member = rate;
  }
  void operator()(const Size<T>& key) const {
    Bytes size{};
    if (value.read_bytes(size)) bound_by_host(value, size, host_memory, out.*key.member);
  }
  void operator()(const BytesASecond<T>& key) const {
    Bytes per_second{};
    if (value.read_bytes(per_second)) out.*key.member = static_cast<double>(per_second);
  }
  void operator()(const Duration<T>& key) const {
    nanoseconds duration{};
    if (!value.read(duration)) return;
    if (duration < key.least || duration > kLongest)
      return value.complain(key.least.count() == 0 ? "it must be from 0s to 1h"
                                                   : "it must be from 100ms to 1h");
    out.*key.member = duration;
  }
  void operator()(const Flag<T>& key) const { value.read(out.*key.member); }
  void operator()(const SurplusName<T>& key) const {
    std::string surplus;
    if (!value.read(surplus)) return;
    const auto named = std::ranges::find(kSurpluses, surplus, &NamedSurplus::name);
    if (named == kSurpluses.end())
      return value.complain(fmt::format("'{}' is not one of headroom, guests, wanted", surplus));
    out.*key.member = named->surplus;
  }
};

std::string duration_text(nanoseconds duration) {
  const auto count = duration.count();
  if (count % 3'600'000'000'000 == 0 && count != 0) return fmt::format("{}h", count / 3'600'000'000'000);
  if (count % 60'000'000'000 == 0 && count != 0) return fmt::format("{}m", count / 60'000'000'000);
  if (count % 1'000'000'000 == 0) return fmt::format("{}s", count / 1'000'000'000);
  return fmt::format("{}ms", static_cast<double>(count) / 1e6);
}

/// Writes a member of `from` as a value of its kind.
template <typename T>
struct Writer {
  const T& from;

  std::string operator()(const Ratio<T>& key) const { return fmt::format("{}", from.*key.member); }
  std::string operator()(const Factor<T>& key) const { return fmt::format("{}", from.*key.member); }
  std::string operator()(const Rate<T>& key) const { return fmt::format("{}", from.*key.member); }
  std::string operator()(const Size<T>& key) const { return exact_bytes(from.*key.member); }
  std::string operator()(const BytesASecond<T>& key) const {
    return exact_bytes(static_cast<Bytes>(from.*key.member));
  }
  std::string operator()(const Duration<T>& key) const { return duration_text(from.*key.member); }
  std::string operator()(const Flag<T>& key) const { return from.*key.member ? "true" : "false"; }
  std::string operator()(const SurplusName<T>& key) const {
    return std::string(std::ranges::find(kSurpluses, from.*key.member, &NamedSurplus::surplus)->name);
  }
};

template <typename T>
void read_keys(yaml::Map& map, std::span<const Key<T>> keys, Bytes host_memory, T& out) {
  for (const Key<T>& key : keys) {
    map.with(key.name, [&](const yaml::Value& value) {
      std::visit(Reader<T>{.value = value, .host_memory = host_memory, .out = out}, key.what);
    });
  }
}

template <typename T>
void write_keys(const std::string& section, std::span<const Key<T>> keys, const T& from,
                std::vector<std::pair<std::string, std::string>>& out) {
  for (const Key<T>& key : keys)
    out.emplace_back(fmt::format("{}.{}", section, key.name), std::visit(Writer<T>{from}, key.what));
}

/// A size or a share of the host's memory, below all of it. Unlike a guest's limits it may be nothing.
bool read_host_size(const yaml::Value& value, Bytes host_memory, Bytes& out) {
  std::string text;
  if (!value.read(text)) return false;
  Bytes size{};
  if (text.ends_with('%')) {
    double ratio = 0;
    if (!read_percent(value, "the host's memory", 100, ratio)) return false;
    size = static_cast<Bytes>(ratio * static_cast<double>(host_memory));
  } else if (!value.read_bytes(size)) {
    return false;
  }
  return bound_by_host(value, size, host_memory, out);
}

void read_thresholds(yaml::Map& states, Bytes host_memory, HostStateRules& out) {
  states.with("minimum_free", [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    if (text == "sliding") {
      out.minimum_free = Bytes{0};
      return;
    }
    Bytes size{};
    if (!read_host_size(value, host_memory, size)) return;
    if (size == Bytes{0}) return value.complain("it must be more than 0, or sliding");
    out.minimum_free = size;
  });
  double above = 0;
  std::string_view above_name;
  for (const Threshold& threshold : kThresholds) {
    std::optional<yaml::Value> at;
    states.with(threshold.name, [&](const yaml::Value& value) {
      at = value;
      read_percent(value, "the minimum that should be free", kThresholdMaxPercent, out.*threshold.member);
    });
    const double ratio = out.*threshold.member;
    if (!above_name.empty() && ratio >= above) {
      const std::string complaint =
          fmt::format("{} {:g}% is not below {} {:g}%", threshold.name, ratio * 100, above_name, above * 100);
      at ? at->complain(complaint) : states.complain(complaint);
    }
    above = ratio;
    above_name = threshold.name;
  }
}

}  // namespace

Tunables default_tunables(Bytes host_memory) {
  Tunables tunables;
  // Of a small host 400 MiB would be a good part.
  tunables.host_reserve = std::min(tunables.host_reserve, sliding_minimum_free(host_memory));
  return tunables;
}

void read_tunables(yaml::Map& root, Bytes host_memory, Tunables& out, bool& ksm) {
  root.map("host", [&](yaml::Map& host) {
    host.with("reserve", [&](const yaml::Value& value) {
      read_host_size(value, host_memory, out.host_reserve);
      out.reserve_kept_ratio = 1;  // who says what it is wants it kept
    });
    host.with("ksm", [&](const yaml::Value& value) { ksm = read_switch(value).value_or(ksm); });
  });
  root.map("engine", [&](yaml::Map& engine) { read_keys<All>(engine, kEngine, host_memory, out); });
  root.map("states", [&](yaml::Map& states) {
    read_thresholds(states, host_memory, out.states);
    read_keys<All>(states, kStates, host_memory, out);
    if (out.swap_tight > out.swap_critical) {
      states.complain(fmt::format("swap_tight {} is above swap_critical {}",
                                  exact_bytes(static_cast<Bytes>(out.swap_tight)),
                                  exact_bytes(static_cast<Bytes>(out.swap_critical))));
    }
    states.map("actions", [&](yaml::Map& actions) {
      for (const State& state : kActionStates) {
        actions.map(state.name, [&](yaml::Map& map) {
          read_keys<Act>(map, kActions, host_memory, out.actions.*state.member);
        });
      }
    });
  });
}

std::vector<std::pair<std::string, std::string>> describe(const Tunables& tunables) {
  std::vector<std::pair<std::string, std::string>> out{{"host.reserve", exact_bytes(tunables.host_reserve)}};
  write_keys<All>("engine", kEngine, tunables, out);
  const HostStateRules& states = tunables.states;
  out.emplace_back("states.minimum_free",
                   states.minimum_free == Bytes{0} ? "sliding" : exact_bytes(states.minimum_free));
  for (const Threshold& threshold : kThresholds) {
    out.emplace_back(fmt::format("states.{}", threshold.name),
                     fmt::format("{:.10g}%", states.*threshold.member * 100));
  }
  write_keys<All>("states", kStates, tunables, out);
  for (const State& state : kActionStates) {
    write_keys<Act>(fmt::format("states.actions.{}", state.name), kActions, tunables.actions.*state.member,
                    out);
  }
  return out;
}

}  // namespace balloon::policy::rules

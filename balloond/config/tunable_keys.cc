#include "balloond/config/tunable_keys.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string_view>
#include <variant>

#include "balloond/config/size_rule.h"
#include "base/bytes.h"

namespace balloon::daemon {
namespace {

using policy::HostStateRules;
using policy::Surplus;
using policy::Tunables;
using std::chrono::nanoseconds;

/// The engine decides no more often than this: a shorter time would be none.
constexpr nanoseconds kShortest = std::chrono::milliseconds(100);
constexpr nanoseconds kLongest = std::chrono::hours(1);
/// A guest in need that is given more than four times what it uses is given somebody else's memory for
/// nothing.
constexpr double kGrowthMax = 4;
/// A threshold above ten times the minimum that should be free would hold the host's memory back for nothing.
constexpr double kThresholdMaxPercent = 1000;

struct Ratio {
  double Tunables::* member;
};
struct Factor {
  double Tunables::* member;
  double least;
  double most;
};
struct Size {
  Bytes Tunables::* member;
};
struct BytesASecond {
  double Tunables::* member;
};
struct Duration {
  nanoseconds Tunables::* member;
  nanoseconds least;
};
struct SurplusName {
  Surplus Tunables::* member;
};

struct Tunable {
  std::string_view name;
  std::variant<Ratio, Factor, Size, BytesASecond, Duration, SurplusName> key;
};

/// In the order in which they are documented.
constexpr Tunable kEngine[] = {
    {"budget_rise_ratio_per_second", Ratio{&Tunables::budget_rise_ratio_per_second}},
    {"margin_ratio", Ratio{&Tunables::margin_ratio}},
    {"margin_min", Size{&Tunables::margin_min}},
    {"growth_horizon", Duration{&Tunables::growth_horizon, nanoseconds(0)}},
    {"pressure_ratio", Ratio{&Tunables::pressure_ratio}},
    {"pressure_swap_in", BytesASecond{&Tunables::pressure_swap_in}},
    {"critical_ratio", Ratio{&Tunables::critical_ratio}},
    {"critical_growth", Factor{&Tunables::critical_growth, 1, kGrowthMax}},
    {"need_half_life", Duration{&Tunables::need_half_life, kShortest}},
    {"swapped_half_life", Duration{&Tunables::swapped_half_life, kShortest}},
    {"deadband_ratio", Ratio{&Tunables::deadband_ratio}},
    {"deadband_min", Size{&Tunables::deadband_min}},
    {"shrink_ratio_per_second", Ratio{&Tunables::shrink_ratio_per_second}},
    {"hold", Duration{&Tunables::hold, nanoseconds(0)}},
    {"stale_after", Duration{&Tunables::stale_after, kShortest}},
    {"stuck_after", Duration{&Tunables::stuck_after, kShortest}},
    {"retry_after", Duration{&Tunables::retry_after, kShortest}},
    {"surplus", SurplusName{&Tunables::surplus}},
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

/// Reads one tunable of each kind.
struct Reader {
  const yaml::Value& value;
  Bytes host_memory;
  Tunables& out;

  void operator()(const Ratio& key) const {
    double ratio = 0;
    if (!value.read(ratio)) return;
    if (ratio < 0 || ratio > 1) return value.complain(fmt::format("{:g} is not a ratio from 0 to 1", ratio));
    out.*key.member = ratio;
  }
  void operator()(const Factor& key) const {
    double factor = 0;
    if (!value.read(factor)) return;
    if (factor < key.least || factor > key.most)
      return value.complain(
          fmt::format("{:g} is not a factor from {:g} to {:g}", factor, key.least, key.most));
    out.*key.member = factor;
  }
  void operator()(const Size& key) const {
    Bytes size = 0;
    if (value.read_bytes(size)) bound_by_host(value, size, host_memory, out.*key.member);
  }
  void operator()(const BytesASecond& key) const {
    Bytes per_second = 0;
    if (value.read_bytes(per_second)) out.*key.member = static_cast<double>(per_second);
  }
  void operator()(const Duration& key) const {
    nanoseconds duration{};
    if (!value.read(duration)) return;
    if (duration < key.least || duration > kLongest)
      return value.complain(key.least.count() == 0 ? "it must be from 0s to 1h"
                                                   : "it must be from 100ms to 1h");
    out.*key.member = duration;
  }
  void operator()(const SurplusName& key) const {
    std::string surplus;
    if (!value.read(surplus)) return;
    if (surplus != "headroom" && surplus != "guests")
      return value.complain(fmt::format("'{}' is not one of headroom, guests", surplus));
    out.*key.member = surplus == "guests" ? Surplus::guests : Surplus::headroom;
  }
};

std::string duration_text(nanoseconds duration) {
  const auto count = duration.count();
  if (count % 3'600'000'000'000 == 0 && count != 0) return fmt::format("{}h", count / 3'600'000'000'000);
  if (count % 60'000'000'000 == 0 && count != 0) return fmt::format("{}m", count / 60'000'000'000);
  if (count % 1'000'000'000 == 0) return fmt::format("{}s", count / 1'000'000'000);
  return fmt::format("{:g}ms", static_cast<double>(count) / 1e6);
}

/// Writes one tunable of each kind.
struct Writer {
  const Tunables& tunables;

  std::string operator()(const Ratio& key) const { return fmt::format("{}", tunables.*key.member); }
  std::string operator()(const Factor& key) const { return fmt::format("{}", tunables.*key.member); }
  std::string operator()(const Size& key) const { return exact_bytes(tunables.*key.member); }
  std::string operator()(const BytesASecond& key) const {
    return exact_bytes(static_cast<Bytes>(tunables.*key.member));
  }
  std::string operator()(const Duration& key) const { return duration_text(tunables.*key.member); }
  std::string operator()(const SurplusName& key) const {
    return tunables.*key.member == Surplus::guests ? "guests" : "headroom";
  }
};

/// A size or a share of the host's memory, below all of it. Unlike a guest's limits it may be nothing.
bool read_host_size(const yaml::Value& value, Bytes host_memory, Bytes& out) {
  std::string text;
  if (!value.read(text)) return false;
  Bytes size = 0;
  if (text.ends_with('%')) {
    double ratio = 0;
    if (!read_percent(value, "the host's memory", 100, ratio)) return false;
    size = static_cast<Bytes>(ratio * static_cast<double>(host_memory));
  } else if (!value.read_bytes(size)) {
    return false;
  }
  return bound_by_host(value, size, host_memory, out);
}

void read_states(yaml::Map& states, Bytes host_memory, HostStateRules& out) {
  states.with("minimum_free", [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    if (text == "sliding") {
      out.minimum_free = 0;
      return;
    }
    Bytes size = 0;
    if (!read_host_size(value, host_memory, size)) return;
    if (size == 0) return value.complain("it must be more than 0, or sliding");
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

void read_tunables(yaml::Map& root, Bytes host_memory, Tunables& out) {
  root.map("host", [&](yaml::Map& host) {
    host.with("reserve",
              [&](const yaml::Value& value) { read_host_size(value, host_memory, out.host_reserve); });
  });
  root.map("engine", [&](yaml::Map& engine) {
    for (const Tunable& tunable : kEngine) {
      engine.with(tunable.name, [&](const yaml::Value& value) {
        std::visit(Reader{.value = value, .host_memory = host_memory, .out = out}, tunable.key);
      });
    }
  });
  root.map("states", [&](yaml::Map& states) { read_states(states, host_memory, out.states); });
}

std::vector<std::pair<std::string, std::string>> describe(const Tunables& tunables) {
  std::vector<std::pair<std::string, std::string>> out{{"host.reserve", exact_bytes(tunables.host_reserve)}};
  for (const Tunable& tunable : kEngine)
    out.emplace_back(fmt::format("engine.{}", tunable.name), std::visit(Writer{tunables}, tunable.key));
  const HostStateRules& states = tunables.states;
  out.emplace_back("states.minimum_free",
                   states.minimum_free == 0 ? "sliding" : exact_bytes(states.minimum_free));
  for (const Threshold& threshold : kThresholds) {
    out.emplace_back(fmt::format("states.{}", threshold.name),
                     fmt::format("{:.10g}%", states.*threshold.member * 100));
  }
  return out;
}

}  // namespace balloon::daemon

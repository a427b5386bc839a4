#include "balloond/config/policy_file.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <functional>

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;

constexpr Bytes kPage = 4096;
/// A guest in need that is given more than four times what it uses is given somebody else's memory for
/// nothing.
constexpr double kGrowthMax = 4;

void read_size_rule(const yaml::Value& value, SizeRule& out) {
  std::string text;
  if (!value.read(text)) return;
  if (!text.ends_with('%')) {
    const auto bytes = parse_bytes(text);
    if (!bytes) return value.complain(bytes.error().message + ", or a share of boot memory such as 50%");
    if (*bytes < kPage) return value.complain("it must be at least one page (4 KiB)");
    out = SizeRule{.bytes = *bytes};
    return;
  }
  double percent = 0;
  const char* const last = text.data() + text.size() - 1;
  const auto [end, error] = std::from_chars(text.data(), last, percent, std::chars_format::fixed);
  if (error != std::errc{} || end != last || !(percent > 0 && percent <= 100)) {
    return value.complain(
        fmt::format("'{}' is not a share of boot memory: it must be above 0% and at most 100%", text));
  }
  out = SizeRule{.ratio = percent / 100};
}

void read_weight(const yaml::Value& value, std::uint32_t& out) {
  std::uint32_t weight = 0;
  if (!value.read(weight)) return;
  if (weight < 1 || weight > kWeightMax)
    return value.complain(fmt::format("{} is not a weight from 1 to 10000", weight));
  out = weight;
}

std::string describe(const SizeRule& rule) {
  return rule.relative() ? fmt::format("{:g}%", rule.ratio * 100) : format_bytes(rule.bytes);
}

/// Reads min, max and weight into `out`, which holds what counts where they are not given.
void read_limits(yaml::Map& map, LimitRule& out) {
  std::function<void(std::string_view)> complain = [&map](std::string_view message) {
    map.complain(message);
  };
  const auto read = [&complain](SizeRule& rule) {
    return [&complain, &rule](const yaml::Value& value) {
      read_size_rule(value, rule);
      complain = [value](std::string_view message) { value.complain(message); };
    };
  };
  map.with("max", read(out.max));
  map.with("min", read(out.min));
  map.with("weight", [&](const yaml::Value& value) { read_weight(value, out.weight); });
  // A size and a share are compared for each guest, when its memory is known: there max wins.
  if (out.min.relative() != out.max.relative()) return;
  if (out.min.bytes > out.max.bytes || out.min.ratio > out.max.ratio) {
    complain(fmt::format("min {} is above max {}", describe(out.min), describe(out.max)));
  }
}

void read_ratio(yaml::Map& map, std::string_view key, double& out) {
  map.with(key, [&](const yaml::Value& value) {
    double ratio = 0;
    if (!value.read(ratio)) return;
    if (ratio < 0 || ratio > 1) return value.complain(fmt::format("{:g} is not a ratio from 0 to 1", ratio));
    out = ratio;
  });
}

void read_duration(yaml::Map& map, std::string_view key, nanoseconds least, nanoseconds& out) {
  map.with(key, [&](const yaml::Value& value) {
    nanoseconds duration{};
    if (!value.read(duration)) return;
    if (duration < least || duration > std::chrono::hours(1)) {
      return value.complain(least.count() == 0 ? "it must be from 0s to 1h" : "it must be from 100ms to 1h");
    }
    out = duration;
  });
}

void read_size(yaml::Map& map, std::string_view key, Bytes host_memory, Bytes& out) {
  map.with(key, [&](const yaml::Value& value) {
    Bytes size = 0;
    if (!value.read_bytes(size)) return;
    if (size >= host_memory) {
      return value.complain(fmt::format("{} is not below the host's memory, {}", format_bytes(size),
                                        format_bytes(host_memory)));
    }
    out = size;
  });
}

void read_engine(yaml::Map& engine, Bytes host_memory, policy::Tunables& out) {
  constexpr nanoseconds least = std::chrono::milliseconds(100);
  read_ratio(engine, "budget_rise_ratio_per_second", out.budget_rise_ratio_per_second);
  read_ratio(engine, "margin_ratio", out.margin_ratio);
  read_size(engine, "margin_min", host_memory, out.margin_min);
  read_duration(engine, "growth_horizon", nanoseconds(0), out.growth_horizon);
  read_ratio(engine, "pressure_ratio", out.pressure_ratio);
  engine.with("pressure_swap_in", [&](const yaml::Value& value) {
    Bytes per_second = 0;
    if (value.read_bytes(per_second)) out.pressure_swap_in = static_cast<double>(per_second);
  });
  read_ratio(engine, "critical_ratio", out.critical_ratio);
  engine.with("critical_growth", [&](const yaml::Value& value) {
    double growth = 0;
    if (!value.read(growth)) return;
    if (growth < 1 || growth > kGrowthMax)
      return value.complain(fmt::format("{:g} is not a factor from 1 to 4", growth));
    out.critical_growth = growth;
  });
  read_duration(engine, "need_half_life", least, out.need_half_life);
  read_duration(engine, "swapped_half_life", least, out.swapped_half_life);
  read_ratio(engine, "deadband_ratio", out.deadband_ratio);
  read_size(engine, "deadband_min", host_memory, out.deadband_min);
  read_ratio(engine, "shrink_ratio_per_second", out.shrink_ratio_per_second);
  read_duration(engine, "hold", nanoseconds(0), out.hold);
  read_duration(engine, "stale_after", least, out.stale_after);
  read_duration(engine, "stuck_after", least, out.stuck_after);
  read_duration(engine, "retry_after", least, out.retry_after);
  engine.with("surplus", [&](const yaml::Value& value) {
    std::string surplus;
    if (!value.read(surplus)) return;
    if (surplus == "headroom") {
      out.surplus = policy::Surplus::headroom;
    } else if (surplus == "guests") {
      out.surplus = policy::Surplus::guests;
    } else {
      value.complain(fmt::format("'{}' is not one of headroom, guests", surplus));
    }
  });
}

void read_guest(yaml::Map& map, const LimitRule& defaults, std::vector<GuestRule>& out) {
  GuestRule rule;
  rule.limits = defaults;
  bool selects = false;
  map.with("name", [&](const yaml::Value& value) {
    selects = true;
    if (value.read(rule.name) && rule.name.empty()) value.complain("the pattern is empty");
  });
  map.with("labels", [&](const yaml::Value& value) {
    selects = true;
    if (value.read_strings(rule.labels) && rule.labels.empty()) value.complain("no label is named");
  });
  read_limits(map, rule.limits);
  if (!selects)
    map.complain("it selects no guests: give it a name or labels (or put the values under defaults)");
  out.push_back(std::move(rule));
}

}  // namespace

Bytes SizeRule::of(Bytes memory) const {
  return relative() ? static_cast<Bytes>(ratio * static_cast<double>(memory)) : bytes;
}

Result<PolicyFile> read_policy(const yaml::Document& document, Bytes host_memory) {
  PolicyFile policy;
  document.root([&](yaml::Map& root) {
    root.map("host",
             [&](yaml::Map& host) { read_size(host, "reserve", host_memory, policy.tunables.host_reserve); });
    root.map("engine", [&](yaml::Map& engine) { read_engine(engine, host_memory, policy.tunables); });
    root.map("defaults", [&](yaml::Map& map) { read_limits(map, policy.defaults); });
    root.list("guests", [&](const yaml::Value& guest) {
      guest.map([&](yaml::Map& map) { read_guest(map, policy.defaults, policy.guests); });
    });
  });
  BALLOON_TRY(document.finish());
  return policy;
}

policy::GuestLimits resolve(const PolicyFile& policy, const std::string& name,
                            const std::map<std::string, std::string>& labels, Bytes memory) {
  const auto fits = [&](const GuestRule& rule) {
    if (fnmatch(rule.name.c_str(), name.c_str(), 0) != 0) return false;
    return std::ranges::all_of(rule.labels, [&](const auto& label) {
      const auto found = labels.find(label.first);
      return found != labels.end() && found->second == label.second;
    });
  };
  const auto rule = std::ranges::find_if(policy.guests, fits);
  const LimitRule& limits = rule == policy.guests.end() ? policy.defaults : rule->limits;
  const auto whole_pages = [](Bytes bytes) { return bytes / kPage * kPage; };
  const Bytes max = whole_pages(std::min(limits.max.of(memory), memory));
  return {.min = whole_pages(std::min(limits.min.of(memory), max)), .max = max, .weight = limits.weight};
}

}  // namespace balloon::daemon

// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/signal_file.h"

#include <fmt/format.h>

#include <string>

namespace balloon::policy::sim {
namespace {

using yaml::Map;
using yaml::Value;

/// Reads a quantity of the signal's unit.
bool read_quantity(const Value& value, Unit unit, double& out) {
  if (unit == Unit::ratio) {
    double ratio = 0;
    if (!value.read(ratio)) return false;
    if (ratio < 0 || ratio > 1) {
      value.complain(fmt::format("expected a ratio from 0 to 1, found {}", ratio));
      return false;
    }
    out = ratio;
    return true;
  }
  Bytes bytes{};
  if (!value.read_bytes(bytes)) return false;
  out = static_cast<double>(bytes);
  return true;
}

void quantity(Map& map, std::string_view key, Unit unit, double& out, bool required = true) {
  if (required) map.require(key);
  map.with(key, [&](const Value& value) { read_quantity(value, unit, out); });
}

void positive_time(Map& map, std::string_view key, Time& out) {
  map.require(key);
  map.with(key, [&](const Value& value) {
    if (value.read(out) && out <= Time{}) value.complain("expected a time above 0");
  });
}

void read_point(const Value& value, Unit unit, Term& term) {
  Term::Point point;
  int parts = 0;
  bool good = value.list([&](const Value& part) {
    if (parts == 0) part.read(point.at);
    if (parts == 1) read_quantity(part, unit, point.value);
    ++parts;
  });
  if (good && parts != 2) {
    value.complain("expected a pair of a time and a value, such as [60s, 512MiB]");
    good = false;
  }
  if (good && !term.points.empty() && point.at < term.points.back().at) {
    value.complain("its time is before the last point's");
    good = false;
  }
  if (good) term.points.push_back(point);
}

void read_points(const Value& value, Unit unit, bool steps, SignalSpec& out) {
  Term term;
  term.kind = Term::Kind::points;
  term.steps = steps;
  value.list([&](const Value& point) { read_point(point, unit, term); });
  if (term.points.empty()) value.complain("expected at least one point");
  out.push_back(std::move(term));
}

void read_square(Map& map, Unit unit, SignalSpec& out) {
  Term term;
  term.kind = Term::Kind::square;
  quantity(map, "low", unit, term.value);
  quantity(map, "high", unit, term.high);
  positive_time(map, "period", term.period);
  map.with("duty", [&](const Value& value) {
    if (value.read(term.duty) && (term.duty <= 0 || term.duty >= 1))
      value.complain("expected a part of the period between 0 and 1");
  });
  map.field("phase", term.phase);
  map.field("rise", term.rise);
  if (term.period > Time{}) out.push_back(term);
}

void read_sine(Map& map, Unit unit, SignalSpec& out) {
  Term term;
  term.kind = Term::Kind::sine;
  quantity(map, "mean", unit, term.value);
  quantity(map, "amplitude", unit, term.high);
  positive_time(map, "period", term.period);
  map.field("phase", term.phase);
  if (term.high > term.value) map.complain("amplitude is above mean: the signal would be below 0");
  if (term.period > Time{}) out.push_back(term);
}

void read_build(Map& map, Unit unit, SignalSpec& out) {
  Term term;
  term.kind = Term::Kind::build;
  quantity(map, "mean", unit, term.value);
  quantity(map, "max", unit, term.high, false);
  map.field("trace", term.trace);
  if (term.high > 0 && term.high < term.value) map.complain("max is below mean");
  if (term.value <= 0) map.complain("expected a mean above 0");
  if (term.value > 0) out.push_back(term);
}

void read_leak(Map& map, Unit unit, SignalSpec& out) {
  Term term;
  term.kind = Term::Kind::leak;
  quantity(map, "start", unit, term.value, false);
  quantity(map, "per_second", unit, term.rate);
  quantity(map, "max", unit, term.high, false);
  map.field("from", term.phase);
  out.push_back(term);
}

}  // namespace

void read_signal(Map& map, std::string_view key, Unit unit, SignalSpec& out) {
  map.map(key, [&](Map& terms) {
    out.clear();
    terms.with("constant", [&](const Value& value) {
      double quantity = 0;
      if (read_quantity(value, unit, quantity)) out.push_back(constant(quantity).front());
    });
    terms.with("points", [&](const Value& value) { read_points(value, unit, false, out); });
    terms.with("steps", [&](const Value& value) { read_points(value, unit, true, out); });
    terms.map("square", [&](Map& square) { read_square(square, unit, out); });
    terms.map("sine", [&](Map& sine) { read_sine(sine, unit, out); });
    terms.map("build", [&](Map& build) { read_build(build, unit, out); });
    terms.map("leak", [&](Map& leak) { read_leak(leak, unit, out); });
    if (out.empty())
      terms.complain("expected at least one of constant, points, steps, square, sine, build, leak");
  });
}

}  // namespace balloon::policy::sim

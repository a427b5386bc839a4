// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/top/screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "balloond/ctl/json.h"
#include "balloond/ctl/table.h"
#include "balloond/ctl/tables.h"

namespace balloon::ctl::top {
namespace {

constexpr std::string_view kKeys =
    "q quit  up/down select  enter details  s sort  r reverse  / filter  esc all";
/// Below the bars of guests, so that one in 80 columns still has a name of 16.
constexpr std::size_t kBarMin = 14;
constexpr std::size_t kBarMax = 60;
constexpr std::size_t kStateWidth = 12;
constexpr std::size_t kSizeWidth = 9;
constexpr std::size_t kReasonWidth = 15;
constexpr std::size_t kNameMin = 5;
constexpr std::size_t kNameMax = 64;
constexpr std::string_view kLevels = " .:-=+*#%@";

std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a - std::min(a, b); }

/// Of so many letters, those that stand for a share of 0 to 1.
std::size_t part_of(std::size_t letters, double share) {
  return static_cast<std::size_t>(std::lround(share * static_cast<double>(letters)));
}

Tone tone_of(const v1::Guest& guest) {
  switch (guest.state()) {
    case v1::GUEST_STATE_CONTROLLED:
      return Tone::good;
    case v1::GUEST_STATE_PINNED:
    case v1::GUEST_STATE_BOOTING:
      return Tone::note;
    case v1::GUEST_STATE_DISCONNECTED:
      return Tone::bad;
    default:
      return Tone::warning;
  }
}

Tone tone_of(const v1::Host& host) {
  switch (host.state()) {
    case v1::HOST_STATE_NORMAL:
      return Tone::good;
    case v1::HOST_STATE_TIGHT:
      return Tone::warning;
    default:
      return Tone::bad;
  }
}

std::string cut(std::string text, std::size_t width) {
  if (text.size() > width) text.resize(width);
  return text;
}

/// `parts` of `whole` as so many letters of each kind, the rest dots.
std::string segments(const std::vector<std::pair<char, std::uint64_t>>& parts, std::uint64_t whole,
                     std::size_t width) {
  std::string out(width, '.');
  std::uint64_t sum = 0;
  std::size_t from = 0;
  for (const auto& [letter, part] : parts) {
    sum += part;
    const double share = whole == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(whole);
    const auto to = std::min(width, part_of(width, share));
    for (; from < to; ++from) out[from] = letter;
  }
  return out;
}

void draw_host(const Model& model, unsigned columns, std::vector<Line>& out) {
  const v1::Host& host = model.state().host();
  const std::uint64_t used = less(host.total_bytes(), host.available_bytes());
  const std::uint64_t cache = less(host.available_bytes(), host.free_bytes());
  std::uint64_t given = 0;
  for (const v1::Guest& guest : model.state().guests()) given += guest.actual_bytes();
  const std::size_t width = std::clamp<std::size_t>(columns > 66 ? columns - 66 : 0, 10, 60);
  out.push_back(
      {{"host    ", Tone::heading},
       {state_of(host), tone_of(host)},
       {fmt::format("  {} of {} guests  sorted by {}{}{}", model.guests().size(), model.state().guests_size(),
                    name_of(model.sort), model.reverse ? ", reversed" : "",
                    model.filter.empty() ? "" : fmt::format("  filter: {}", model.filter))}});
  out.push_back({{"memory  ", Tone::heading},
                 {"[" + segments({{'#', used}, {'=', cache}}, host.total_bytes(), width) + "] "},
                 {fmt::format("{} used, {} cache, {} free", format_size(used), format_size(cache),
                              format_size(host.free_bytes()))}});
  out.push_back(
      {{"guests  ", Tone::heading},
       {"[" +
        segments({{'#', host.committed_bytes()}, {'r', host.reserved_bytes()}}, host.budget_bytes(), width) +
        "] "},
       {fmt::format(
           "{} of {}, headroom {}", format_size(host.committed_bytes()), format_size(host.budget_bytes()),
           format_size(less(host.budget_bytes(), host.committed_bytes() + host.reserved_bytes())))}});
  out.push_back({{"        "},
                 {fmt::format("balloons {}  reserved {}  KSM saves {}",
                              format_size(less(host.configured_bytes(), given)),
                              format_size(host.reserved_bytes()), format_size(host.ksm_saved_bytes()))}});
  out.push_back({{"        "},
                 {fmt::format("swap {} of {}  PSI some {:.1f} % full {:.1f} %",
                              format_size(less(host.swap_total_bytes(), host.swap_free_bytes())),
                              format_size(host.swap_total_bytes()), host.pressure_some_ratio() * 100,
                              host.pressure_full_ratio() * 100)}});
  if (!host.not_applied().empty())
    out.push_back({{"nothing is applied: " + host.not_applied(), Tone::warning}});
  if (!host.explanation().empty()) out.push_back({{host.explanation(), tone_of(host)}});
}

std::string change_of(const Model& model, const v1::Guest& guest) {
  const Past* const past = model.past(guest.name());
  if (past == nullptr) return "-";
  std::string reason = short_name(*v1::Reason_descriptor(), past->reason);
  if (!past->changed_at) return reason;
  return fmt::format("{} {}s", reason, std::max<std::int64_t>(0, model.now() - *past->changed_at));
}

/// How wide names and bars are: names as the longest needs, bars what is left.
struct Widths {
  std::size_t name = 0;
  std::size_t bar = 0;
};

Widths widths_of(const Model& model, unsigned columns) {
  constexpr std::size_t kOthers = kStateWidth + 3 * kSizeWidth + kReasonWidth + 3;
  std::size_t longest = kNameMin;
  for (const v1::Guest& guest : model.state().guests()) longest = std::max(longest, guest.name().size());
  const std::size_t room = columns > kOthers + kBarMin ? columns - kOthers - kBarMin : 0;
  Widths widths;
  widths.name = std::clamp(std::min(longest, room), kNameMin, kNameMax);
  const std::size_t rest = columns > kOthers + widths.name ? columns - kOthers - widths.name : 0;
  widths.bar = std::min(rest, kBarMax);
  if (widths.bar < kBarMin) widths.bar = 0;  // a terminal as narrow as that has names and figures
  return widths;
}

Line guest_line(const Model& model, const v1::Guest& guest, const Widths& widths, bool selected) {
  const bool known = knows_available(guest);
  const std::string name = fmt::format("{:<{}} ", shorten(guest.name(), widths.name), widths.name);
  const std::string state = fmt::format("{:<{}} ", cut(state_of(guest), kStateWidth), kStateWidth);
  const std::string rest = fmt::format("{:>{}}{:>{}}{:>{}} {}", format_size(guest.actual_bytes()), kSizeWidth,
                                       format_size(guest.target_bytes()), kSizeWidth,
                                       known ? format_size(guest.stats().available_bytes()) : "-", kSizeWidth,
                                       cut(change_of(model, guest), kReasonWidth));
  const std::string middle = widths.bar == 0 ? "" : bar(guest, widths.bar);
  if (selected) return {{name + state + middle + rest, Tone::selected}};
  return {{name}, {state, tone_of(guest)}, {middle, Tone::faint}, {rest}};
}

void draw_detail(const Model& model, unsigned columns, std::vector<Line>& out) {
  const v1::Guest* const guest = model.selected();
  if (guest == nullptr) return;
  const Past* const past = model.past(guest->name());
  out.push_back({{fmt::format("--- {}", guest->name()), Tone::heading}});
  out.push_back({{fmt::format("memory {}  min {}  max {}  weight {}  resident {}  swapped {}",
                              format_size(guest->memory_bytes()), format_size(guest->min_bytes()),
                              format_size(guest->max_bytes()), guest->weight(),
                              format_size(guest->resident_bytes()), format_size(guest->swapped_bytes()))}});
  if (past != nullptr) {
    out.push_back({{fmt::format("the last {} s, from none to {}:", past->samples.size(),
                                format_size(guest->memory_bytes()))}});
    const auto row = [&](const char* name, std::uint64_t Sample::* value) {
      out.push_back(
          {{fmt::format("{:<10}", name), Tone::heading},
           {fmt::format("[{:>60}]", history(past->samples, value, guest->memory_bytes())), Tone::faint}});
    };
    row("actual", &Sample::actual);
    row("target", &Sample::target);
    row("used", &Sample::used);
    row("available", &Sample::available);
  }
  const std::string text = explanation(*guest, {.columns = columns, .rows = 0, .colour = false});
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    out.push_back({{text.substr(from, end - from)}});
    from = end + 1;
  }
}

/// No line is longer than the screen.
void trim(std::vector<Line>& lines, std::size_t columns) {
  for (Line& line : lines) {
    std::size_t left = columns;
    for (Span& span : line) {
      span.text = cut(std::move(span.text), left);
      left -= span.text.size();
    }
  }
}

}  // namespace

std::string bar(const v1::Guest& guest, std::size_t width) {
  if (width < 3) return std::string(width, ' ');
  const std::size_t inner = width - 2;
  const std::uint64_t whole = std::max(guest.memory_bytes(), guest.actual_bytes());
  const bool known = knows_available(guest);
  const std::uint64_t available = known ? std::min(guest.stats().available_bytes(), guest.actual_bytes()) : 0;
  std::string out =
      known ? segments({{'#', less(guest.actual_bytes(), available)}, {'=', available}}, whole, inner)
            : segments({{'?', guest.actual_bytes()}}, whole, inner);
  const auto at = [&](std::uint64_t bytes) {
    if (whole == 0) return std::size_t{0};
    const double share = static_cast<double>(bytes) / static_cast<double>(whole);
    return std::min(inner - 1, static_cast<std::size_t>(share * static_cast<double>(inner)));
  };
  out[at(guest.min_bytes())] = '|';
  if (guest.max_bytes() < whole) out[at(guest.max_bytes())] = '|';
  if (guest.target_bytes() != guest.actual_bytes())
    out[at(guest.target_bytes())] = guest.target_bytes() < guest.actual_bytes() ? '<' : '>';
  return '[' + out + ']';
}

std::string history(const std::deque<Sample>& samples, std::uint64_t Sample::* value, std::uint64_t most) {
  std::string out;
  for (const Sample& sample : samples) {
    const double share =
        most == 0 ? 0 : std::min(1.0, static_cast<double>(sample.*value) / static_cast<double>(most));
    out += kLevels[part_of(kLevels.size() - 1, share)];
  }
  return out;
}

std::string text_of(const Line& line) {
  std::string text;
  for (const Span& span : line) text += span.text;
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<Line> draw(const Model& model, Size size, const std::string& message) {
  std::vector<Line> lines;
  draw_host(model, size.columns, lines);
  const Widths widths = widths_of(model, size.columns);
  std::string heading = fmt::format("{:<{}} {:<{}} ", "GUEST", widths.name, "STATE", kStateWidth);
  if (widths.bar != 0)
    heading += fmt::format("{:<{}}", "# used = available . balloon", widths.bar).substr(0, widths.bar);
  heading += fmt::format("{:>{}}{:>{}}{:>{}} {}", "ACTUAL", kSizeWidth, "TARGET", kSizeWidth, "AVAIL",
                         kSizeWidth, "LAST CHANGE");
  lines.push_back({{heading, Tone::heading}});
  std::vector<Line> detail;
  if (model.detail) draw_detail(model, size.columns, detail);

  const auto guests = model.guests();
  std::size_t room = guests.size();
  if (size.rows != 0) {
    const std::size_t taken = lines.size() + detail.size() + 1;
    room = size.rows > taken + 1 ? size.rows - taken : 1;
  }
  const std::size_t chosen = model.selected_row();
  // The page that the selected guest is on, so that rows stand still while it moves.
  const std::size_t first = room == 0 ? 0 : chosen / room * room;
  const bool select = size.rows != 0;
  std::size_t shown = 0;
  for (std::size_t i = first; i < guests.size() && shown < room; ++i, ++shown)
    lines.push_back(guest_line(model, *guests[i], widths, select && i == chosen));
  if (guests.empty()) {
    lines.push_back(
        {{model.state().guests_size() == 0 ? "no guest is connected" : "no guest passes the filter",
          Tone::faint}});
    ++shown;
  }
  if (size.rows != 0) {
    for (; shown < room; ++shown) lines.emplace_back();
  }
  lines.insert(lines.end(), detail.begin(), detail.end());
  if (size.rows != 0) {
    lines.resize(size.rows - 1);
    lines.push_back({{message.empty() ? std::string(kKeys) : message, Tone::heading}});
  }
  trim(lines, size.columns);
  return lines;
}

}  // namespace balloon::ctl::top

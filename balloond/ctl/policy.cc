// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/policy.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

#include "balloond/ctl/policy_diff.h"
#include "base/bytes.h"
#include "policy/rules/resolve.h"

namespace balloon::ctl {
namespace {

using policy::rules::PolicyFile;
using Json = nlohmann::ordered_json;
using WallTime = std::chrono::system_clock::time_point;

/// MemTotal, as the daemon here would take it.
Bytes memory_here() { return ::sysconf(_SC_PHYS_PAGES) * static_cast<Bytes>(::sysconf(_SC_PAGESIZE)); }

Result<PolicyFile> load(const PolicyArguments& arguments, const std::string& file) {
  if (arguments.host_memory.empty()) return policy::rules::load_policy(file, memory_here());
  const auto memory = parse_bytes(arguments.host_memory);
  if (!memory) return std::unexpected(memory.error());
  return policy::rules::load_policy(file, *memory);
}

WallTime time_of(const PolicyArguments& arguments) {
  return parse_time(arguments.at).value_or(std::chrono::system_clock::now());
}

std::map<std::string, std::string> labels_of(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> labels;
  for (const std::string& text : texts)
    labels[text.substr(0, text.find('='))] = text.substr(text.find('=') + 1);
  return labels;
}

/// "file:line:column: key: what" taken apart; what has no place keeps its text alone.
Json complaint_of(const std::string& line) {
  Json out{{"line", nullptr}, {"column", nullptr}, {"text", line}};
  for (std::size_t at = line.find(':'); at != std::string::npos; at = line.find(':', at + 1)) {
    unsigned row = 0;
    unsigned column = 0;
    const char* const last = line.data() + line.size();
    const auto [row_end, row_error] = std::from_chars(line.data() + at + 1, last, row);
    if (row_error != std::errc{} || row_end == last || *row_end != ':') continue;
    out["line"] = row;
    const auto [end, error] = std::from_chars(row_end + 1, last, column);
    const bool has_column = error == std::errc{} && end != last && *end == ':';
    if (has_column) out["column"] = column;
    out["text"] = std::string(has_column ? end + 1 : row_end + 1, last);
    if (out["text"].get_ref<std::string&>().starts_with(' ')) out["text"].get_ref<std::string&>().erase(0, 1);
    return out;
  }
  return out;
}

Json complaints_of(const std::string& text) {
  Json out = Json::array();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    out.push_back(complaint_of(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return out;
}

Printed refused(const Error& error) {
  return {.code = Exit::failure, .json = {}, .text = {}, .complaint = error.message};
}

std::string said_by(const policy::rules::Place* place, std::string_view by_class) {
  if (place == nullptr) return "built in";
  const std::string file = place->file.empty() ? "" : place->file + ": ";
  const std::string where = fmt::format("{}{}, line {}", file, place->path, place->line);
  return by_class.empty() ? where : fmt::format("class {} of {}", by_class, where);
}

/// As people say it, and exactly where that is not the same.
std::string honest_bytes(Bytes bytes) {
  std::string rounded = format_bytes(bytes);
  const auto exact = parse_bytes(rounded);
  if (exact && *exact == bytes) return rounded;
  return fmt::format("{} ({})", rounded, policy::rules::exact_bytes(bytes));
}

/// One granted value, as text and for programs.
struct Row {
  std::string key;
  std::string granted;
  std::string written;
  std::string by;
  Json value;
  const policy::rules::Place* place;
};

std::vector<Row> rows_of(const policy::rules::Resolution& resolution) {
  const policy::rules::Terms& terms = resolution.terms;
  const policy::GuestLimits& limits = resolution.limits;
  const auto row = [&](const char* key, const auto& term, std::string granted, std::string written,
                       Json value) {
    const std::string by = said_by(term.place, term.by_class ? name_of(terms.slo_class.value) : "");
    return Row{key, std::move(granted), std::move(written), by, std::move(value), term.place};
  };
  const std::string weight = fmt::format("{}", limits.weight);
  const std::string slo_class(name_of(terms.slo_class.value));
  const std::string factor = fmt::format("{}", limits.margin_factor);
  const std::string ksm = limits.ksm ? "on" : "off";
  const std::string control = terms.control.value ? "on" : "off";
  const std::string limits_of(name_of(terms.limits.value));
  return {
      row("min", terms.min, honest_bytes(limits.min), describe(terms.min.value), limits.min.count()),
      row("max", terms.max, honest_bytes(limits.max), describe(terms.max.value), limits.max.count()),
      row("weight", terms.weight, weight, weight, limits.weight),
      row("class", terms.slo_class, slo_class, slo_class, slo_class),
      row("margin_factor", terms.margin_factor, factor, factor, limits.margin_factor),
      row("ksm", terms.ksm, ksm, ksm, ksm),
      row("control", terms.control, control, control, control),
      row("limits", terms.limits, limits_of, limits_of, limits_of),
  };
}

const policy::GroupLimits* find_group(const std::vector<policy::GroupLimits>& groups,
                                      const std::string& name) {
  const auto found = std::ranges::find(groups, name, &policy::GroupLimits::name);
  return found == groups.end() ? nullptr : &*found;
}

std::string group_text(const policy::GroupLimits* group) {
  if (group == nullptr) return "none";
  const std::string most = group->max == Bytes::max() ? "no maximum" : "at most " + honest_bytes(group->max);
  return fmt::format("{}: at least {}, {}, weight {}, together", group->name, honest_bytes(group->min), most,
                     group->weight);
}

Json group_json(const policy::GroupLimits* group) {
  if (group == nullptr) return nullptr;
  return {{"name", group->name},
          {"min_bytes", group->min.count()},
          {"max_bytes", group->max == Bytes::max() ? Json(nullptr) : Json(group->max.count())},
          {"weight", group->weight}};
}

std::string utc_text(WallTime at) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(at)));
}

std::string local_text(WallTime at) {
  return fmt::format("{:%a %Y-%m-%d %H:%M}", fmt::localtime(std::chrono::system_clock::to_time_t(at)));
}

Json json_of(const std::vector<Difference>& differences) {
  const auto text = [](const std::string& value) { return value.empty() ? Json(nullptr) : Json(value); };
  Json out = Json::array();
  for (const Difference& difference : differences) {
    out.push_back(
        {{"key", difference.key}, {"old", text(difference.before)}, {"new", text(difference.after)}});
  }
  return out;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

/// The daemon's guests, or nothing when it does not answer.
std::optional<std::vector<Subject>> running_guests(Client& client) {
  const auto response = client.list();
  if (!response) return std::nullopt;
  std::vector<Subject> out;
  for (const v1::Guest& guest : response->guests()) {
    out.push_back({.name = guest.name(),
                   .labels = {guest.labels().begin(), guest.labels().end()},
                   .memory = Bytes{guest.memory_bytes()}});
  }
  return out;
}

std::string diff_text(const std::vector<Difference>& rules, const std::vector<GuestDifference>& guests,
                      const Look& look) {
  std::string out;
  std::vector<std::vector<Cell>> rows;
  for (const GuestDifference& guest : guests) {
    for (const Difference& value : guest.values)
      rows.push_back({{guest.guest}, {value.key}, {or_dash(value.before)}, {or_dash(value.after)}});
  }
  if (!rows.empty()) {
    out = lay_out({{.name = "GUEST", .shorten = true}, {.name = "VALUE"}, {.name = "OLD"}, {.name = "NEW"}},
                  std::move(rows), look) +
          '\n';
  }
  rows.clear();
  for (const Difference& rule : rules)
    rows.push_back({{rule.key}, {or_dash(rule.before)}, {or_dash(rule.after)}});
  return out + lay_out({{.name = "RULE"}, {.name = "OLD"}, {.name = "NEW"}}, std::move(rows), look);
}

}  // namespace

std::optional<WallTime> parse_time(const std::string& text) {
  for (const char* const format : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"}) {
    std::tm broken{};
    const char* const end = ::strptime(text.c_str(), format, &broken);
    if (end == nullptr) continue;
    const std::string_view rest(end);
    if (!rest.empty() && rest != "Z") continue;
    broken.tm_isdst = -1;  // whether summer time holds then is for the zone to say
    const std::time_t time = rest == "Z" ? ::timegm(&broken) : ::mktime(&broken);
    return std::chrono::system_clock::from_time_t(time);
  }
  return std::nullopt;
}

bool is_label(const std::string& text) {
  const auto equals = text.find('=');
  return equals != std::string::npos && equals != 0;
}

Printed policy_check(const PolicyArguments& arguments) {
  const auto policy = load(arguments, arguments.file);
  if (!policy) {
    // For programs the complaints are the answer.
    Printed printed = refused(policy.error());
    printed.json = {
        {"file", arguments.file}, {"good", false}, {"complaints", complaints_of(policy.error().message)}};
    return printed;
  }
  return {.code = Exit::ok,
          .json = {{"file", arguments.file}, {"good", true}, {"complaints", Json::array()}},
          .text = fmt::format("{}: ok, groups: {}, rules for guests: {}\n", arguments.file,
                              policy->groups.size(), policy->guests.size()),
          .complaint = {}};
}

Printed policy_show(const PolicyArguments& arguments, const Look& look) {
  const auto policy = load(arguments, arguments.file);
  if (!policy) return refused(policy.error());
  const auto memory = parse_bytes(arguments.memory);
  if (!memory) return refused(memory.error());
  const WallTime at = time_of(arguments);
  const policy::rules::WallFace face(at);
  const auto resolution =
      policy::rules::resolve_terms(*policy, arguments.guest, labels_of(arguments.labels), *memory, face);
  const auto groups = policy::rules::resolve_groups(*policy, face);
  const policy::GroupLimits* const group = find_group(groups, resolution.limits.group);
  const policy::rules::Place* const rule =
      resolution.rule == nullptr ? nullptr : &resolution.rule->layer.place;
  Json values = Json::object();
  std::vector<std::vector<Cell>> table;
  for (const Row& row : rows_of(resolution)) {
    values[row.key] = {{"value", row.value},
                       {"written", row.written},
                       {"by", row.by},
                       {"line", row.place == nullptr ? Json(nullptr) : Json(row.place->line)}};
    table.push_back({{row.key}, {row.granted}, {row.written}, {row.by}});
  }
  Printed printed;
  printed.json = {{"guest", arguments.guest},   {"memory_bytes", memory->count()},
                  {"at", utc_text(at)},         {"rule", rule == nullptr ? Json(nullptr) : Json(rule->path)},
                  {"group", group_json(group)}, {"values", values}};
  printed.text = lay_out_values({{"Guest", fmt::format("{}, {}", arguments.guest, honest_bytes(*memory))},
                                 {"At", fmt::format("{}, {}", local_text(at), utc_text(at))},
                                 {"Rule", rule == nullptr ? "none fits: defaults" : said_by(rule, "")},
                                 {"Group", group_text(group)}},
                                look.terminal) +
                 '\n' +
                 lay_out({{.name = "VALUE"}, {.name = "GRANTED"}, {.name = "WRITTEN"}, {.name = "SAID BY"}},
                         std::move(table), look);
  return printed;
}

Printed policy_diff(const PolicyArguments& arguments, Client& client, const Look& look) {
  const auto before = load(arguments, arguments.file);
  const auto after = load(arguments, arguments.new_file);
  if (!before && !after) return refused({before.error().message + '\n' + after.error().message});
  if (!before) return refused(before.error());
  if (!after) return refused(after.error());
  const auto rules = rule_differences(*before, *after);
  const auto running = running_guests(client);
  const policy::rules::WallFace face(time_of(arguments));
  const auto guests =
      running ? guest_differences(*before, *after, *running, face) : std::vector<GuestDifference>();
  Json by_guest = Json::array();
  for (const GuestDifference& guest : guests)
    by_guest.push_back({{"guest", guest.guest}, {"values", json_of(guest.values)}});
  return {.code = rules.empty() ? Exit::ok : Exit::failure,
          .json = {{"same", rules.empty()},
                   {"guests", running ? by_guest : Json(nullptr)},
                   {"rules", json_of(rules)}},
          .text = rules.empty() ? "" : diff_text(rules, guests, look),
          .complaint = running ? "" : "no daemon answers: the policies are compared by their rules alone"};
}

}  // namespace balloon::ctl

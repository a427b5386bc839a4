// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/policy_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "policy/rules/layers_check.h"
#include "policy/rules/resolve.h"
#include "policy/rules/tunable_keys.h"

namespace balloon::policy::rules {
namespace {

/// As long as a guest's name may be.
constexpr std::size_t kGroupNameMax = 64;

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kGroupNameMax && std::ranges::all_of(text, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

/// A file of the drop-in directory, being read.
struct DropIn {
  std::string name;
  yaml::Map* root = nullptr;
};

/// With the root mappings of all documents from `index` on, all open at once: what none of them asked for is
/// complained about when they close.
void with_roots(const std::vector<yaml::Document>& documents, std::vector<yaml::Map*>& roots,
                const std::function<void(const std::vector<yaml::Map*>&)>& read) {
  if (roots.size() == documents.size()) return read(roots);
  documents[roots.size()].root([&](yaml::Map& root) {
    roots.push_back(&root);
    with_roots(documents, roots, read);
    roots.pop_back();
  });
}

/// "policy.yaml" has "policy.d/*.yaml", by name. A directory that is not there is empty.
std::vector<std::filesystem::path> dropins_of(const std::filesystem::path& policy) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  const std::filesystem::path directory = std::filesystem::path(policy).replace_extension(".d");
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == ".yaml") files.push_back(entry->path());
  }
  std::ranges::sort(files);
  return files;
}

/// Reads one policy. Groups come before the guests that name them, wherever they stand in the file.
class PolicyReader {
 public:
  PolicyReader(Bytes host_memory, const std::string& path) : path_(path) {
    policy_.host_memory = host_memory;
    policy_.tunables = default_tunables(host_memory);
  }

  /// `dropins` add groups and guests. Their rules for guests come before the file's own, as the first that
  /// fits counts.
  void read(yaml::Map& root, const std::vector<DropIn>& dropins) {
    read_tunables(root, policy_.host_memory, policy_.tunables, policy_.ksm);
    root.map("defaults", [&](yaml::Map& map) {
      const LayerSpots spots = read_layer(map, kGuestWords, policy_.defaults);
      check_layers({&policy_.defaults}, spots, std::nullopt);
    });
    read_groups(root, {});
    for (const DropIn& dropin : dropins) read_groups(*dropin.root, dropin.name);
    link_groups();
    check_groups();
    for (const DropIn& dropin : dropins) read_guests(*dropin.root, dropin.name);
    read_guests(root, {});
    check_guarantees();
    root.map("contested", [&](yaml::Map& map) { read_other_hands(map); });
    root.map("admission", [&](yaml::Map& map) { read_admission(map); });
    root.with("shadow", [&](const yaml::Value& value) { read_shadow(value); });
  }

  PolicyFile take() { return std::move(policy_); }

 private:
  /// What links and checks need once all groups are known.
  struct GroupSpots {
    yaml::Value self;
    std::optional<yaml::Value> inherits{};
    std::string parent{};  ///< empty: none
    LayerSpots own{};
    LayerSpots each{};
  };

  void read_groups(yaml::Map& root, const std::string& file) {
    file_ = file;
    root.list("groups",
              [&](const yaml::Value& group) { group.map([&](yaml::Map& map) { read_group(group, map); }); });
  }

  void read_guests(yaml::Map& root, const std::string& file) {
    file_ = file;
    root.list("guests",
              [&](const yaml::Value& guest) { guest.map([&](yaml::Map& map) { read_guest(map); }); });
  }

  /// Of the file that is being read.
  void place_in_file(Layer& layer) const {
    layer.place.file = file_;
    for (Schedule& schedule : layer.schedules) schedule.place.file = file_;
  }

  std::optional<std::size_t> find_group(const std::string& name) const {
    const auto found = std::ranges::find(policy_.groups, name, &GroupRule::name);
    if (found == policy_.groups.end()) return std::nullopt;
    return static_cast<std::size_t>(found - policy_.groups.begin());
  }

  void complain_no_group(const yaml::Value& value, const std::string& name) const {
    std::vector<std::string_view> names;
    for (const GroupRule& group : policy_.groups) {
      if (!group.name.empty()) names.push_back(group.name);
    }
    if (names.empty())
      return value.complain(fmt::format("there is no group '{}': no group is defined", name));
    value.complain(fmt::format("there is no group '{}'; expected one of {}", name, fmt::join(names, ", ")));
  }

  void read_group(const yaml::Value& self, yaml::Map& map) {
    GroupRule group;
    GroupSpots spots{.self = self};
    map.require("name");
    map.with("name", [&](const yaml::Value& value) { read_group_name(value, group.name); });
    map.with("inherits", [&](const yaml::Value& value) {
      spots.inherits = value;
      if (value.read(spots.parent) && spots.parent.empty()) value.complain("the name is empty");
    });
    spots.own = read_layer(map, kGroupWords, group.own);
    group.each.place = {.path = group.own.place.path + ".each", .line = group.own.place.line};
    map.map("each", [&](yaml::Map& each) { spots.each = read_layer(each, kGuestWords, group.each); });
    place_in_file(group.own);
    place_in_file(group.each);
    group.line_of_descent = {policy_.groups.size()};
    policy_.groups.push_back(std::move(group));
    groups_.push_back(std::move(spots));
  }

  void read_group_name(const yaml::Value& value, std::string& out) const {
    std::string name;
    if (!value.read(name)) return;
    if (!is_name(name))
      return value.complain(
          fmt::format("'{}' is not a name of 1 to 64 characters of A-Z a-z 0-9 . _ -", name));
    if (const auto other = find_group(name)) {
      const Place& there = policy_.groups.at(*other).own.place;
      const std::string file =
          there.file == file_ ? "" : " of " + (there.file.empty() ? "the policy file" : there.file);
      return value.complain(
          fmt::format("there is a group '{}' in line {}{} already", name, there.line, file));
    }
    out = name;
  }

  void link_groups() {
    std::vector<std::optional<std::size_t>> parents(groups_.size());
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      if (groups_[i].parent.empty()) continue;
      parents[i] = find_group(groups_[i].parent);
      if (!parents[i]) complain_no_group(*groups_[i].inherits, groups_[i].parent);
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      std::vector<std::size_t> line{i};
      while (const auto parent = parents[line.back()]) {
        if (*parent == i) complain_cycle(line);
        if (std::ranges::find(line, *parent) != line.end())
          break;  // it ends in a cycle, which is complained about
        line.push_back(*parent);
      }
      std::ranges::reverse(line);
      policy_.groups[i].line_of_descent = std::move(line);
    }
  }

  /// Once, at its group that stands first in the file.
  void complain_cycle(const std::vector<std::size_t>& line) const {
    if (std::ranges::min(line) != line.front()) return;
    std::string names;
    for (const std::size_t group : line) names += policy_.groups[group].name + " -> ";
    groups_[line.front()].inherits->complain(
        fmt::format("groups inherit in a cycle: {}{}", names, policy_.groups[line.front()].name));
  }

  void check_groups() const {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      check_layers(layers_of(policy_, policy_.groups[i]), groups_[i].own, policy_.host_memory);
      GuestRule member;
      member.group = i;
      std::vector<const Layer*> layers = layers_of(policy_, &member);
      layers.pop_back();  // the member's own, which says nothing
      check_layers(layers, groups_[i].each, std::nullopt);
    }
  }

  /// What groups are guaranteed for good, without schedules, and what the host keeps must go into the host. A
  /// group that no guest can come into only passes its values on.
  void check_guarantees() const {
    Bytes all = policy_.tunables.host_reserve;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      if (std::ranges::find(policy_.guests, i, &GuestRule::group) == policy_.guests.end()) continue;
      std::vector<Voice> voices;
      for (const Layer* layer : layers_of(policy_, policy_.groups[i]))
        voices.push_back({.place = &layer->place, .values = &layer->values});
      const Terms terms = settle(voices);
      if (terms.min.place == nullptr) continue;  // it guarantees nothing by itself
      all += terms.min.value.of(policy_.host_memory);
      if (all <= policy_.host_memory) continue;
      const std::string what = fmt::format(
          "the minimums of the groups up to this one and host.reserve are {} together, and the host has {}: "
          "they "
          "cannot hold",
          format_bytes(all), format_bytes(policy_.host_memory));
      return groups_[i].own.limit ? groups_[i].own.limit->complain(what) : groups_[i].self.complain(what);
    }
  }

  void read_guest(yaml::Map& map) {
    GuestRule rule;
    bool selects = false;
    map.with("name", [&](const yaml::Value& value) {
      selects = true;
      if (value.read(rule.name) && rule.name.empty()) value.complain("the pattern is empty");
    });
    map.with("labels", [&](const yaml::Value& value) {
      selects = true;
      if (value.read_strings(rule.labels) && rule.labels.empty()) value.complain("no label is named");
    });
    map.with("group", [&](const yaml::Value& value) {
      std::string name;
      if (!value.read(name)) return;
      rule.group = find_group(name);
      if (!rule.group) complain_no_group(value, name);
    });
    const LayerSpots spots = read_layer(map, kGuestWords, rule.layer);
    place_in_file(rule.layer);
    check_layers(layers_of(policy_, &rule), spots, std::nullopt);
    if (!selects)
      map.complain("it selects no guests: give it a name or labels (or put the values under defaults)");
    policy_.guests.push_back(std::move(rule));
  }

  void read_other_hands(yaml::Map& map) {
    OtherHands& out = policy_.other_hands;
    map.require("then");
    map.with("then", [&](const yaml::Value& value) {
      std::string then;
      if (!value.read(then)) return;
      if (then != "yield" && then != "override")
        return value.complain(fmt::format("'{}' is not one of yield, override", then));
      if (then == "override") out = {.then = OtherHands::Then::take_it_back, .time = kOverrideMin};
    });
    map.with("for", [&](const yaml::Value& value) {
      std::chrono::nanoseconds time{};
      if (!value.read(time)) return;
      if (out.then == OtherHands::Then::take_it_back && time < kOverrideMin)
        return value.complain("a balloon is taken back once a minute at most: it must be 1m or longer");
      if (time > kContestedMax) return value.complain("it must be at most 24h");
      out.time = time;
    });
  }

  void read_admission(yaml::Map& map) {
    map.with("ram_allocation_ratio", [&](const yaml::Value& value) {
      double ratio = 0;
      if (!value.read(ratio)) return;
      if (!(ratio >= 0 && ratio <= kRamAllocationMax))
        return value.complain(
            fmt::format("it must be 0 (boot memory is not counted) to {}", kRamAllocationMax));
      policy_.ram_allocation_ratio = ratio;
    });
  }

  void read_shadow(const yaml::Value& value) {
    std::string file;
    if (!value.read(file)) return;
    if (file.empty()) return value.complain("the path is empty");
    policy_.shadow_file = {
        .path = (std::filesystem::path(path_).parent_path() / file).lexically_normal().string(),
        .place = {.path = value.path(), .line = value.line()}};
  }

  std::string path_;
  std::string file_;  ///< the drop-in that is being read; empty: the policy file itself
  PolicyFile policy_;
  std::vector<GroupSpots> groups_;  ///< one for each of the policy's
};

}  // namespace

Result<PolicyFile> read_policy(const yaml::Document& document, Bytes host_memory, const std::string& path) {
  PolicyReader reader(host_memory, path);
  document.root([&](yaml::Map& root) { reader.read(root, {}); });
  BALLOON_TRY(document.finish());
  return reader.take();
}

namespace {

/// The file at `path` with its drop-ins.
Result<PolicyFile> load_with_dropins(const std::string& path, Bytes host_memory) {
  std::vector<yaml::Document> documents;
  std::vector<DropIn> dropins;
  std::string complaints;
  const auto note = [&complaints](const Error& error) {
    complaints += (complaints.empty() ? "" : "\n") + error.message;
  };
  std::vector<std::filesystem::path> files = dropins_of(path);
  files.insert(files.begin(), path);
  for (const std::filesystem::path& file : files) {
    auto document = yaml::Document::load(file.string());
    if (!document) {
      note(document.error());
      continue;
    }
    documents.push_back(std::move(*document));
    if (&file != &files.front())
      dropins.push_back({.name = (file.parent_path().filename() / file.filename()).string()});
  }
  if (!complaints.empty()) return fail(std::move(complaints));
  PolicyReader reader(host_memory, path);
  std::vector<yaml::Map*> open;
  with_roots(documents, open, [&](const std::vector<yaml::Map*>& roots) {
    for (std::size_t i = 0; i < dropins.size(); ++i) dropins[i].root = roots[i + 1];
    reader.read(*roots.front(), dropins);
  });
  for (const yaml::Document& document : documents) {
    if (const auto finished = document.finish(); !finished) note(finished.error());
  }
  if (!complaints.empty()) return fail(std::move(complaints));
  return reader.take();
}

}  // namespace

Result<PolicyFile> load_policy(const std::string& path, Bytes host_memory) {
  auto policy = load_with_dropins(path, host_memory);
  if (!policy || !policy->shadow_file) return policy;
  auto shadow = load_with_dropins(policy->shadow_file->path, host_memory);
  if (!shadow) return std::unexpected(shadow.error());
  if (shadow->shadow_file) {
    return fail(fmt::format("{}:{}: shadow: this file is the shadow of {}, and a shadow has none of its own",
                            policy->shadow_file->path, shadow->shadow_file->place.line, path));
  }
  policy->shadow = std::make_shared<const PolicyFile>(std::move(*shadow));
  return policy;
}

}  // namespace balloon::policy::rules

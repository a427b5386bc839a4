// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/top/model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "balloond/ctl/tables.h"

namespace balloon::ctl::top {
namespace {

constexpr std::array<const char*, kSorts> kSortNames{"name",   "used",   "available",
                                                     "actual", "target", "state"};

std::uint64_t size_for(Sort sort, const v1::Guest& guest) {
  switch (sort) {
    case Sort::used:
      return guest.decision().used_bytes();
    case Sort::available:
      return knows_available(guest) ? guest.stats().available_bytes() : 0;
    case Sort::actual:
      return guest.actual_bytes();
    case Sort::target:
      return guest.target_bytes();
    case Sort::name:
    case Sort::state:
      return 0;
  }
  return 0;
}

bool passes(const v1::Guest& guest, const std::string& filter) {
  if (guest.name().find(filter) != std::string::npos) return true;
  return std::ranges::any_of(guest.labels(), [&](const auto& label) {
    return (label.first + '=' + label.second).find(filter) != std::string::npos;
  });
}

}  // namespace

const char* name_of(Sort sort) { return kSortNames.at(static_cast<std::size_t>(sort)); }

std::optional<Sort> sort_of(const std::string& name) {
  const auto found = std::ranges::find(kSortNames, name);
  if (found == kSortNames.end()) return std::nullopt;
  return static_cast<Sort>(found - kSortNames.begin());
}

void Model::take(v1::WatchGuestsResponse state) {
  const bool first = state_.revision() == 0;
  const bool new_second = first || now() != state.host().sampled_at().seconds();
  std::map<std::string, Past> past;
  for (const v1::Guest& guest : state.guests()) {
    const auto known = past_.find(guest.name());
    const bool is_new = known == past_.end();
    Past& mine = past[guest.name()] = is_new ? Past{} : std::move(known->second);
    const std::uint64_t before = is_new ? guest.target_bytes() : mine.samples.back().target;
    if (is_new || before != guest.target_bytes()) {
      mine.reason = guest.decision().reason();
      if (!is_new) mine.changed_at = state.host().sampled_at().seconds();
    }
    const Sample sample{.used = guest.decision().used_bytes(),
                        .available = knows_available(guest) ? guest.stats().available_bytes() : 0,
                        .actual = guest.actual_bytes(),
                        .target = guest.target_bytes()};
    if (new_second || is_new) {
      mine.samples.push_back(sample);
    } else {
      mine.samples.back() = sample;
    }
    if (mine.samples.size() > kSeconds) mine.samples.pop_front();
  }
  past_ = std::move(past);
  state_ = std::move(state);
}

const Past* Model::past(const std::string& guest) const {
  const auto found = past_.find(guest);
  return found == past_.end() ? nullptr : &found->second;
}

std::vector<const v1::Guest*> Model::guests() const {
  std::vector<const v1::Guest*> out;
  for (const v1::Guest& guest : state_.guests()) {
    if (passes(guest, filter)) out.push_back(&guest);
  }
  const auto before = [this](const v1::Guest* a, const v1::Guest* b) {
    const std::uint64_t size_a = size_for(sort, *a);
    const std::uint64_t size_b = size_for(sort, *b);
    if (size_a != size_b) return size_a > size_b;
    if (sort == Sort::state && a->state() != b->state()) return a->state() < b->state();
    return ::strverscmp(a->name().c_str(), b->name().c_str()) < 0;
  };
  std::ranges::sort(out, before);
  if (reverse) std::ranges::reverse(out);
  return out;
}

std::size_t Model::selected_row() const {
  const auto all = guests();
  const auto found =
      std::ranges::find_if(all, [this](const v1::Guest* guest) { return guest->name() == selected_; });
  return found == all.end() ? 0 : static_cast<std::size_t>(found - all.begin());
}

const v1::Guest* Model::selected() const {
  const auto all = guests();
  return all.empty() ? nullptr : all[selected_row()];
}

void Model::select(int rows) {
  const auto all = guests();
  if (all.empty()) return;
  const auto last = static_cast<std::int64_t>(all.size()) - 1;
  const auto row = std::clamp<std::int64_t>(static_cast<std::int64_t>(selected_row()) + rows, 0, last);
  selected_ = all[static_cast<std::size_t>(row)]->name();
}

}  // namespace balloon::ctl::top

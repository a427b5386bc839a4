#include "balloond/control/state.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "policy/explain.h"

namespace balloon::daemon {

const GuestStatus* State::find(const std::string& name) const {
  const auto by_name = [](const GuestStatus& guest) -> const std::string& { return guest.record.name; };
  const auto guest = std::ranges::lower_bound(guests, name, {}, by_name);
  return guest == guests.end() || guest->record.name != name ? nullptr : &*guest;
}

std::string explain(const GuestStatus& guest, const State& state) {
  const GuestRecord& record = guest.record;
  std::string text = policy::explain(guest.plan, guest.limits, guest.actual, state.budget);
  if (!record.credit.is_full()) {
    text += fmt::format(" Its sizes count {} times halved: its process cannot have what it claims.",
                        record.credit.halvings);
  }
  if (guest.contested_until) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(*guest.contested_until - state.at);
    text += fmt::format(" Somebody else moved its balloon from {} to {}: it is left alone for {} s more.",
                        format_bytes(record.contest->from), format_bytes(record.contest->to), left.count());
  }
  if (!record.complaint.empty()) text += " Its newest statistics make no sense: " + record.complaint + ".";
  return text;
}

void StateStore::publish(std::shared_ptr<const State> state) {
  std::vector<std::shared_ptr<Reader>> readers;
  {
    const std::lock_guard lock(mutex_);
    newest_ = std::move(state);
    std::erase_if(readers_, [](const std::weak_ptr<Reader>& reader) { return reader.expired(); });
    for (const auto& reader : readers_) {
      if (auto alive = reader.lock()) readers.push_back(std::move(alive));
    }
  }
  for (const auto& reader : readers) reader->state_changed();
}

std::shared_ptr<const State> StateStore::newest() const {
  const std::lock_guard lock(mutex_);
  return newest_;
}

void StateStore::subscribe(std::weak_ptr<Reader> reader) {
  const std::lock_guard lock(mutex_);
  readers_.push_back(std::move(reader));
}

}  // namespace balloon::daemon

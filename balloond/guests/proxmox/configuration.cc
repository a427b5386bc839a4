// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/proxmox/configuration.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <thread>

#include "base/mutex.h"
#include "policy/rules/size_rule.h"
#include "policy/rules/values.h"

namespace balloon::daemon::proxmox {
namespace {

/// Proxmox' shares are 1000 where nobody said otherwise; a weight is 100.
constexpr std::uint64_t kSharesOfOneWeight = 10;
/// Of MiB and of shares: more is no number of anything.
constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 26;

/// The keys of the guest as it is now: a snapshot's come after a line of its name.
std::map<std::string, std::string> keys_of(const std::string& text) {
  std::map<std::string, std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && !line.starts_with('[');) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos && !line.starts_with('#'))
      keys.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  return keys;
}

std::optional<std::uint64_t> count(const std::map<std::string, std::string>& keys, const std::string& key) {
  const auto found = keys.find(key);
  if (found == keys.end()) return std::nullopt;
  std::string_view text = found->second;
  if (text.starts_with("current=")) text.remove_prefix(8);  // the form of Proxmox 8.1 and later
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value > kNumberMax) return std::nullopt;
  return value;
}

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return fail(fmt::format("{} cannot be read", path));
  return text.str();
}

/// The reader that did not come back in time; expires when it does.
struct LeftBehind {
  Mutex mutex;
  std::weak_ptr<void> reader GUARDED_BY(mutex);
};

/// By a thread of its own, which is left behind when it does not come back in time. There is one such thread
/// at most: until it ends nothing else is read.
Result<std::string> read_within(const std::string& path, std::chrono::milliseconds limit) {
  static LeftBehind left_behind;
  const MutexLock lock(left_behind.mutex);
  if (!left_behind.reader.expired())
    return fail(fmt::format("{} is not read while an earlier read waits for its filesystem", path));
  const auto text = std::make_shared<std::promise<Result<std::string>>>();
  auto read = text->get_future();
  std::thread([text, path] { text->set_value(read_text(path)); }).detach();
  if (read.wait_for(limit) == std::future_status::ready) return read.get();
  left_behind.reader = text;
  return fail(
      fmt::format("{} could not be read within {} ms: its filesystem does not answer", path, limit.count()));
}

}  // namespace

std::uint64_t Guest::weight() const {
  return std::clamp<std::uint64_t>(shares / kSharesOfOneWeight, 1, policy::rules::kWeightMax);
}

Result<Guest> read_configuration(const std::string& text) {
  const auto keys = keys_of(text);
  if (keys.empty()) return fail("it is no guest's configuration");
  Guest guest;
  if (const auto name = keys.find("name"); name != keys.end()) guest.name = name->second;
  if (const auto memory = count(keys, "memory")) guest.memory = *memory * kMiB;
  if (const auto balloon = count(keys, "balloon")) guest.balloon = *balloon * kMiB;
  if (const auto shares = count(keys, "shares")) guest.shares = *shares;
  return guest;
}

Result<Guest> read_configuration_file(const std::string& path, std::chrono::milliseconds limit) {
  const auto text = read_within(path, limit);
  if (!text) return std::unexpected(text.error());
  auto guest = read_configuration(*text);
  if (!guest) return fail(path, guest.error());
  return guest;
}

std::map<std::string, std::string> limits_of(const Guest& guest) {
  if (guest.balloon == Bytes{0}) return {};  // it has no balloon that could be moved
  if (guest.shares == 0) return {{policy::rules::kControlLabel, "off"}};
  return {{policy::rules::kMinLabel, policy::rules::exact_bytes(guest.least())},
          {policy::rules::kWeightLabel, fmt::format("{}", guest.weight())}};
}

}  // namespace balloon::daemon::proxmox

// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/ksm_sampler.h"

#include <charconv>

namespace balloon::daemon {
namespace {

/// Bits of run (mm/ksm.c): KSM_RUN_MERGE, KSM_RUN_UNMERGE.
constexpr std::uint64_t kMerge = 1;
constexpr std::uint64_t kUnmerge = 2;

template <typename T>
std::optional<T> number_in(const PseudoFile& file, ReadBuffer& buffer) {
  const auto text = file.read(buffer);
  if (!text) return std::nullopt;
  T number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

}  // namespace

KsmSampler::KsmSampler(const std::string& root)
    : run_(root + kKsmDirectory + "run"),
      shared_(root + kKsmDirectory + "pages_shared"),
      sharing_(root + kKsmDirectory + "pages_sharing"),
      unshared_(root + kKsmDirectory + "pages_unshared"),
      volatile_(root + kKsmDirectory + "pages_volatile"),
      full_scans_(root + kKsmDirectory + "full_scans"),
      profit_(root + kKsmDirectory + "general_profit"),
      pages_to_scan_(root + kKsmDirectory + "pages_to_scan"),
      sleep_(root + kKsmDirectory + "sleep_millisecs") {}

std::optional<policy::KsmSnapshot> KsmSampler::sample(ReadBuffer& buffer, KsmFigures& more) const {
  const auto run = number_in<std::uint64_t>(run_, buffer);
  if (!run) return std::nullopt;
  const auto number = [&](const PseudoFile& file) {
    return number_in<std::uint64_t>(file, buffer).value_or(0);
  };
  more.changing = number(volatile_) * page_size();
  more.full_scans = number(full_scans_);
  more.profit = number_in<std::int64_t>(profit_, buffer);
  more.unmerging = (*run & kUnmerge) != 0;
  // The kernel's sleep is an unsigned int.
  const auto sleep = static_cast<std::uint32_t>(number(sleep_));
  return policy::KsmSnapshot{.running = (*run & kMerge) != 0,
                             .shared = number(shared_) * page_size(),
                             .sharing = number(sharing_) * page_size(),
                             .unshared = number(unshared_) * page_size(),
                             .pages_to_scan = number(pages_to_scan_),
                             .sleep = std::chrono::milliseconds(sleep)};
}

}  // namespace balloon::daemon

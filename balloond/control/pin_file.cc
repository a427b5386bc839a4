// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/pin_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "balloon/state/v1/pins.pb.h"
#include "balloond/control/state_file.h"
#include "balloond/guests/sanitize.h"
#include "base/files.h"

namespace balloon::daemon {
namespace {

namespace stored = balloon::state::v1;
using std::chrono::nanoseconds;

constexpr std::uint32_t kVersion = 1;
/// scheduler.proto, SetTarget.
constexpr nanoseconds kPinMax = std::chrono::hours(24);

Result<PinRecord> from_stored(const stored::Pin& pin, bool same_boot, const Moment& at) {
  if (!is_guest_name(pin.guest())) return fail("its guest is none that there could be");
  if (pin.target_bytes() == 0) return fail("its size makes no sense");
  if (!pin.has_until() || !pin.has_until_since_boot()) return fail("one of its times is missing");
  const auto until = take_time(pin.until(), "until");
  if (!until) return std::unexpected(until.error());
  const auto since_boot = take_time(pin.until_since_boot(), "until_since_boot");
  if (!since_boot) return std::unexpected(since_boot.error());
  const nanoseconds left = same_boot ? *since_boot - at.now : *until - at.wall.time_since_epoch();
  const nanoseconds bounded = std::clamp(left, nanoseconds(0), kPinMax);
  return PinRecord{.target = Bytes{pin.target_bytes()},
                   .expires = at.now + bounded,
                   .until = at.wall + std::chrono::duration_cast<WallTime::duration>(bounded)};
}

}  // namespace

std::string write_pins(const Pins& pins, const std::string& boot) {
  stored::Pins all;
  all.set_version(kVersion);
  all.set_boot_id(boot);
  for (const auto& [guest, pin] : pins) {
    stored::Pin& out = *all.add_pins();
    out.set_guest(guest);
    out.set_target_bytes(pin.target.count());
    put_time(*out.mutable_until(), pin.until.time_since_epoch());
    put_time(*out.mutable_until_since_boot(), pin.expires);
  }
  return state_text(all);
}

Result<Pins> read_pins(std::string_view text, const Moment& at) {
  stored::Pins all;
  BALLOON_TRY(parse_state(text, std::array{kVersion}, all));
  const bool same_boot = !at.boot.empty() && all.boot_id() == at.boot;
  Pins pins;
  for (const stored::Pin& each : all.pins()) {
    const auto pin = from_stored(each, same_boot, at);
    if (!pin) return fail(fmt::format("it is damaged: pin of '{}'", printable(each.guest())), pin.error());
    if (pin->expires > at.now) pins.emplace(each.guest(), *pin);
  }
  return pins;
}

PinFile::PinFile(const Clock& clock, std::string path, std::string boot)
    : clock_(clock), path_(std::move(path)), boot_(std::move(boot)) {}

Result<Pins> PinFile::load() const {
  const auto text = read_file(path_, kSizeMax);
  if (!text) return fail("the pins cannot be read", text.error());
  if (!*text) return {};
  auto pins = read_pins(**text, {.now = clock_.now(), .wall = clock_.wall(), .boot = boot_});
  if (pins) return pins;
  return refused_state(path_, pins.error(), "nobody had pinned a guest", "the pins in it");
}

Result<void> PinFile::save(const Pins& pins) const {
  return save_state(path_, write_pins(pins, boot_), "pins");
}

}  // namespace balloon::daemon

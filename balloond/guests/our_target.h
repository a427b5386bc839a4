// SPDX-License-Identifier: Apache-2.0
// What the daemon last asked of one guest's balloon, and whether somebody else has moved it since. For
// hypervisors that tell a balloon's size and not who asked for it. Pure.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "policy/types.h"

namespace balloon::daemon {

class OurTarget {
 public:
  using Bytes = policy::Bytes;
  /// A balloon on its way goes astray by less: guests give pages in batches, some of which come back.
  static constexpr Bytes kAstray = 16 * kMiB;
  /// A balloon this near to its target is there: guests whose pages are larger than QEMU's 4 KiB stop before
  /// it, and Linux moves 1 MiB at a time (drivers/virtio/virtio_balloon.c, VIRTIO_BALLOON_ARRAY_PFNS_MAX):
  /// one that is told to stay where it is makes the step that it is at.
  static constexpr Bytes kThere = kMiB;
  /// Statistics in a row between which a balloon stood still. They come once a second at most, and every 2 s
  /// of a shared socket, from the same driver, which moves its balloon without a pause as long as it has
  /// pages to give. More than four would be later than policy's own patience with a balloon (stuck_after, 10
  /// s), which then asks for the size that it finds.
  static constexpr int kStandstill = 3;
  /// A guest with less than this part of its size free stops by itself: the driver takes no page by force,
  /// and one that is to get memory may be too busy to take it.
  static constexpr unsigned kFreePart = 8;

  /// The hypervisor took it, when the balloon was last seen at `actual`.
  void asked(Bytes target, Bytes actual) {
    const Bytes before = on_its_way() ? *target_ : actual;  // it may have come as far since
    target_ = target;
    lost_.reset();
    start_anew();
    start_ = actual;
    way_ = Way{.low = std::min({target, actual, before}), .high = std::max({target, actual, before})};
  }
  void forget() {
    target_.reset();
    lost_.reset();
  }
  /// Takes the balloon's newest size. Returns true once when it left our target, or the way there: what it
  /// has is what counts from then on, until it comes to our target after all: then it was only late, or was
  /// given back. `driver_ready`: the guest's driver holds it; the next one goes to the target by itself.
  /// `settled`: the size is not from before we asked.
  bool moved_by_another(Bytes actual, bool driver_ready, bool settled = true) {
    if (lost_ && driver_ready && distance(actual, *lost_) <= kThere) target_ = std::exchange(lost_, {});
    if (!target_) return false;
    if (!driver_ready) {
      start_anew();
      return false;
    }
    begun_ |= start_ && actual != *start_;
    if (!settled) return false;  // it says where the balloon was
    if (!start_) start_ = actual;
    if (!way_) way_ = Way{.low = std::min(*target_, actual), .high = std::max(*target_, actual)};
    if (last_ != actual) samples_still_ = 0;
    last_ = actual;
    const bool gone = reached_ ? away(actual) > kThere : is_off(actual);
    reached_ |= actual == *target_;
    // It does not come back from where it has been.
    way_->low = std::max(way_->low, std::min(actual, *target_));
    way_->high = std::min(way_->high, std::max(actual, *target_));
    if (gone) lose();
    return gone;
  }
  /// The guest has sent new statistics, by which `free` of its memory is unused. Returns true once when its
  /// balloon had begun to move and stopped short of our target, be it where it was before, though nothing of
  /// the guest's keeps it.
  bool stopped_by_another(std::optional<Bytes> free) {
    if (!on_its_way() || !last_ || !begun_) return false;
    const bool can_go_on = away(*last_) > kThere && free.value_or(Bytes{}) >= *last_ / kFreePart;
    samples_still_ = can_go_on ? samples_still_ + 1 : 0;
    if (samples_still_ <= kStandstill) return false;
    lose();
    return true;
  }

  const std::optional<Bytes>& target() const { return target_; }
  bool on_its_way() const { return target_ && !reached_; }

 private:
  /// The sizes between which the balloon is to be found.
  struct Way {
    Bytes low = {}, high{};
  };
  static Bytes distance(Bytes one, Bytes other) { return std::max(one, other) - std::min(one, other); }
  Bytes away(Bytes actual) const { return distance(actual, *target_); }
  bool is_off(Bytes actual) const {
    const auto beyond = [this](Bytes end) { return end == *target_ ? kThere : kAstray; };
    return actual + beyond(way_->low) < way_->low || actual > way_->high + beyond(way_->high);
  }
  void lose() {
    lost_ = std::exchange(target_, {});
    start_anew();
  }
  void start_anew() {
    reached_ = false;
    way_.reset();
    start_.reset();
    begun_ = false;
    last_.reset();
    samples_still_ = 0;
  }

  std::optional<Bytes> target_;  ///< unset: none, or others have moved the balloon since
  std::optional<Bytes> lost_;    ///< the one that others seem to have overridden
  bool reached_ = false;         ///< the balloon has been there
  std::optional<Way> way_;
  std::optional<Bytes> start_;  ///< its size when we asked
  bool begun_ = false;          ///< it has had another since
  std::optional<Bytes> last_;   ///< and by the newest look
  int samples_still_ = 0;       ///< statistics since it moved
};

}  // namespace balloon::daemon

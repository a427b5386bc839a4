// SPDX-License-Identifier: Apache-2.0
// A guest without a balloon, for those who would move it: it has all of its memory, for ever.
#pragma once

#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

class NoBalloon final : public BalloonControl {
 public:
  explicit NoBalloon(Bytes memory) : memory_(memory) {}

  BalloonState state() const override { return {.actual = memory_, .target = memory_}; }
  Result<void> set_target(Bytes target) override {
    return target == memory_ ? Result<void>{} : fail("the guest has no balloon");
  }
  void set_stats_interval(std::chrono::nanoseconds) override {}
  void observe(std::function<void(const BalloonStats&)>, std::function<void(const BalloonState&)>) override {}
  void request_stats(std::function<void(Result<BalloonStats>)> reply) override {
    reply(fail("the guest has no balloon"));
  }
  void drop_free_pages(std::function<void(Result<Bytes>)> reply) override {
    reply(fail("the guest has no balloon"));
  }
  BalloonCounters counters() const override { return {}; }

 private:
  const Bytes memory_;
};

}  // namespace balloon::vmm

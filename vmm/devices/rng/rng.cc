// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/rng/rng.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {

Result<std::unique_ptr<VirtioDevice>> make_rng(const RngConfig& config, EventLoop& loop) {
  return Rng::create(config, loop);
}

Result<std::unique_ptr<Rng>> Rng::create(const RngConfig& config, EventLoop& loop) {
  std::unique_ptr<Rng> rng(new Rng(config, loop.clock()));
  auto queues = DeviceQueues::create(*rng, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  rng->queues_ = std::move(*queues);
  auto timer = loop.timer([self = rng.get()] {
    const MutexLock lock(self->mutex());
    self->refilled_->set({});
    self->queues_->come_back(0);
  });
  if (!timer) return fail("preparing the rng", timer.error());
  rng->refilled_ = std::move(*timer);
  return rng;
}

Rng::~Rng() {
  refilled_.reset();
  {
    const MutexLock lock(mutex());
    if (queues_) queues_->stop();
  }
  queues_.reset();
}

void Rng::activate(std::uint64_t /*features*/, std::vector<std::unique_ptr<VirtQueue>> queues) {
  queues_->start(host(), std::move(queues));
}

void Rng::process_queue(std::uint16_t index) {
  // Nothing is taken before it may go: a chain that waits stays in the guest's ring.
  if (const auto wait = bucket_.wait(clock_.now()); wait > wait.zero()) {
    ++counters_.waits;
    return refilled_->set(wait);
  }
  queues_->serve(index, [&](VirtQueue& queue, Work& work, TurnBudget& budget) REQUIRES(mutex()) {
    const std::uint32_t written = fill(work.chain);
    bucket_.spend(written);
    // Its chains end a turn before its bytes could.
    static_assert(Bytes{TurnBudget::kChains * kMostAtOnce} < TurnBudget::kBytes);
    budget.look_at_clock();
    queue.put(std::move(work.chain), written);
    return Progress::done;
  });
}

std::uint32_t Rng::fill(const Chain& chain) {
  std::uint32_t written = 0;
  for (const ChainBuffer& buffer : chain.writable()) {
    const std::size_t size = std::min(buffer.host.size(), kMostAtOnce - written);
    if (size == 0) break;
    // Straight into guest memory. Never blocks: the host's pool was ready before any VMM started.
    const ssize_t got = ::getrandom(buffer.host.data(), size, GRND_NONBLOCK);
    if (got <= 0) {
      if (failures_.happened()) log::error("rng: the host has no random bytes, errno {}", errno);
      break;
    }
    written += static_cast<std::uint32_t>(got);
    if (static_cast<std::size_t>(got) < size) break;
  }
  counters_.filled += Bytes{written};
  return written;
}

void Rng::reset() {
  refilled_->set({});
  queues_->stop();
}

RngCounters Rng::counters() const {
  const MutexLock lock(mutex());
  return counters_;
}

}  // namespace balloon::vmm

#include "vmm/devices/balloon/balloon.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/devices/balloon/pfn_ranges.h"
#include "vmm/devices/balloon/stats.h"

namespace balloon::vmm {
namespace {

constexpr std::array<std::uint16_t, 4> kQueueSizes = {Balloon::kQueueSize, Balloon::kQueueSize,
                                                      Balloon::kQueueSize, Balloon::kQueueSize};

std::uint32_t to_pages(Bytes bytes) { return static_cast<std::uint32_t>(bytes / kPageSize); }

}  // namespace

Result<BalloonDevice> make_balloon(const BalloonConfig& config, const GuestMemory& memory, EventLoop& loop) {
  auto balloon = Balloon::create(config, memory, loop);
  if (!balloon) return std::unexpected(std::move(balloon.error()));
  BalloonControl* control = balloon->get();
  return BalloonDevice{std::move(*balloon), control};
}

Result<std::unique_ptr<Balloon>> Balloon::create(const BalloonConfig& config, const GuestMemory& memory,
                                                 EventLoop& loop) {
  std::unique_ptr<Balloon> balloon(new Balloon(config, memory));
  if (config.initial_target != 0) BALLOON_TRY(balloon->set_target(config.initial_target));
  auto queues = DeviceQueues::create(*balloon, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  balloon->queues_ = std::move(*queues);
  auto timer = loop.timer([self = balloon.get()] {
    const std::lock_guard lock(self->mutex);
    self->request_stats();
  });
  if (!timer) return fail("preparing the balloon", timer.error());
  balloon->stats_timer_ = std::move(*timer);
  auto hold_back_timer = loop.timer([self = balloon.get()] {
    const std::lock_guard lock(self->mutex);
    self->held_back_.flush();
    self->hold_back_timer_->set({});
    self->tell_state();
  });
  if (!hold_back_timer) return fail("preparing the balloon", hold_back_timer.error());
  balloon->hold_back_timer_ = std::move(*hold_back_timer);
  return balloon;
}

Balloon::Balloon(const BalloonConfig& config, const GuestMemory& memory)
    : config_(config),
      memory_(memory),
      pfns_(kPfnBatch),
      held_back_([this](GuestRange range) { counters_.inflated += release(range); }) {
  told_ = current();
}

Balloon::~Balloon() {
  stats_timer_.reset();
  hold_back_timer_.reset();
  {
    const std::lock_guard lock(mutex);
    drop_queues();
  }
  queues_.reset();
}

std::uint64_t Balloon::offered_features() const {
  std::uint64_t features = kFeatureIndirectDesc | kFeatureEventIdx | kFeatureMustTellHost | kFeatureStats;
  if (config_.deflate_on_oom) features |= kFeatureDeflateOnOom;
  // Without PAGE_POISON, Linux silently drops REPORTING when it poisons or initialises pages on free
  // (drivers/virtio/virtio_balloon.c, virtballoon_validate).
  if (config_.free_page_reporting) features |= kFeatureReporting | kFeaturePagePoison;
  return features;
}

std::span<const std::uint16_t> Balloon::queue_sizes() const {
  return std::span(kQueueSizes).first(config_.free_page_reporting ? 4 : 3);
}

std::uint32_t Balloon::config_size() const { return sizeof(ConfigSpace); }

void Balloon::read_config(std::uint32_t offset, std::span<std::byte> into) {
  std::memcpy(into.data(), std::as_bytes(std::span(&space_, 1)).data() + offset, into.size());
}

void Balloon::write_config(std::uint32_t offset, std::span<const std::byte> from) {
  // Linux writes poison_val before DRIVER_OK, when it is not yet known here whether the driver may.
  const bool may_poison =
      config_.free_page_reporting && (features_ == 0 || (features_ & kFeaturePagePoison) != 0);
  const auto within = [](std::size_t at, std::size_t field) {
    return at >= field && at < field + sizeof(std::uint32_t);
  };
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&space_, 1));
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::size_t at = offset + i;
    if (within(at, offsetof(ConfigSpace, actual)) ||
        (may_poison && within(at, offsetof(ConfigSpace, poison_val)))) {
      bytes[at] = from[i];
    }
  }
  tell_state();
}

void Balloon::activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) {
  features_ = features;
  if ((features_ & kFeaturePagePoison) == 0) space_.poison_val = 0;
  queues_->start(host(), std::move(queues));
  tell_state();
}

void Balloon::process_queue(std::uint16_t index) {
  queues_->serve(index, [this, index](VirtQueue& queue, Chain chain) {
    switch (static_cast<Queue>(index)) {
      case Queue::inflate:
        inflate(chain);
        break;
      case Queue::deflate:
        deflate(chain);
        break;
      case Queue::stats:
        accept_stats(queue, std::move(chain));
        return;
      case Queue::reporting:
        report(chain);
        break;
    }
    // 5.5.6.6: nothing was written; a used length other than 0 on the reporting queue would mean something
    // one day.
    queue.put(std::move(chain), 0);
  });
  tell_state();
}

void Balloon::reset() {
  drop_queues();
  features_ = 0;
  // The next driver starts with an empty balloon; the target stays, so that it inflates again.
  space_.actual = 0;
  space_.poison_val = 0;
  tell_state();
}

void Balloon::drop_queues() {
  if (held_stats_) VirtQueue::forget(std::move(*held_stats_));
  held_stats_.reset();
  stats_requested_ = false;
  held_back_.drop();  // the next driver starts with all pages
  if (queues_) queues_->stop();
}

void Balloon::inflate(const Chain& chain) {
  for_ranges(chain, [this](GuestRange range) { held_back_.add(range); });
  if ((features_ & kFeatureMustTellHost) == 0) held_back_.flush();
  if (held_back_.held() > 0) hold_back_timer_->set(kHoldBack);
}

void Balloon::deflate(const Chain& chain) {
  // Released pages need nothing: when the guest uses them again, they are allocated on demand.
  counters_.pages_deflated += chain.readable_size() / sizeof(std::uint32_t);
  if (held_back_.held() > 0) for_ranges(chain, [this](GuestRange range) { held_back_.cancel(range); });
}

void Balloon::for_ranges(const Chain& chain, const std::function<void(GuestRange)>& each) {
  const std::uint64_t sent = chain.readable_size() / sizeof(std::uint32_t);
  // A chain can hold gigabytes of PFNs, but no more of them than the guest has pages are not repeats.
  const std::uint64_t count = std::min<std::uint64_t>(sent, to_pages(memory_.size()));
  if (sent > count) refuse(sent - count, "in one chain, more than the guest has");
  for (std::uint64_t done = 0; done < count;) {
    const auto batch = std::span(pfns_).first(std::min<std::uint64_t>(kPfnBatch, count - done));
    chain.read(done * sizeof(std::uint32_t), std::as_writable_bytes(batch));
    to_ranges(batch, ranges_);
    for (const GuestRange& range : ranges_) each(range);
    done += batch.size();
  }
}

void Balloon::accept_stats(VirtQueue& queue, Chain chain) {
  if (held_stats_) {
    ++counters_.stats_returned;
    queue.put(std::move(chain), 0);
    return;
  }
  // A buffer that was not asked for is the driver's first: it was filled at probe, and is kept only to ask
  // with.
  if (std::exchange(stats_requested_, false)) sample(chain);
  held_stats_.emplace(std::move(chain));
}

void Balloon::sample(const Chain& chain) {
  std::array<std::byte, kStatsBufferMax> buffer;
  const std::size_t size = chain.read(0, buffer);
  ++counters_.stats_samples;
  if (!on_stats_) return;
  on_stats_({.sampled_at = std::chrono::system_clock::now(),
             .actual = claimed_size(),
             .values = parse_stats(std::span(buffer).first(size))});
}

void Balloon::request_stats() {
  VirtQueue* queue = queues_->at(static_cast<std::uint16_t>(Queue::stats));
  if (queue == nullptr || !held_stats_) return;  // no driver yet, or still waiting for its answer
  queue->put(std::move(*held_stats_), 0);
  held_stats_.reset();
  stats_requested_ = true;
  queues_->notify(static_cast<std::uint16_t>(Queue::stats));
}

void Balloon::report(const Chain& chain) {
  if ((features_ & kFeatureReporting) == 0) return;
  for (const ChainBuffer& buffer : chain.writable()) {
    if (space_.poison_val != 0) {
      // 5.5.6.6.2 wants the poison back in these pages, and a released page reads as zeros. So it is kept, as
      // in QEMU.
      ++counters_.reports_kept;
      continue;
    }
    // Whole pages only: the rest of a torn one is still in use.
    const GuestAddress start = (buffer.address + kPageSize - 1) / kPageSize * kPageSize;
    const GuestAddress end = (buffer.address + buffer.host.size()) / kPageSize * kPageSize;
    if (start < end) counters_.reported += release({start, end - start});
  }
}

Bytes Balloon::release(GuestRange range) {
  const auto released = memory_.release(range);
  if (!released) {
    if (const auto times = failures_.happened())
      log::error("balloon: {} ({} times)", released.error().message, *times);
    return 0;
  }
  if (*released < range.size) refuse((range.size - *released) / kPageSize, "outside its RAM");
  return *released;
}

void Balloon::refuse(std::uint64_t pages, const char* what) {
  counters_.pages_refused += pages;
  if (refusals_.happened()) {
    log::warning("balloon: the guest gave back {} pages {}: ignored ({} in all)", pages, what,
                 counters_.pages_refused);
  }
}

Bytes Balloon::claimed_size() const {
  const Bytes size = memory_.size();
  return size - std::min(size, Bytes{space_.actual} * kPageSize);  // the guest may claim any number
}

BalloonState Balloon::current() const {
  const Bytes size = memory_.size();
  const bool ready = queues_ && queues_->at(static_cast<std::uint16_t>(Queue::inflate)) != nullptr;
  const auto negotiated = [&](std::uint64_t feature) { return ready && (features_ & feature) != 0; };
  return {
      // What is held back is not the host's yet.
      .actual = std::min(size, claimed_size() + held_back_.held()),
      .target = size - Bytes{space_.num_pages} * kPageSize,
      .driver_ready = ready,
      .has_stats =
          negotiated(kFeatureStats) && queues_->at(static_cast<std::uint16_t>(Queue::stats)) != nullptr,
      .deflate_on_oom = negotiated(kFeatureDeflateOnOom),
      .free_page_reporting = negotiated(kFeatureReporting),
  };
}

void Balloon::tell_state() {
  const BalloonState now = current();
  if (now == told_) return;
  told_ = now;
  if (on_state_) on_state_(now);
}

BalloonState Balloon::state() const {
  const std::lock_guard lock(mutex);
  return current();
}

Result<void> Balloon::set_target(Bytes target) {
  const std::lock_guard lock(mutex);
  if (target > memory_.size()) {
    return fail(fmt::format("target {} is above the guest's boot memory of {}", format_bytes(target),
                            format_bytes(memory_.size())));
  }
  const std::uint32_t pages = to_pages(memory_.size()) - to_pages(target);
  if (std::exchange(space_.num_pages, pages) == pages) return {};
  if (queues_ && current().driver_ready) host().interrupt_config();
  tell_state();
  return {};
}

void Balloon::set_stats_interval(std::chrono::nanoseconds interval) {
  if (interval > interval.zero()) interval = std::max<std::chrono::nanoseconds>(interval, kStatsIntervalMin);
  stats_timer_->set(interval);
}

void Balloon::observe(std::function<void(const BalloonStats&)> on_stats,
                      std::function<void(const BalloonState&)> on_state) {
  const std::lock_guard lock(mutex);
  on_stats_ = std::move(on_stats);
  on_state_ = std::move(on_state);
}

BalloonCounters Balloon::counters() const {
  const std::lock_guard lock(mutex);
  return counters_;
}

}  // namespace balloon::vmm

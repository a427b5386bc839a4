// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/balloon.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace balloon::vmm {
namespace {

constexpr std::array<std::uint16_t, 5> kQueueSizes = {
    Balloon::kQueueSize, Balloon::kQueueSize, Balloon::kQueueSize, Balloon::kQueueSize, Balloon::kQueueSize};
constexpr std::size_t kAlwaysOffered = 3;  ///< inflate, deflate, statistics

/// Of the host's memory, what must be free for huge pages to be joined: it takes memory, and where there is
/// little the kernel would compact and reclaim for it.
constexpr unsigned long kRoomPart = 16;

bool host_has_room() {
  struct sysinfo host = {};
  return ::sysinfo(&host) == 0 && host.freeram >= host.totalram / kRoomPart;
}

std::uint32_t to_pages(Bytes bytes) { return static_cast<std::uint32_t>(bytes / balloon::kPageSize); }

}  // namespace

Result<BalloonDevice> make_balloon(const BalloonConfig& config, const GuestMemory& memory, EventLoop& loop) {
  auto balloon = Balloon::create(config, memory, loop);
  if (!balloon) return std::unexpected(std::move(balloon.error()));
  BalloonControl* control = balloon->get();
  return BalloonDevice{std::move(*balloon), control};
}

Result<std::unique_ptr<Balloon>> Balloon::create(const BalloonConfig& config, const GuestMemory& memory,
                                                 EventLoop& loop) {
  std::unique_ptr<Balloon> balloon(new Balloon(config, memory, loop.clock()));
  auto wishes = Wishes::create(balloon->mutex(), loop);
  if (!wishes) return fail("preparing the balloon", wishes.error());
  balloon->wishes_ = std::move(*wishes);
  if (config.initial_target != Bytes{0}) BALLOON_TRY(balloon->set_target(config.initial_target));
  auto queues = DeviceQueues::create(*balloon, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  balloon->queues_ = std::move(*queues);
  if (auto done = balloon->make_timers(loop); !done) return fail("preparing the balloon", done.error());
  return balloon;
}

Result<void> Balloon::make_timers(EventLoop& loop) {
  const auto make = [&](std::unique_ptr<EventLoop::Timer>& into, std::function<void()> act) -> Result<void> {
    auto timer = loop.timer([this, act = std::move(act)] {
      const MutexLock lock(mutex());
      act();
    });
    if (!timer) return std::unexpected(timer.error());
    into = std::move(*timer);
    return {};
  };
  BALLOON_TRY(make(stats_timer_, [this]() REQUIRES(mutex()) { ask_for_stats(); }));
  BALLOON_TRY(make(hold_back_timer_, [this]() REQUIRES(mutex()) { end_hold_back(); }));
  BALLOON_TRY(make(pool_timer_, [this]() REQUIRES(mutex()) {
    pool_timer_->set({});
    queues_->come_back(index_of(Queue::deflate));
  }));
  return make(hinting_timer_, [this]() REQUIRES(mutex()) {
    if (rounds_.under_way()) end_hinting(fail("the guest did not come to an end with its free pages"));
  });
}

Balloon::Balloon(const BalloonConfig& config, const GuestMemory& memory, Clock& clock)
    : config_(config),
      memory_(memory),
      clock_(clock),
      held_back_(
          [this](GuestRange range) REQUIRES(mutex()) {
            counters_.inflated += release(range);
            restored_.released(range);
          },
          std::max(kHugePageSize, page_size(memory.backing().huge_pages).count()),
          from_pool(memory.backing().huge_pages)),
      restored_(memory.regions().back().start + memory.regions().back().host.size(),
                [&memory](GuestAddress huge_page) {
                  if (host_has_room()) memory.join_huge_page(huge_page);
                }) {
  told_ = current();
  shown_.set({.state = told_});
}

Balloon::~Balloon() {
  {
    const MutexLock lock(mutex());
    drop_queues();
    if (wishes_) wishes_->carry_out();
  }
  wishes_.reset();
  for (auto* timer : {&stats_timer_, &hold_back_timer_, &pool_timer_, &hinting_timer_}) timer->reset();
  queues_.reset();
}

std::uint64_t Balloon::offered_features() const {
  std::uint64_t features = kFeatureIndirectDesc | kFeatureEventIdx | kFeatureMustTellHost | kFeatureStats;
  if (config_.deflate_on_oom) features |= kFeatureDeflateOnOom;
  // Without PAGE_POISON, Linux silently drops REPORTING when it poisons or initialises pages on free
  // (drivers/virtio/virtio_balloon.c, virtballoon_validate).
  if (config_.free_page_reporting) features |= kFeatureReporting | kFeaturePagePoison;
  if (config_.free_page_hinting) features |= kFeatureHinting | kFeaturePagePoison;
  return features;
}

std::span<const std::uint16_t> Balloon::queue_sizes() const {
  return std::span(kQueueSizes)
      .first(kAlwaysOffered + (config_.free_page_hinting ? 1U : 0U) +
             (config_.free_page_reporting ? 1U : 0U));
}

Balloon::Queue Balloon::queue_of(std::uint16_t index) const {
  if (index < kAlwaysOffered) return static_cast<Queue>(index);
  return config_.free_page_hinting && index == kAlwaysOffered ? Queue::hinting : Queue::reporting;
}

std::uint16_t Balloon::index_of(Queue queue) const {
  const auto index = static_cast<std::uint16_t>(queue);
  return queue == Queue::reporting && !config_.free_page_hinting ? static_cast<std::uint16_t>(index - 1)
                                                                 : index;
}

std::uint32_t Balloon::config_size() const { return sizeof(ConfigSpace); }

void Balloon::read_config(std::uint32_t offset, std::span<std::byte> into) {
  wishes_->carry_out();  // a target that was set before is what the driver reads
  std::memcpy(into.data(), std::as_bytes(std::span(&space_, 1)).data() + offset, into.size());
}

void Balloon::write_config(std::uint32_t offset, std::span<const std::byte> from) {
  wishes_->carry_out();  // what the driver says now comes after a target that was set before
  // Linux writes poison_val before DRIVER_OK, when it is not yet known here whether the driver may.
  const bool may_poison =
      (offered_features() & kFeaturePagePoison) != 0 && (features_ == 0 || negotiated(kFeaturePagePoison));
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
  // Linux writes `actual` after each chain: at its target it gives no more.
  if (space_.actual == space_.num_pages) held_back_.release_run();
  tell_state();
}

void Balloon::activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) {
  features_ = features;
  if (!negotiated(kFeaturePagePoison)) space_.poison_val = 0;
  queues_->start(host(), std::move(queues));
  tell_state();
}

void Balloon::process_queue(std::uint16_t index) {
  queues_->serve(index, [this, index](VirtQueue& queue, Work& work, TurnBudget& budget)
                            REQUIRES(mutex()) { return process(index, queue, work, budget); });
  tell_state();
}

Progress Balloon::process(std::uint16_t index, VirtQueue& queue, Work& work, TurnBudget& budget) {
  Progress progress = Progress::done;
  switch (queue_of(index)) {
    case Queue::inflate:
      progress = inflate(work, budget);
      break;
    case Queue::deflate:
      progress = deflate(work, budget);
      break;
    case Queue::stats:
      accept_stats(queue, std::move(work.chain));
      return Progress::done;
    case Queue::hinting:
      progress = hint(work, budget);
      break;
    case Queue::reporting:
      progress = report(work, budget);
      break;
  }
  // 5.5.6.6: nothing was written; a used length other than 0 on the reporting queue would mean something one
  // day.
  if (progress == Progress::done) queue.put(std::move(work.chain), 0);
  return progress;
}

void Balloon::reset() {
  drop_queues();
  features_ = 0;
  // The next driver starts with an empty balloon; the target stays, so that it inflates again.
  space_.actual = 0;
  space_.poison_val = 0;
  tell_state();
}

void Balloon::reset_queue(std::uint16_t index) {
  wishes_->carry_out();  // what was asked for before was asked of the queue that goes now
  switch (queue_of(index)) {
    case Queue::stats:
      forget_stats("the guest's balloon driver took its statistics queue back");
      break;
    case Queue::deflate:
      deflating_.clear();
      deflate_waits_ = false;
      break;
    case Queue::hinting:
      if (rounds_.under_way()) end_hinting(fail("the guest's balloon driver took its hinting queue back"));
      break;
    case Queue::inflate:
      inflating_.clear();
      break;
    case Queue::reporting:  // what is under way is forgotten with the queue
      break;
  }
  queues_->remove(index);
  tell_state();
}

void Balloon::start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) {
  queues_->add(index, std::move(queue));
  tell_state();
}

void Balloon::forget_stats(const char* why) {
  if (held_stats_) VirtQueue::forget(std::move(*held_stats_));
  held_stats_.reset();
  stats_requests_.fail_all(why);
}

void Balloon::drop_queues() {
  forget_stats("the guest's balloon driver went away");
  inflating_.clear();
  deflating_.clear();
  deflate_waits_ = false;
  watch_.reset();
  rounds_.reset();
  if (const auto reply = std::exchange(on_dropped_, {})) reply(fail("the guest's balloon driver went away"));
  space_.free_page_hint_cmd_id = rounds_.command();
  held_back_.drop();  // the next driver starts with all pages
  restored_.reset();
  if (queues_) queues_->stop();
}

Bytes Balloon::claimed_size() const {
  const Bytes size = memory_.size();
  return above(size, space_.actual * balloon::kPageSize);  // the guest may claim any number
}

void Balloon::end_hold_back() {
  const auto left = kHoldBack - (clock_.now() - last_inflate_);
  hold_back_ends_ = left > left.zero();
  hold_back_timer_->set(hold_back_ends_ ? left : left.zero());
  if (hold_back_ends_) return;
  TurnBudget budget;
  while (held_back_.release_some()) {
    budget.look_at_clock();
    if (!budget.over()) continue;
    hold_back_ends_ = true;
    hold_back_timer_->set(kHoldBackPause);
    break;
  }
  tell_state();
}

BalloonState Balloon::current() const {
  const Bytes size = memory_.size();
  const bool ready = queue_at(Queue::inflate) != nullptr;
  return {
      // What is held back is not the host's yet.
      .actual = std::min(size, claimed_size() + Bytes{held_back_.held()}),
      .target = size - space_.num_pages * balloon::kPageSize,
      .driver_ready = ready,
      .has_stats = ready && negotiated(kFeatureStats) && queue_at(Queue::stats) != nullptr,
      .deflate_on_oom = ready && negotiated(kFeatureDeflateOnOom),
      .free_page_reporting = ready && negotiated(kFeatureReporting),
      .free_page_hinting = ready && negotiated(kFeatureHinting) && queue_at(Queue::hinting) != nullptr,
  };
}

void Balloon::pace(const BalloonState& now) const {
  // Without a driver nothing can move, and nothing stands still that should.
  pace_.at(clock_.now(), now.actual, now.driver_ready ? now.target : now.actual);
}

void Balloon::tell_state() {
  BalloonState now = current();
  pace(now);
  if (now == told_) return;
  told_ = now;
  shown_.change([&](Shown& shown) {
    if (shown.targets_posted > 0) now.target = shown.state.target;
    shown.state = now;
  });
  if (on_state_) on_state_(now);
}

BalloonState Balloon::state() const { return shown_.get().state; }

Result<void> Balloon::set_target(Bytes target) {
  if (target > memory_.size()) {
    return fail(fmt::format("target {} is above the guest's boot memory of {}", format_bytes(target),
                            format_bytes(memory_.size())));
  }
  const std::uint32_t pages = to_pages(memory_.size()) - to_pages(target);
  shown_.change([&](Shown& shown) {
    shown.state.target = memory_.size() - pages * balloon::kPageSize;
    ++shown.targets_posted;
  });
  wishes_->post([this, pages]() REQUIRES(mutex()) { apply_target(pages); });
  return {};
}

void Balloon::apply_target(std::uint32_t pages) {
  shown_.change([&](Shown& shown) {
    if (--shown.targets_posted == 0) shown.state.target = memory_.size() - pages * balloon::kPageSize;
  });
  if (std::exchange(space_.num_pages, pages) == pages) return;
  if (queues_ && current().driver_ready) host().interrupt_config();
  tell_state();
}

void Balloon::set_stats_interval(std::chrono::nanoseconds interval) {
  if (interval > interval.zero()) interval = std::max<std::chrono::nanoseconds>(interval, kStatsIntervalMin);
  stats_timer_->set(interval);
}

void Balloon::observe(std::function<void(const BalloonStats&)> on_stats,
                      std::function<void(const BalloonState&)> on_state) {
  const MutexLock lock(mutex());
  on_stats_ = std::move(on_stats);
  on_state_ = std::move(on_state);
}

BalloonCounters Balloon::counters() const {
  const MutexLock lock(mutex());
  return counters_now();
}

BalloonCounters Balloon::counters_now() const {
  pace(current());
  BalloonCounters counters = counters_;
  counters.rate = pace_.rate();
  counters.stalls = pace_.stalls();
  return counters;
}

void Balloon::request_stats(std::function<void(Result<BalloonStats>)> reply) {
  wishes_->post([this, reply = std::move(reply)]() REQUIRES(mutex()) { look_for_stats(reply); });
}

void Balloon::look_for_stats(std::function<void(Result<BalloonStats>)> reply) {
  if (!current().has_stats) return reply(fail("the guest has no balloon driver with statistics"));
  if (!stats_requests_.add(reply)) return reply(fail("too many wait for this guest's statistics already"));
  ask_for_stats();
}

void Balloon::drop_free_pages(std::function<void(Result<Bytes>)> reply) {
  wishes_->post([this, reply = std::move(reply)]() REQUIRES(mutex()) { begin_hinting(reply); });
}

void Balloon::begin_hinting(std::function<void(Result<Bytes>)> reply) {
  if (!config_.free_page_hinting) return reply(fail("free page hinting is off for this guest"));
  if (!current().free_page_hinting)
    return reply(fail("the guest has no balloon driver with free page hinting"));
  if (rounds_.under_way()) return reply(fail("the guest is asked for its free pages already"));
  // First the watch: what the guest writes after it has read the command is in use (5.5.6.5.2).
  auto watch = WriteWatch::start(memory_);
  if (!watch) return reply(fail("dropping the guest's free pages", watch.error()));
  watch_ = std::move(*watch);
  on_dropped_ = std::move(reply);
  dropped_ = Bytes{0};
  rounds_.start();
  space_.free_page_hint_cmd_id = rounds_.command();
  hinting_timer_->set(kHintingLimit);
  host().interrupt_config();
}

}  // namespace balloon::vmm

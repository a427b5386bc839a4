// What the balloon does with the chains of each of its queues.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/devices/balloon/balloon.h"
#include "vmm/devices/balloon/pfn_ranges.h"
#include "vmm/devices/balloon/stats.h"

namespace balloon::vmm {
namespace {

using Clock = std::chrono::steady_clock;

/// Whole pages only: the rest of a torn one is still in use.
GuestRange whole_pages(const ChainBuffer& buffer) {
  const GuestAddress start = (buffer.address + kPageSize - 1) / kPageSize * kPageSize;
  const GuestAddress end = (buffer.address + buffer.host.size()) / kPageSize * kPageSize;
  return {start, start < end ? end - start : 0};
}

}  // namespace

void Balloon::inflate(const Chain& chain) {
  for_ranges(chain, [this](GuestRange range) {
    restored_.inflated(range);
    held_back_.add(range);
  });
  // Such a driver takes pages back without a word. So nothing may be held: neither released late, nor counted
  // as a part of a pool's page that will be whole one day.
  if (!negotiated(kFeatureMustTellHost)) held_back_.whole_only() ? held_back_.drop() : held_back_.flush();
  if (held_back_.held() == 0 || held_back_.whole_only()) return;
  last_inflate_ = Clock::now();
  // It is not put off with each chain, which would be one more system call: it does so itself.
  if (!std::exchange(hold_back_ends_, true)) hold_back_timer_->set(kHoldBack);
}

void Balloon::deflate(VirtQueue& queue, Chain chain) {
  // Released pages need nothing: when the guest uses them again, they are allocated on demand. But from an
  // empty pool they would not be, and the guest would die; so it waits for its answer until there are some.
  counters_.pages_deflated += chain.readable_size() / sizeof(std::uint32_t);
  for_ranges(chain, [this](GuestRange range) {
    if (held_back_.held() > 0) held_back_.cancel(range);
    restored_.deflated(range);
  });
  if (!held_back_.whole_only() || take_back(chain)) return queue.put(std::move(chain), 0);
  ++counters_.deflates_delayed;
  waiting_deflates_.push_back(std::move(chain));
  pool_timer_->set(kPoolRetry);
}

bool Balloon::take_back(const Chain& chain) {
  bool all = true;
  for_ranges(chain, [&](GuestRange range) {
    if (!all) return;
    if (const auto done = memory_.take_back(range); !done) {
      all = false;
      if (const auto times = failures_.happened())
        log::warning("balloon: the guest waits for its memory: {} ({} times)", done.error().message, *times);
    }
  });
  return all;
}

void Balloon::retry_deflates() {
  VirtQueue* queue = queue_at(Queue::deflate);
  while (queue != nullptr && !waiting_deflates_.empty() && take_back(waiting_deflates_.front())) {
    queue->put(std::move(waiting_deflates_.front()), 0);
    waiting_deflates_.pop_front();
  }
  if (waiting_deflates_.empty()) pool_timer_->set({});
  queues_->notify(index_of(Queue::deflate));
}

void Balloon::for_ranges(const Chain& chain, const std::function<void(GuestRange)>& each) {
  const std::uint64_t sent = chain.readable_size() / sizeof(std::uint32_t);
  // A chain can hold gigabytes of PFNs, but no more of them than the guest has pages are not repeats.
  const std::uint64_t count = std::min<std::uint64_t>(sent, memory_.size() / kPageSize);
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
  const auto asked = stats_requests_.answered();
  held_stats_.emplace(std::move(chain));
  if (asked) sample(*held_stats_, *asked);
  if (stats_requests_.waited_for()) ask_for_stats();
}

void Balloon::sample(const Chain& chain, Clock::time_point asked) {
  std::array<std::byte, kStatsBufferMax> buffer;
  const std::size_t size = chain.read(0, buffer);
  ++counters_.stats_samples;
  const BalloonStats stats{.sampled_at = std::chrono::system_clock::now(),
                           .round_trip = Clock::now() - asked,
                           .actual = claimed_size(),
                           .values = parse_stats(std::span(buffer).first(size)),
                           .counters = counters_now()};
  if (on_stats_) on_stats_(stats);
  stats_requests_.reply(stats);
}

void Balloon::ask_for_stats() {
  VirtQueue* queue = queue_at(Queue::stats);
  if (queue == nullptr || !held_stats_) return;  // no driver yet, or still waiting for its answer
  stats_requests_.asked(Clock::now());
  queue->put(std::move(*held_stats_), 0);
  held_stats_.reset();
  queues_->notify(index_of(Queue::stats));
}

void Balloon::report(const Chain& chain) {
  if (!negotiated(kFeatureReporting)) return;
  for (const ChainBuffer& buffer : chain.writable()) {
    if (space_.poison_val != 0) {
      // 5.5.6.6.2 wants the poison back in these pages, and a released page reads as zeros. So it is kept, as
      // in QEMU.
      ++counters_.reports_kept;
      continue;
    }
    if (const GuestRange range = whole_pages(buffer); range.size > 0) counters_.reported += release(range);
  }
}

void Balloon::hint(const Chain& chain) {
  std::uint32_t id = 0;
  const bool over =
      chain.read(0, std::as_writable_bytes(std::span(&id, 1))) == sizeof id && rounds_.received(id);
  if (rounds_.takes_hints() && watch_) {
    for (const ChainBuffer& buffer : chain.writable()) {
      if (space_.poison_val != 0) {  // as in report()
        ++counters_.reports_kept;
        continue;
      }
      const GuestRange range = whole_pages(buffer);
      const auto start = Clock::now();
      const auto done = watch_->release_unwritten(range);
      counters_.release_time += Clock::now() - start;
      const Bytes dropped = released(done, range);
      counters_.hinted += dropped;
      dropped_ += dropped;
    }
  }
  if (over) end_hinting(dropped_);
}

void Balloon::end_hinting(Result<Bytes> outcome) {
  watch_.reset();
  hinting_timer_->set({});
  rounds_.finish();  // the guest has its pages back
  space_.free_page_hint_cmd_id = rounds_.command();
  host().interrupt_config();
  if (const auto reply = std::exchange(on_dropped_, {})) reply(std::move(outcome));
}

Bytes Balloon::release(GuestRange range) {
  const auto start = Clock::now();
  const auto done = memory_.release(range);
  counters_.release_time += Clock::now() - start;
  return released(done, range);
}

Bytes Balloon::released(const Result<GuestMemory::Released>& done, GuestRange range) {
  ++counters_.releases;
  if (!done) {
    if (const auto times = failures_.happened())
      log::error("balloon: {} ({} times)", done.error().message, *times);
    return 0;
  }
  if (done->ram < range.size) refuse((range.size - done->ram) / kPageSize, "outside its RAM");
  counters_.freed += done->freed;
  return done->released;
}

void Balloon::refuse(std::uint64_t pages, const char* what) {
  counters_.pages_refused += pages;
  if (refusals_.happened()) {
    log::warning("balloon: the guest gave back {} pages {}: ignored ({} in all)", pages, what,
                 counters_.pages_refused);
  }
}

}  // namespace balloon::vmm

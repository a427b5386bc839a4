// SPDX-License-Identifier: Apache-2.0
// What the balloon does with the chains of each of its queues.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/devices/balloon/balloon.h"
#include "vmm/devices/balloon/stats.h"

namespace balloon::vmm {
namespace {

/// Whole pages only: the rest of a torn one is still in use.
GuestRange whole_pages(GuestAddress address, std::uint64_t size) {
  const GuestAddress start = (address + kPageSize - 1) / kPageSize * kPageSize;
  const GuestAddress end = (address + size) / kPageSize * kPageSize;
  return {start, start < end ? end - start : 0};
}

}  // namespace

Progress Balloon::inflate(Work& work, TurnBudget& budget) {
  const std::uint64_t count = pages_in(work);
  for (bool first = true; const GuestRange* range = inflating_.next(work.chain, count, work.done);
       first = false) {
    if (!first && budget.over()) return Progress::more;
    restored_.inflated(*range);
    give(*range);
    inflating_.pop();
    budget.look_at_clock();
  }
  if (!negotiated(kFeatureMustTellHost)) {
    // Such a driver takes pages back without a word. So nothing may be held: neither released late, nor
    // counted as a part of a pool's page that will be whole one day.
    if (held_back_.whole_only()) held_back_.drop();
    while (held_back_.held() > 0) {
      if (budget.over()) return Progress::more;
      held_back_.release_some();
      budget.look_at_clock();
    }
  }
  if (held_back_.held() == 0 || held_back_.whole_only()) return Progress::done;
  last_inflate_ = clock_.now();
  // It is not put off with each chain, which would be one more system call: it does so itself.
  if (!std::exchange(hold_back_ends_, true)) hold_back_timer_->set(kHoldBack);
  return Progress::done;
}

/// What is not RAM is not remembered: else a guest could have us keep any number of pages that it has not.
void Balloon::give(GuestRange range) {
  std::uint64_t ram = 0;
  for (const GuestMemory::Region& region : memory_.regions()) {
    const GuestAddress start = std::max(range.start, region.start);
    const GuestAddress end = std::min(range.start + range.size, region.start + region.host.size());
    if (start >= end) continue;
    held_back_.add({start, end - start});
    ram += end - start;
  }
  if (ram < range.size) refuse((range.size - ram) / kPageSize, "outside its RAM");
}

Progress Balloon::deflate(Work& work, TurnBudget& budget) {
  // Released pages need nothing: when the guest uses them again, they are allocated on demand. But from an
  // empty pool they would not be, and the guest would die; so it waits for its answer until there are some.
  const std::uint64_t count = pages_in(work);
  for (bool first = true; const GuestRange* range = deflating_.next(work.chain, count, work.done);
       first = false) {
    if (!first && budget.over()) return Progress::more;
    if (held_back_.held() > 0) held_back_.cancel(*range);
    if (held_back_.whole_only() && !take_back(*range)) {
      if (!std::exchange(deflate_waits_, true)) ++counters_.deflates_delayed;
      pool_timer_->set(kPoolRetry);
      return Progress::waits;
    }
    restored_.deflated(*range);
    deflating_.pop();
    budget.look_at_clock();
  }
  deflate_waits_ = false;
  counters_.pages_deflated += work.chain.readable_size() / sizeof(std::uint32_t);
  return Progress::done;
}

bool Balloon::take_back(GuestRange range) {
  const auto done = memory_.take_back(range);
  if (done) return true;
  if (const auto times = failures_.happened())
    log::warning("balloon: the guest waits for its memory: {} ({} times)", done.error().message, *times);
  return false;
}

std::uint64_t Balloon::pages_in(const Work& work) {
  const std::uint64_t sent = work.chain.readable_size() / sizeof(std::uint32_t);
  // A chain can hold gigabytes of PFNs, but no more of them than the guest has pages are not repeats.
  const std::uint64_t count = std::min<std::uint64_t>(sent, memory_.size() / balloon::kPageSize);
  if (sent > count && work.done == 0) refuse(sent - count, "in one chain, more than the guest has");
  return count;
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

void Balloon::sample(const Chain& chain, Clock::Time asked) {
  std::array<std::byte, kStatsBufferMax> buffer;
  const std::size_t size = chain.read(0, buffer);
  ++counters_.stats_samples;
  const BalloonStats stats{.sampled_at = std::chrono::system_clock::now(),
                           .round_trip = clock_.now() - asked,
                           .actual = claimed_size(),
                           .values = parse_stats(std::span(buffer).first(size)),
                           .counters = counters_now()};
  if (on_stats_) on_stats_(stats);
  stats_requests_.reply(stats);
}

void Balloon::ask_for_stats() {
  VirtQueue* queue = queue_at(Queue::stats);
  if (queue == nullptr || !held_stats_) return;  // no driver yet, or still waiting for its answer
  stats_requests_.asked(clock_.now());
  queue->put(std::move(*held_stats_), 0);
  held_stats_.reset();
  queues_->notify(index_of(Queue::stats));
}

Progress Balloon::for_pieces(Work& work, TurnBudget& budget, const std::function<void(GuestRange)>& each) {
  std::uint64_t begin = 0;  // of the buffer, among the bytes of all
  for (const ChainBuffer& buffer : work.chain.writable()) {
    const std::uint64_t end = begin + buffer.host.size();
    while (work.done < end) {
      if (budget.over()) return Progress::more;
      const GuestAddress from = buffer.address + (work.done - begin);
      // To a huge page's end, so that none is taken apart.
      const GuestAddress piece_end = (from + kReleasePiece) / kHugePageSize * kHugePageSize;
      const std::uint64_t size = std::min(piece_end - from, end - work.done);
      if (const GuestRange range = whole_pages(from, size); range.size > 0) each(range);
      work.done += size;
      budget.look_at_clock();
    }
    begin = end;
  }
  return Progress::done;
}

Progress Balloon::report(Work& work, TurnBudget& budget) {
  if (!negotiated(kFeatureReporting)) return Progress::done;
  if (space_.poison_val != 0) {
    // 5.5.6.6.2 wants the poison back in these pages, and a released page reads as zeros. So it is kept, as
    // in QEMU.
    counters_.reports_kept += work.chain.writable().size();
    return Progress::done;
  }
  return for_pieces(work, budget,
                    [this](GuestRange range) REQUIRES(mutex()) { counters_.reported += release(range); });
}

Progress Balloon::hint(Work& work, TurnBudget& budget) {
  if (work.done == 0) {
    std::uint32_t id = 0;
    round_ends_ =
        work.chain.read(0, std::as_writable_bytes(std::span(&id, 1))) == sizeof id && rounds_.received(id);
  }
  if (rounds_.takes_hints() && watch_) {
    if (space_.poison_val != 0) {  // as in report()
      counters_.reports_kept += work.chain.writable().size();
    } else {
      const Progress progress = for_pieces(work, budget, [this](GuestRange range) REQUIRES(mutex()) {
        const auto start = std::chrono::steady_clock::now();  // what it costs, whatever time it is
        const auto done = watch_->release_unwritten(range);
        counters_.release_time += std::chrono::steady_clock::now() - start;
        const Bytes dropped = released(done, range);
        counters_.hinted += dropped;
        dropped_ += dropped;
      });
      if (progress != Progress::done) return progress;
    }
  }
  if (std::exchange(round_ends_, false)) end_hinting(dropped_);
  return Progress::done;
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
  const auto start = std::chrono::steady_clock::now();  // what it costs, whatever time it is
  const auto done = memory_.release(range);
  counters_.release_time += std::chrono::steady_clock::now() - start;
  return released(done, range);
}

Bytes Balloon::released(const Result<GuestMemory::Released>& done, GuestRange range) {
  ++counters_.releases;
  if (!done) {
    if (const auto times = failures_.happened())
      log::error("balloon: {} ({} times)", done.error().message, *times);
    return Bytes{0};
  }
  if (const Bytes size{range.size}; done->ram < size)
    refuse((size - done->ram) / balloon::kPageSize, "outside its RAM");
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

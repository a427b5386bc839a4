// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

/// Steps of work() between two looks at the clock: each takes some microseconds.
constexpr unsigned kStepsPerLook = 8;
/// Clusters of a discard that are looked at in one go: some milliseconds on the worker.
constexpr std::uint64_t kClustersAtOnce = 4096;
/// Transfers that the worker does in one go: with 4 KiB each, a millisecond or two.
constexpr std::size_t kStepsAtOnce = 64;

Result<std::unique_ptr<IoEngine>> make_engine(const BlockConfig& config, const IoEngine::Done& done) {
  if (config.engine == BlockEngine::threads) return make_thread_engine(done);
  auto engine = make_uring_engine(done);
  if (engine || config.engine == BlockEngine::io_uring) return engine;
  log::info("disk image {}: threads do its I/O: {}", config.path, engine.error().message);
  return make_thread_engine(done);
}

const char* name(FileIo::Kind kind) {
  switch (kind) {
    case FileIo::Kind::read:
      return "reading";
    case FileIo::Kind::write:
      return "writing";
    case FileIo::Kind::flush:
      return "flushing";
    case FileIo::Kind::punch_hole:
      return "punching a hole";
    case FileIo::Kind::zero_range:
      return "zeroing";
  }
  return "";
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::open(const BlockConfig& config, Done done) {
  auto image = open_image(config);
  if (!image) return std::unexpected(std::move(image.error()));
  std::unique_ptr<Disk> disk(new Disk(std::move(*image), std::move(done)));
  auto engine =
      make_engine(config, [self = disk.get()](FileIo& io) { self->piece_done(static_cast<Piece&>(io)); });
  if (!engine) return fail(fmt::format("disk image {}", config.path), engine.error());
  disk->engine_ = std::move(*engine);
  auto worker = Worker::create();
  if (!worker) return fail(fmt::format("disk image {}", config.path), worker.error());
  disk->worker_ = std::move(*worker);
  return disk;
}

Disk::~Disk() {
  if (!worker_) return;
  done_ = {};
  cancel([](const DiskRequest&) { return true; });
}

// --- From outside ---

void Disk::start(DiskRequest& request) {
  request.pending = 1;
  request.size = total(request.buffers);
  request.at = 0;
  request.range = 0;
  request.transferred = 0;
  request.result = {};
  request.cancelled = false;
  todo_.push_back(&request);
}

bool Disk::ready() const {
  if (job_) return false;
  if (!undurable_.empty()) return true;
  const bool idle = engine_->in_flight() == 0;
  if (!unzeroed_.empty() || (image_->wants_idle() && !flush_failed_)) return idle;
  if (todo_.empty()) return false;
  if (head_waits_for_idle_) return idle;
  return engine_->in_flight() < kMostPieces && in_flight_ < kMostInFlight;
}

void Disk::work(TurnBudget& budget) {
  while (ready() && !budget.over()) {
    if (++steps_ % kStepsPerLook == 0) budget.look_at_clock();
    advance(budget);
  }
}

void Disk::collect() {
  engine_->collect();
  if (job_ && worker_->has_ended()) end_job();
}

void Disk::cancel(const std::function<bool(const DiskRequest&)>& meant) {
  wait_for_job();
  engine_->drain();
  std::vector<DiskRequest*> cancelled;
  const auto drop = [&](DiskRequest* request) {
    if (!meant(*request)) return false;
    request->cancelled = true;
    if (--request->pending == 0) cancelled.push_back(request);
    return true;
  };
  if (!todo_.empty() && meant(*todo_.front())) {
    mapped_.reset();
    head_waits_for_idle_ = false;
  }
  std::erase_if(unzeroed_, [&](const Unzeroed& part) { return drop(part.request); });
  std::erase_if(todo_, drop);
  std::erase_if(undurable_, [&](DiskRequest* request) {
    request->pending = 1;
    return drop(request);
  });
  for (DiskRequest* request : cancelled) answer(*request);
}

void Disk::drain() {
  while (true) {
    TurnBudget budget;
    work(budget);
    if (ready()) continue;
    engine_->submit();
    if (job_) {
      wait_for_job();
    } else if (engine_->in_flight() > 0) {
      engine_->drain();
    } else {
      return;
    }
  }
}

Result<void> Disk::settle() {
  drain();
  return image_->file().read_only() ? Result<void>{} : flush_image(true);
}

// --- What waits for the host's disk ---

void Disk::in_background(std::function<Result<void>()> work, std::function<void(Result<void>)> then) {
  job_.emplace(Job{.then = std::move(then)});
  worker_->start([job = &*job_, work = std::move(work)] { job->result = work(); });
}

void Disk::end_job() {
  Job job = std::move(*job_);
  job_.reset();
  job.then(std::move(job.result));
}

void Disk::wait_for_job() {
  if (!job_) return;
  worker_->wait();
  if (worker_->has_ended()) end_job();
}

// --- Steps ---

void Disk::advance(TurnBudget& budget) {
  if (!undurable_.empty()) return make_durable();
  if (!unzeroed_.empty()) return write_zeros();
  if (image_->wants_idle() && !flush_failed_) return flush_freed();
  DiskRequest& request = *todo_.front();
  switch (request.kind) {
    case DiskRequest::Kind::read:
    case DiskRequest::Kind::write:
      return transfer(request, budget);
    case DiskRequest::Kind::discard:
    case DiskRequest::Kind::zero:
      return clear(request);
    case DiskRequest::Kind::flush:
      return flush(request);
  }
}

void Disk::transfer(DiskRequest& request, TurnBudget& budget) {
  if (request.at == request.size || !request.result) return all_begun(request);
  const bool write = request.kind == DiskRequest::Kind::write;
  const auto access = write ? Image::Access::write : Image::Access::read;
  const std::uint64_t offset = request.offset + request.at;
  const std::uint64_t size = std::min(request.size - request.at, kMaxPiece);
  if (!mapped_) {
    if (!image_->maps_at_once(offset, size)) {
      return in_background(
          [this, offset, size, access]() -> Result<void> {
            mapped_ = image_->map(offset, size, access);
            return {};
          },
          [](const Result<void>&) {});
    }
    mapped_ = image_->map(offset, size, access);
  }
  if (!*mapped_) return give_up(request, std::move(mapped_->error()));
  const Extent extent = **mapped_;
  std::vector<iovec> part = slice(request.buffers, request.at, extent.size);
  if (extent.kind == Extent::Kind::zeros && !write) {
    fill_zeros(part);
    request.transferred += extent.size;
  } else if (extent.kind == Extent::Kind::file && extent.file->is_aligned(extent.offset, extent.size) &&
             extent.file->is_aligned(part)) {
    begin_piece(request, *extent.file,
                {.kind = write ? FileIo::Kind::write : FileIo::Kind::read,
                 .offset = extent.offset,
                 .buffers = part,
                 .durable = request.durable},
                extent.padded);
  } else {
    // A write that is not aligned reads and writes back whole blocks: no other may change them meanwhile.
    head_waits_for_idle_ =
        write && !image_->file().is_aligned(offset, extent.size) && engine_->in_flight() > 0;
    if (head_waits_for_idle_) return;
    mapped_.reset();
    return transfer_in_background(
        {.request = &request, .offset = offset, .buffers = std::move(part), .size = extent.size});
  }
  mapped_.reset();
  request.at += extent.size;
  budget.spend(Bytes{extent.size});
}

void Disk::transfer_in_background(Step first) {
  const auto steps = std::make_shared<std::vector<Step>>();
  steps->push_back(std::move(first));
  gather(*steps);
  in_background(
      [this, steps]() -> Result<void> {
        for (Step& step : *steps) step.done = transfer_here(*step.request, step.offset, step.buffers);
        return {};
      },
      [this, steps](const Result<void>&) {
        for (Step& step : *steps) end(step);
      });
}

/// Small writes to new clusters come many at once. Each by itself would wait for the worker to wake, and for
/// the loop to hear of it; so one job does what lies behind the head and is like it.
void Disk::gather(std::vector<Step>& steps) {
  const DiskRequest& head = *steps.front().request;
  if (head.kind != DiskRequest::Kind::write || head.at + steps.front().size < head.size ||
      !image_->file().is_aligned(head.offset, head.size))
    return;
  std::uint64_t bytes = steps.front().size;
  for (auto next = todo_.begin() + 1; next != todo_.end() && steps.size() < kStepsAtOnce; ++next) {
    DiskRequest& request = **next;
    bytes += request.size;
    if (request.kind != DiskRequest::Kind::write || request.size == 0 || bytes > kMaxPiece ||
        !image_->file().is_aligned(request.offset, request.size) ||
        !image_->maps_at_once(request.offset, request.size))
      return;
    const auto extent = image_->map(request.offset, request.size, Image::Access::write);
    if (!extent || extent->kind != Extent::Kind::slow || extent->size < request.size) return;
    steps.push_back(
        {.request = &request, .offset = request.offset, .buffers = request.buffers, .size = request.size});
  }
}

/// Of the head.
void Disk::end(Step& step) {
  DiskRequest& request = *step.request;
  if (!step.done) return give_up(request, std::move(step.done.error()));
  request.at += step.size;
  request.transferred += step.size;
  if (request.at == request.size) all_begun(request);
}

Result<void> Disk::transfer_here(const DiskRequest& request, std::uint64_t offset,
                                 std::span<const iovec> buffers) {
  const bool write = request.kind == DiskRequest::Kind::write;
  // The worker's, kept: a new one each time costs a fault for each of its pages.
  thread_local AlignedBuffer flat;
  if (flat.bytes().size() < total(buffers)) flat = AlignedBuffer(total(buffers));
  const std::span<std::byte> bytes = flat.bytes().first(total(buffers));
  if (!write) BALLOON_TRY(image_->read(offset, bytes));
  for_bytes(buffers, [&](std::span<std::byte> part, std::size_t at) {
    std::byte* const there = bytes.data() + at;
    std::memcpy(write ? there : part.data(), write ? part.data() : there, part.size());
  });
  if (!write) return {};
  BALLOON_TRY(image_->write(offset, bytes));
  return request.durable && !image_->has_changes() ? flush_image(false) : Result<void>{};
}

void Disk::clear(DiskRequest& request) {
  if (request.range == request.ranges.size() || !request.result) return all_begun(request);
  const DiskRequest::Range& range = request.ranges[request.range];
  if (request.at == range.size) {
    ++request.range;
    request.at = 0;
    return;
  }
  const bool discard = request.kind == DiskRequest::Kind::discard;
  const std::uint64_t offset = range.offset + request.at;
  const std::uint64_t left = range.size - request.at;
  auto extent = image_->map(offset, left, discard ? Image::Access::discard : Image::Access::zero);
  if (!extent) return give_up(request, std::move(extent.error()));
  if (extent->kind == Extent::Kind::file) {
    begin_piece(request, *extent->file,
                {.kind = discard || request.may_unmap ? FileIo::Kind::punch_hole : FileIo::Kind::zero_range,
                 .offset = extent->offset,
                 .size = extent->size});
    request.at += extent->size;
    return;
  }
  // Its edges may have to be written, and need not be aligned.
  head_waits_for_idle_ = !discard && engine_->in_flight() > 0;
  if (head_waits_for_idle_) return;
  const std::uint64_t cluster = image_->discard_granularity();
  const std::uint64_t step = discard ? kClustersAtOnce * cluster : std::max(kMaxPiece, cluster);
  const std::uint64_t size = std::min((offset + step) / cluster * cluster - offset, left);
  in_background(
      [this, discard, offset, size, may_unmap = request.may_unmap] {
        return discard ? image_->discard(offset, size) : image_->zero(offset, size, may_unmap);
      },
      [this, &request, size](Result<void> done) {
        if (!done) return give_up(request, std::move(done.error()));
        request.at += size;
      });
}

void Disk::flush(DiskRequest& request) {
  if (!image_->has_changes() && !flush_failed_) {
    begin_piece(request, image_->file(), {.kind = FileIo::Kind::flush});
    return all_begun(request);
  }
  in_background([this, idle = engine_->in_flight() == 0] { return flush_image(idle); },
                [this, &request](Result<void> done) {
                  request.result = std::move(done);
                  all_begun(request);
                });
}

/// One flush for all that wait for one.
void Disk::make_durable() {
  // Data that went in place is durable already; tables and holes are not.
  const bool flush = image_->has_changes() || std::ranges::any_of(undurable_, [](const DiskRequest* each) {
                       return each->kind != DiskRequest::Kind::write;
                     });
  const auto end = [this, requests = std::exchange(undurable_, {})](const Result<void>& done) {
    for (DiskRequest* request : requests) {
      if (!done) request->result = done;
      answer(*request);
    }
  };
  if (!flush) return end({});
  in_background([this] { return flush_image(false); }, end);
}

void Disk::write_zeros() {
  Unzeroed& part = unzeroed_.front();
  const DiskRequest::Range now{part.left.offset, std::min(part.left.size, kMaxPiece)};
  in_background([this, now] { return image_->zero(now.offset, now.size, false); },
                [this, now](Result<void> done) {
                  Unzeroed& first = unzeroed_.front();
                  DiskRequest& request = *first.request;
                  first.left = {first.left.offset + now.size, first.left.size - now.size};
                  if (!done) request.result = std::move(done);
                  if (request.result && first.left.size > 0) return;
                  unzeroed_.pop_front();
                  part_done(request);
                });
}

void Disk::flush_freed() {
  in_background([this] { return flush_image(true); },
                [this](const Result<void>& done) {
                  if (done) return;
                  log::error("disk image {}: {}", image_->file().path(), done.error().message);
                });
}

void Disk::give_up(DiskRequest& request, Error why) {
  if (request.result) request.result = std::unexpected(std::move(why));
  all_begun(request);
}

void Disk::all_begun(DiskRequest& request) {
  todo_.pop_front();
  mapped_.reset();
  head_waits_for_idle_ = false;
  part_done(request);
}

// --- Pieces ---

void Disk::begin_piece(DiskRequest& request, const DiskFile& file, const FileIo& io, bool padded) {
  if (spare_.empty()) {
    pieces_.push_back(std::make_unique<Piece>());
    spare_.push_back(pieces_.back().get());
  }
  Piece& piece = *spare_.back();
  spare_.pop_back();
  static_cast<FileIo&>(piece) = io;
  piece.fd = file.fd();
  piece.request = &request;
  piece.file = &file;
  piece.parts.assign(io.buffers.begin(), io.buffers.end());
  piece.buffers = piece.parts;
  piece.padded = padded;
  piece.bytes = total(piece.buffers);
  in_flight_ += piece.bytes;
  ++request.pending;
  engine_->start(piece);
}

void Disk::piece_done(Piece& piece) {
  if (go_on(piece)) return;
  in_flight_ -= piece.bytes;
  spare_.push_back(&piece);
  DiskRequest& request = *piece.request;
  if (piece.kind == FileIo::Kind::punch_hole || piece.kind == FileIo::Kind::zero_range) {
    // Not every filesystem and device can, and not every one at any place.
    const bool cannot = piece.result == -EOPNOTSUPP || piece.result == -EINVAL || piece.result == -ENODEV;
    if (cannot && request.kind == DiskRequest::Kind::zero) {
      unzeroed_.push_back({&request, {piece.offset, piece.size}});
      return;
    }
    if (cannot) piece.result = 0;
  }
  auto result = outcome(piece);
  if (!result && request.result) request.result = std::move(result);
  part_done(request);
}

void Disk::part_done(DiskRequest& request) {
  if (--request.pending == 0) finish(request);
}

/// A transfer may be cut short, by a signal or at the number of buffers that the kernel takes: whether the
/// rest was started.
bool Disk::go_on(Piece& piece) {
  if (piece.kind != FileIo::Kind::read && piece.kind != FileIo::Kind::write) return false;
  const bool again = piece.result == -EINTR || piece.result == -EAGAIN;
  if (piece.result <= 0 && !again) return false;
  const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(piece.result, 0));
  piece.request->transferred += size;
  piece.offset += size;
  piece.buffers = drop_front(piece.buffers, size);
  if (piece.buffers.empty()) return false;
  if (!piece.file->is_aligned(piece.offset, 0)) {
    piece.result = 0;  // a direct read that ends off a block's border has met the end of the file
    return false;
  }
  engine_->start(piece);
  engine_->submit();
  return true;
}

Result<void> Disk::outcome(const Piece& piece) {
  if (piece.kind == FileIo::Kind::read || piece.kind == FileIo::Kind::write) {
    if (piece.buffers.empty()) return {};
    if (piece.result == 0 && piece.kind == FileIo::Kind::read && piece.padded) {
      fill_zeros(piece.buffers);
      piece.request->transferred += total(piece.buffers);
      return {};
    }
    if (piece.result == 0) {
      return fail(fmt::format("{} at byte {}: the image has shrunk", name(piece.kind), piece.offset));
    }
  }
  if (piece.result >= 0) return {};
  const int error = static_cast<int>(-piece.result);
  if (piece.kind == FileIo::Kind::flush) flush_failed_ = true;
  return fail_errno(fmt::format("{} at byte {}", name(piece.kind), piece.offset), error);
}

void Disk::finish(DiskRequest& request) {
  const bool changes = request.kind != DiskRequest::Kind::read && request.kind != DiskRequest::Kind::flush;
  if (!changes || !request.durable || !request.result || request.cancelled) return answer(request);
  undurable_.push_back(&request);
}

void Disk::answer(DiskRequest& request) {
  if (done_) done_(request);
}

Result<void> Disk::flush_image(bool idle) {
  if (flush_failed_)
    return std::unexpected(Error{"flushing: it failed before, and what was lost then cannot be known", EIO});
  auto done = image_->flush(idle);
  // A table that could not be written, for want of room, is still in memory.
  flush_failed_ = image_->file().sync_failed();
  return done;
}

}  // namespace balloon::vmm

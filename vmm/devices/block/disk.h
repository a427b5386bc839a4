// SPDX-License-Identifier: Apache-2.0
// Requests on an image. They are worked off piece by piece, in turns that are bounded in time and bytes: what
// lies in a file goes to the I/O engine, many at once; what waits for the host's disk goes to a thread, and
// the requests behind it wait. Knows nothing of virtio.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/devices/block/image.h"
#include "vmm/devices/block/io_engine.h"
#include "vmm/devices/block/worker.h"
#include "vmm/virtio/turn_budget.h"

namespace balloon::vmm {

/// Owned by who starts it, who leaves it alone until it is done.
struct DiskRequest {
  enum class Kind { read, write, flush, discard, zero };
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  Kind kind = Kind::flush;
  std::uint64_t offset = 0;      ///< read, write; all within the image
  std::vector<iovec> buffers{};  ///< read, write
  std::vector<Range> ranges{};   ///< discard, zero; all within the image
  bool may_unmap = false;        ///< zero: the range need not keep its place
  bool durable = false;          ///< write, discard, zero: on the medium when it is done

  Result<void> result{};
  std::uint64_t transferred = 0;  ///< read, write: of it, also when it failed
  bool cancelled = false;

  // Disk's own: its place in it.
  int pending = 0;         ///< pieces that are under way, and one more until all are begun
  std::uint64_t size = 0;  ///< read, write
  std::uint64_t at = 0;    ///< of the bytes, or of the range
  std::size_t range = 0;   ///< discard, zero
};

class Disk {
 public:
  using Done = std::function<void(DiskRequest&)>;
  /// The largest zero request of one range, so that it does not keep others waiting where it has to be
  /// written.
  static constexpr std::uint64_t kMaxZero = (32 * kMiB).count();
  static constexpr std::uint64_t kMaxDiscard = kGiB.count();
  /// The largest piece: what the page cache has is copied in some 0.2 ms, and a medium sees no difference to
  /// larger ones.
  static constexpr std::uint64_t kMaxPiece = kMiB.count();
  /// Under way at once, in pieces of no more than kMaxPiece: as many as the kernel is given, and what the
  /// fastest media have done in 10 ms. An end waits for no more than these.
  static constexpr std::size_t kMostPieces = IoEngine::kDepth;
  static constexpr std::uint64_t kMostInFlight = (32 * kMiB).count();

  /// Opens the image and makes the engine. `done` is called from work(), collect(), cancel() and drain().
  static Result<std::unique_ptr<Disk>> open(const BlockConfig& config, Done done);
  ~Disk();  ///< cancels everything, without calling `done`
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  Image& image() { return *image_; }
  const Image& image() const { return *image_; }
  std::string_view engine() const { return engine_->name(); }
  std::uint32_t physical_block() const { return image_->file().physical_block(); }

  // From one thread at a time.

  /// Requests are told of to `done` from now on; none is under way. Empty: to nobody.
  void answer_to(Done done) { done_ = std::move(done); }
  /// Takes a request, for work() to do.
  void start(DiskRequest& request);
  /// Does what can be done without waiting, as far as `budget` goes.
  void work(TurnBudget& budget);
  /// Whether work() has something to do. If not, collect() may have, once one of fds() is readable.
  bool ready() const;
  void submit() { engine_->submit(); }
  std::array<int, 2> fds() const { return {engine_->fd(), worker_->fd()}; }
  void collect();
  /// Waits for what is under way, and forgets the rest of the requests that are `meant`.
  void cancel(const std::function<bool(const DiskRequest&)>& meant);
  /// Waits until everything is done.
  void drain();
  /// Drains, and leaves the image complete on the medium, for whoever opens it next.
  Result<void> settle();

 private:
  /// A part of a request that is one operation of the engine.
  struct Piece : FileIo {
    DiskRequest* request = nullptr;
    const DiskFile* file = nullptr;
    std::vector<iovec> parts;
    bool padded = false;
    std::uint64_t bytes = 0;  ///< of kMostInFlight
  };
  /// What the worker does, and what follows from it.
  struct Job {
    std::function<void(Result<void>)> then;
    Result<void> result{};
  };
  /// A part of a transfer that the image has to do itself.
  struct Step {
    DiskRequest* request;
    std::uint64_t offset;
    std::vector<iovec> buffers;
    std::uint64_t size;
    Result<void> done{};
  };
  /// What neither file nor filesystem could make zeros of by itself.
  struct Unzeroed {
    DiskRequest* request;
    DiskRequest::Range left;
  };

  Disk(std::unique_ptr<Image> image, Done done) : image_(std::move(image)), done_(std::move(done)) {}
  // Steps of a request that is at the head; each of them short.
  void advance(TurnBudget& budget);
  void transfer(DiskRequest& request, TurnBudget& budget);
  void transfer_in_background(Step first);
  void gather(std::vector<Step>& steps);
  void end(Step& step);
  void clear(DiskRequest& request);
  void flush(DiskRequest& request);
  void make_durable();
  void write_zeros();
  void flush_freed();
  /// Nothing of the head is left to begin; what is under way goes on.
  void all_begun(DiskRequest& request);
  void give_up(DiskRequest& request, Error why);
  void begin_piece(DiskRequest& request, const DiskFile& file, const FileIo& io, bool padded = false);
  void piece_done(Piece& piece);
  void part_done(DiskRequest& request);
  bool go_on(Piece& piece);
  Result<void> outcome(const Piece& piece);
  void finish(DiskRequest& request);
  void answer(DiskRequest& request);
  // The image is the worker's until `then` is called, from collect(), cancel() or drain().
  void in_background(std::function<Result<void>()> work, std::function<void(Result<void>)> then);
  void end_job();
  void wait_for_job();
  // On the worker.
  Result<void> transfer_here(const DiskRequest& request, std::uint64_t offset,
                             std::span<const iovec> buffers);
  Result<void> flush_image(bool idle);

  std::unique_ptr<Image> image_;
  Done done_;
  std::unique_ptr<IoEngine> engine_;
  std::unique_ptr<Worker> worker_;
  std::optional<Job> job_;  ///< under way
  std::deque<DiskRequest*> todo_;
  std::optional<Result<Extent>> mapped_;  ///< where the next bytes of the head lie, if that is known
  bool head_waits_for_idle_ = false;      ///< until nothing is in flight
  std::deque<Unzeroed> unzeroed_;
  std::vector<DiskRequest*> undurable_;         ///< done, but for a flush
  std::vector<std::unique_ptr<Piece>> pieces_;  ///< all there are
  std::vector<Piece*> spare_;
  std::uint64_t in_flight_ = 0;
  unsigned steps_ = 0;
  /// What could not be flushed may be gone from the host's cache: no later flush may claim that it is safe.
  std::atomic<bool> flush_failed_ = false;
};

}  // namespace balloon::vmm

// Requests on an image: what lies in a file goes to the I/O engine, many at once; the rest is done on the
// spot. Knows nothing of virtio.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/devices/block/image.h"
#include "vmm/devices/block/io_engine.h"

namespace balloon::vmm {

/// Owned by who starts it, who leaves it alone until it is done.
struct DiskRequest {
  enum class Kind { read, write, flush, discard, zero };
  struct Range {
    std::uint64_t offset = 0;
    Bytes size = 0;
  };
  Kind kind = Kind::flush;
  std::uint64_t offset = 0;      ///< read, write; all within the image
  std::vector<iovec> buffers{};  ///< read, write
  std::vector<Range> ranges{};   ///< discard, zero; all within the image
  bool may_unmap = false;        ///< zero: the range need not keep its place
  bool durable = false;          ///< write, discard, zero: on the medium when it is done

  Result<void> result{};
  Bytes transferred = 0;  ///< read, write: of it, also when it failed

  int pending = 0;  ///< Disk's own
};

class Disk {
 public:
  using Done = std::function<void(DiskRequest&)>;
  /// The largest zero request of one range, so that it does not keep others waiting where it has to be
  /// written.
  static constexpr Bytes kMaxZero = 32 * kMiB;
  static constexpr Bytes kMaxDiscard = kGiB;

  /// Opens the image and makes the engine. `done` is called from start(), collect() and drain().
  static Result<std::unique_ptr<Disk>> open(const BlockConfig& config, Done done);
  ~Disk();  ///< waits for what is in flight, without calling `done`
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  Image& image() { return *image_; }
  const Image& image() const { return *image_; }
  std::string_view engine() const { return engine_->name(); }
  std::uint32_t physical_block() const { return image_->file().physical_block(); }

  // From one thread at a time.

  /// Requests are told of to `done` from now on; none is under way. Empty: to nobody.
  void answer_to(Done done) { done_ = std::move(done); }
  void start(DiskRequest& request);
  void submit() { engine_->submit(); }
  int fd() const { return engine_->fd(); }
  void collect() { engine_->collect(); }
  void drain() { engine_->drain(); }
  /// Drains, and leaves the image complete on the medium, for whoever opens it next.
  Result<void> settle();

 private:
  /// A part of a request that is one operation of the engine.
  struct Piece : FileIo {
    DiskRequest* request = nullptr;
    const DiskFile* file = nullptr;
    std::vector<iovec> parts;
    bool padded = false;
  };

  Disk(std::unique_ptr<Image> image, Done done) : image_(std::move(image)), done_(std::move(done)) {}
  Result<void> transfer(DiskRequest& request);
  Result<void> clear(DiskRequest& request);
  Result<void> flush(DiskRequest& request);
  Result<void> transfer_here(DiskRequest& request, std::uint64_t offset, std::span<const iovec> buffers);
  void start_piece(DiskRequest& request, const DiskFile& file, const FileIo& io, bool padded = false);
  void piece_done(Piece& piece);
  bool go_on(Piece& piece);
  Result<void> outcome(const Piece& piece);
  void finish(DiskRequest& request);
  Result<void> flush_image(bool idle);

  std::unique_ptr<Image> image_;
  Done done_;
  std::unique_ptr<IoEngine> engine_;
  std::vector<std::unique_ptr<Piece>> pieces_;  ///< all there are
  std::vector<Piece*> spare_;
  /// What could not be flushed may be gone from the host's cache: no later flush may claim that it is safe.
  bool flush_failed_ = false;
};

}  // namespace balloon::vmm

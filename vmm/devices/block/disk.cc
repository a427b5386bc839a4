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

Result<std::unique_ptr<IoEngine>> make_engine(const BlockConfig& config, const IoEngine::Done& done) {
  if (config.engine == BlockEngine::threads) return make_thread_engine(done);
  auto engine = make_uring_engine(done);
  if (engine || config.engine == BlockEngine::io_uring) return engine;
  log::info("disk image {}: threads do its I/O: {}", config.path, engine.error().message);
  return make_thread_engine(done);
}

Bytes total(std::span<const iovec> buffers) {
  Bytes sum = 0;
  for (const iovec& buffer : buffers) sum += buffer.iov_len;
  return sum;
}

/// Calls `each` with the host bytes of the buffers, in order.
template <typename Each>
void for_bytes(std::span<const iovec> buffers, Each each) {
  std::size_t done = 0;
  for (const iovec& buffer : buffers) {
    each(std::span(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len), done);
    done += buffer.iov_len;
  }
}

/// The bytes [skip, skip + size) of the buffers.
std::vector<iovec> slice(std::span<const iovec> buffers, std::uint64_t skip, Bytes size) {
  std::vector<iovec> parts;
  for (const iovec& buffer : buffers) {
    if (size == 0) break;
    if (skip >= buffer.iov_len) {
      skip -= buffer.iov_len;
      continue;
    }
    const std::size_t part = std::min<std::size_t>(buffer.iov_len - skip, size);
    parts.push_back({.iov_base = static_cast<std::byte*>(buffer.iov_base) + skip, .iov_len = part});
    size -= part;
    skip = 0;
  }
  return parts;
}

void fill_zeros(std::span<const iovec> buffers) {
  for_bytes(buffers, [](std::span<std::byte> part, std::size_t) { std::ranges::fill(part, std::byte{0}); });
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
  return disk;
}

Disk::~Disk() {
  if (!engine_) return;
  done_ = {};
  engine_->drain();
}

Result<void> Disk::settle() {
  engine_->drain();
  return image_->file().read_only() ? Result<void>{} : flush_image(true);
}

void Disk::start(DiskRequest& request) {
  request.pending = 1;  // this call
  request.transferred = 0;
  switch (request.kind) {
    case DiskRequest::Kind::read:
    case DiskRequest::Kind::write:
      request.result = transfer(request);
      break;
    case DiskRequest::Kind::discard:
    case DiskRequest::Kind::zero:
      request.result = clear(request);
      break;
    case DiskRequest::Kind::flush:
      request.result = flush(request);
      break;
  }
  if (--request.pending == 0) finish(request);
}

Result<void> Disk::transfer(DiskRequest& request) {
  const bool write = request.kind == DiskRequest::Kind::write;
  std::uint64_t offset = request.offset;
  const Bytes size = total(request.buffers);
  for (Bytes done = 0; done < size;) {
    const auto extent = image_->map(offset, size - done, write ? Image::Access::write : Image::Access::read);
    if (!extent) return std::unexpected(extent.error());
    std::vector<iovec> part = slice(request.buffers, done, extent->size);
    if (extent->kind == Extent::Kind::zeros && !write) {
      fill_zeros(part);
      request.transferred += extent->size;
    } else if (extent->kind == Extent::Kind::file && extent->file->is_aligned(extent->offset, extent->size) &&
               extent->file->is_aligned(part)) {
      start_piece(request, *extent->file,
                  {.kind = write ? FileIo::Kind::write : FileIo::Kind::read,
                   .offset = extent->offset,
                   .buffers = part,
                   .durable = request.durable},
                  extent->padded);
    } else {
      BALLOON_TRY(transfer_here(request, offset, part));
    }
    offset += extent->size;
    done += extent->size;
  }
  return {};
}

Result<void> Disk::transfer_here(DiskRequest& request, std::uint64_t offset, std::span<const iovec> buffers) {
  const bool write = request.kind == DiskRequest::Kind::write;
  // A write that is not aligned reads and writes back whole blocks: no other may change them meanwhile.
  if (write && !image_->file().is_aligned(offset, total(buffers))) engine_->drain();
  const AlignedBuffer flat(std::min<std::size_t>(total(buffers), kMiB));
  for (Bytes done = 0, size = total(buffers); done < size;) {
    const std::vector<iovec> part = slice(buffers, done, flat.bytes().size());
    const std::span<std::byte> bytes = flat.bytes().first(total(part));
    if (write) {
      for_bytes(part, [&](std::span<std::byte> from, std::size_t at) {
        std::memcpy(bytes.data() + at, from.data(), from.size());
      });
      BALLOON_TRY(image_->write(offset + done, bytes));
    } else {
      BALLOON_TRY(image_->read(offset + done, bytes));
      for_bytes(part, [&](std::span<std::byte> to, std::size_t at) {
        std::memcpy(to.data(), bytes.data() + at, to.size());
      });
    }
    done += bytes.size();
    request.transferred += bytes.size();
  }
  if (write && request.durable && !image_->has_changes()) return flush_image(false);
  return {};
}

Result<void> Disk::clear(DiskRequest& request) {
  const bool discard = request.kind == DiskRequest::Kind::discard;
  for (const DiskRequest::Range& range : request.ranges) {
    if (range.size == 0) continue;
    const auto extent =
        image_->map(range.offset, range.size, discard ? Image::Access::discard : Image::Access::zero);
    if (!extent) return std::unexpected(extent.error());
    if (extent->kind == Extent::Kind::file) {
      start_piece(request, *extent->file,
                  {.kind = discard || request.may_unmap ? FileIo::Kind::punch_hole : FileIo::Kind::zero_range,
                   .offset = extent->offset,
                   .size = range.size});
      continue;
    }
    if (!discard) engine_->drain();  // its edges may have to be written, and need not be aligned
    BALLOON_TRY(discard ? image_->discard(range.offset, range.size)
                        : image_->zero(range.offset, range.size, request.may_unmap));
  }
  return {};
}

Result<void> Disk::flush(DiskRequest& request) {
  if (image_->has_changes() || flush_failed_) return flush_image(engine_->in_flight() == 0);
  start_piece(request, image_->file(), {.kind = FileIo::Kind::flush});
  return {};
}

void Disk::start_piece(DiskRequest& request, const DiskFile& file, const FileIo& io, bool padded) {
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
  ++request.pending;
  engine_->start(piece);
}

void Disk::piece_done(Piece& piece) {
  if (go_on(piece)) return;
  DiskRequest& request = *piece.request;
  auto result = outcome(piece);
  if (!result && request.result) request.result = std::move(result);
  spare_.push_back(&piece);
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
  if (piece.kind == FileIo::Kind::punch_hole || piece.kind == FileIo::Kind::zero_range) {
    // Not every filesystem and device can, and not every one at any place.
    if (error == EOPNOTSUPP || error == EINVAL || error == ENODEV) {
      if (piece.request->kind == DiskRequest::Kind::discard) return {};
      engine_->drain();
      return image_->zero(piece.offset, piece.size, false);
    }
  }
  return fail_errno(fmt::format("{} at byte {}", name(piece.kind), piece.offset), error);
}

void Disk::finish(DiskRequest& request) {
  const bool changes = request.kind != DiskRequest::Kind::read && request.kind != DiskRequest::Kind::flush;
  // Data that went in place is durable already; tables and holes are not.
  if (changes && request.durable && request.result &&
      (image_->has_changes() || request.kind != DiskRequest::Kind::write)) {
    request.result = flush_image(false);
  }
  if (changes && image_->wants_idle()) {
    engine_->drain();
    if (auto done = flush_image(true); !done && request.result) request.result = std::move(done);
  }
  if (done_) done_(request);
}

Result<void> Disk::flush_image(bool idle) {
  if (flush_failed_) return fail("flushing: it failed before, and what was lost then cannot be known");
  auto done = image_->flush(idle);
  flush_failed_ = !done;
  return done;
}

}  // namespace balloon::vmm

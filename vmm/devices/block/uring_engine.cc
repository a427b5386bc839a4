// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <deque>
#include <thread>
#include <utility>

#include "vmm/devices/block/io_engine.h"

namespace balloon::vmm {
namespace {

class UringEngine final : public IoEngine {
 public:
  explicit UringEngine(Done done) : done_(std::move(done)) {}
  ~UringEngine() override {
    if (open_) ::io_uring_queue_exit(&ring_);
  }
  UringEngine(const UringEngine&) = delete;
  UringEngine& operator=(const UringEngine&) = delete;

  Result<void> open() {
    const int error = ::io_uring_queue_init(kDepth, &ring_, 0);
    if (error < 0) return fail_errno("setting up io_uring", -error);
    open_ = true;
    // Since Linux 5.5 the kernel copies what an entry points to when it takes it; FALLOCATE is of 5.6.
    if ((ring_.features & IORING_FEAT_SUBMIT_STABLE) == 0) return fail("this kernel's io_uring is too old");
    io_uring_probe* probe = ::io_uring_get_probe_ring(&ring_);
    const bool known = probe != nullptr && ::io_uring_opcode_supported(probe, IORING_OP_FALLOCATE) != 0;
    ::io_uring_free_probe(probe);
    if (!known) return fail("this kernel's io_uring is too old");
    return {};
  }

  std::string_view name() const override { return "io_uring"; }
  int fd() const override { return ring_.ring_fd; }
  std::size_t in_flight() const override { return in_kernel_ + waiting_.size(); }

  void start(FileIo& io) override {
    waiting_.push_back(&io);
    fill();
  }

  void submit() override {
    fill();
    hand_over(0);
  }

  void collect() override {
    io_uring_cqe* entry = nullptr;
    while (in_kernel_ > 0 && ::io_uring_peek_cqe(&ring_, &entry) == 0) {
      auto& io = *static_cast<FileIo*>(::io_uring_cqe_get_data(entry));
      io.result = entry->res;
      ::io_uring_cqe_seen(&ring_, entry);
      --in_kernel_;
      done_(io);
    }
    if (!waiting_.empty() || ::io_uring_sq_ready(&ring_) > 0) submit();
  }

  void drain() override {
    while (in_flight() > 0) {
      fill();
      hand_over(1);
      collect();
    }
  }

 private:
  /// Moves what waits into free entries, never more than completions have room for.
  void fill() {
    while (!waiting_.empty() && in_kernel_ < kDepth) {
      io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
      if (entry == nullptr) return;
      prepare(*entry, *waiting_.front());
      waiting_.pop_front();
      ++in_kernel_;
    }
  }

  void hand_over(unsigned wait) {
    while (::io_uring_sq_ready(&ring_) > 0 || wait > 0) {
      const int count = ::io_uring_submit_and_wait(&ring_, wait);
      // Completions to be collected make room for the rest; collect() comes back here.
      if (::io_uring_cq_ready(&ring_) > 0) return;
      if (count > 0 || count == -EINTR) continue;
      std::this_thread::yield();  // the kernel is out of memory for a moment
    }
  }

  static void prepare(io_uring_sqe& entry, FileIo& io) {
    const auto count = static_cast<unsigned>(std::min<std::size_t>(io.buffers.size(), IOV_MAX));
    switch (io.kind) {
      case FileIo::Kind::read:
        ::io_uring_prep_readv(&entry, io.fd, io.buffers.data(), count, io.offset);
        break;
      case FileIo::Kind::write:
        ::io_uring_prep_writev2(&entry, io.fd, io.buffers.data(), count, io.offset,
                                io.durable ? RWF_DSYNC : 0);
        break;
      case FileIo::Kind::flush:
        ::io_uring_prep_fsync(&entry, io.fd, IORING_FSYNC_DATASYNC);
        break;
      case FileIo::Kind::punch_hole:
      case FileIo::Kind::zero_range:
        ::io_uring_prep_fallocate(
            &entry, io.fd,
            FALLOC_FL_KEEP_SIZE |
                (io.kind == FileIo::Kind::punch_hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
            static_cast<off_t>(io.offset), static_cast<off_t>(io.size));
        break;
    }
    ::io_uring_sqe_set_data(&entry, &io);
  }

  const Done done_;
  io_uring ring_{};
  bool open_ = false;
  std::size_t in_kernel_ = 0;  ///< in the submission queue or beyond
  std::deque<FileIo*> waiting_;
};

}  // namespace

Result<std::unique_ptr<IoEngine>> make_uring_engine(IoEngine::Done done) {
  auto engine = std::make_unique<UringEngine>(std::move(done));
  BALLOON_TRY(engine->open());
  return engine;
}

}  // namespace balloon::vmm

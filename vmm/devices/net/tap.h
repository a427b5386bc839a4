// A tap interface, opened for whole Ethernet frames without any header in front.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class Tap {
 public:
  /// Attaches to the existing interface `name`; makes none. Fails with what to do about it.
  static Result<Tap> open(const std::string& name);

  /// To be watched for frames.
  int fd() const { return fd_.get(); }

  enum class Outcome { done, would_block, failed, gone };
  struct Transfer {
    Outcome outcome;
    std::size_t size;  ///< of the frame, when done
  };
  /// Takes the next frame. What does not fit into `iovecs` is lost.
  Transfer read(std::span<const iovec> iovecs) const;
  /// Sends one frame. `failed`: not this one (for example while the interface is down).
  Transfer write(std::span<const iovec> iovecs) const;

 private:
  explicit Tap(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace balloon::vmm

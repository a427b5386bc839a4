// What a disk is, for who asks from outside the guest: its image, and what lies below it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"

namespace balloon::vmm {

struct ImageInfo {
  std::string path;
  std::string format;  ///< "raw", "qcow2"
  Bytes virtual_size = 0;
  Bytes allocated = 0;     ///< what the file takes of its filesystem
  Bytes cluster_size = 0;  ///< 0: the format has none
  // qcow2 only.
  std::uint32_t version = 0;
  std::uint32_t refcount_bits = 0;
  std::string backing_name;                  ///< as it stands in the image; empty: none
  std::shared_ptr<const ImageInfo> backing;  ///< what is opened by that name
};

/// Thread-safe.
class BlockControl {
 public:
  virtual ~BlockControl() = default;
  virtual ImageInfo image() const = 0;
};

}  // namespace balloon::vmm

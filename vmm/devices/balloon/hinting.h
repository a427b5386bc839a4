// SPDX-License-Identifier: Apache-2.0
// One round of free page hinting after the other (virtio 1.2, 5.5.6.5), seen from the device: which command
// id stands in the config space, and which of the guest's buffers belong to the round. Pure.
#pragma once

#include <cstdint>

namespace balloon::vmm {

class HintingRounds {
 public:
  static constexpr std::uint32_t kStop = 0;  ///< VIRTIO_BALLOON_CMD_ID_STOP
  static constexpr std::uint32_t kDone = 1;  ///< VIRTIO_BALLOON_CMD_ID_DONE

  /// What the driver reads as free_page_hint_cmd_id.
  std::uint32_t command() const { return command_; }
  bool under_way() const { return command_ > kDone; }
  /// Whether a buffer that comes now is a hint of this round. What comes before the round's id, or after its
  /// end, is of a round that is over: its pages may be in use again.
  bool takes_hints() const { return under_way() && started_; }

  void start();
  /// The driver sent an id: that of the round starts its hints, "stop" ends them. True: the round is over.
  bool received(std::uint32_t id);
  /// The driver may have its pages back.
  void finish() { command_ = kDone; }
  void reset() { command_ = kStop; }

 private:
  std::uint32_t command_ = kStop;
  std::uint32_t last_ = kDone;
  bool started_ = false;
};

}  // namespace balloon::vmm

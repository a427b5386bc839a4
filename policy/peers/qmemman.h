// SPDX-License-Identifier: Apache-2.0
// Qubes' qmemman: every guest is to have somewhat more than it uses; what is left is shared in proportion.
// Donors give first, and acceptors get when there is something.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/qmemman_algo.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

class Qmemman final : public Controller {
 public:
  explicit Qmemman(const QmemmanSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Track {
    QmemmanDomain domain;
    bool known = false;
    bool started = false;  ///< its driver was up: before, it is a domain with its initial memory
    bool starts = false;   ///< it has reported for the first time
    int unmoved = 0;       ///< iterations on the way to where it starts
    double sent_used = 0;  ///< as the guest's meminfo-writer wrote it last; 0: never
    Time sampled_at{};
    // Estimate of the guest's used swap, which the statistics lack:
    double swapped = 0;
    std::optional<Bytes> swap_in;
    std::optional<Bytes> swap_out;
  };
  /// A balance that is being applied, request by request.
  struct Balance {
    std::vector<QmemmanRequest> requests;
    std::vector<double> actual_before;  ///< by guest
    std::size_t next = 0;
    int tries = 0;
  };
  /// A client's request for memory. From it on until the client has started its guest nothing is balanced.
  struct Request {
    std::string id;
    double size = 0;
    bool granted = false;
    int iteration = 0;
    std::vector<double> free_before;  ///< a ring, one entry an iteration
    struct Asked {
      std::size_t guest = 0;
      double actual = 0;
      int unmoved = 0;  ///< iterations
    };
    std::vector<Asked> asked;
  };

  bool observe(const Snapshot& snapshot);
  double held(const GuestSnapshot& guest, const Track& track) const;
  bool start();
  void fit();
  bool receive(const GuestSnapshot& guest, Track& track);
  void estimate_swap(const GuestSnapshot& guest, Track& track, double elapsed) const;
  double free() const;
  void refresh_actual();
  void set(std::size_t guest, double target);

  void start_balance();
  bool significant(const std::vector<QmemmanRequest>& requests, double free) const;
  void continue_balance();
  void blame(std::size_t waiting);

  void match_reservations(const Snapshot& snapshot);
  void continue_request();
  bool enough_speed(double free);
  bool ask_donors(double free);
  void refuse();

  QmemmanSettings settings_;
  Roster<Track> tracks_;
  std::vector<QmemmanDomain*> domains_;
  std::vector<std::string> denied_;
  double unassigned_ = 0;  ///< on the host, in no guest; may be negative
  bool meminfo_changed_ = false;
  bool starting_ = false;  ///< guests are on their way to sizes that fit into the host together
  std::optional<Balance> balance_;
  std::optional<Request> request_;
};

}  // namespace balloon::policy::peers

// SPDX-License-Identifier: Apache-2.0
// What balloonctl's commands do.
#pragma once

#include "balloond/ctl/arguments.h"
#include "balloond/ctl/client.h"

namespace balloon::ctl {

/// Each command returns the exit status.
class Commands {
 public:
  explicit Commands(const Arguments& arguments);

  int list();
  int show();
  int explain();
  int needs();
  int host();
  int host_check();
  int watch();
  int top();
  int set();
  int merge();
  int pause();
  int resume();
  int reserve();
  int release();
  int extend();
  int commit();
  int reservation();
  int reservations();
  int capacity();
  int fit();
  int replay();
  int check_policy();
  int show_policy();
  int diff_policies();
  int import_libvirt();
  int import_proxmox();

  /// The answer could not be printed; that has been said.
  bool failed() const { return output_.failed(); }

 private:
  int fail_with(const CallError& error);
  int print_policy(const Printed& printed);
  template <typename Request>
  Request renewal() const;
  int print_reservation(const Answer<v1::Reservation>& reservation);
  template <typename Text>
  int print_guest(const Answer<v1::Guest>& guest, const Text& text);

  const Arguments& arguments_;
  Output output_;
  Client client_;
};

}  // namespace balloon::ctl

// SPDX-License-Identifier: Apache-2.0
// `balloonctl top`: the whole screen, followed live.
#pragma once

#include <string>

#include "balloond/ctl/client.h"
#include "balloond/ctl/terminal.h"

namespace balloon::ctl::top {

struct Choice {
  bool once = false;  ///< one screen as text, with every guest
  std::string sort = "name";
  std::string filter{};
};

/// The text of one state.
Answer<std::string> once(Client& client, const Choice& choice, const Terminal& terminal);

/// Until the user ends it.
Answer<void> follow(Client& client, const Choice& choice, const Terminal& terminal);

}  // namespace balloon::ctl::top

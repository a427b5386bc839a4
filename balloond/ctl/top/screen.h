// SPDX-License-Identifier: Apache-2.0
// The screen of `balloonctl top` as lines of toned text. Neither a terminal nor a daemon is needed to draw
// it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "balloond/ctl/top/model.h"

namespace balloon::ctl::top {

enum class Tone : std::uint8_t { plain, heading, faint, good, note, warning, bad, selected };

struct Span {
  std::string text;
  Tone tone = Tone::plain;
};
using Line = std::vector<Span>;

struct Size {
  unsigned columns = 80;
  unsigned rows = 24;  ///< 0: as many as there are
};

/// `message`: in place of the keys, such as a prompt.
std::vector<Line> draw(const Model& model, Size size, const std::string& message = {});

/// Used, available, and in the balloon, of all that the guest may ever have: "####====....", with | at its
/// minimum and < or > where its target is, in the direction in which it goes.
std::string bar(const v1::Guest& guest, std::size_t width);

/// A row of levels from low to high, one a sample, the newest at the right.
std::string history(const std::deque<Sample>& samples, std::uint64_t Sample::* value, std::uint64_t most);

std::string text_of(const Line& line);

}  // namespace balloon::ctl::top

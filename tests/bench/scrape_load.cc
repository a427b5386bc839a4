// SPDX-License-Identifier: Apache-2.0
// What a scrape costs a daemon with many guests, and whether its decisions begin later for it: guests that
// are only a link and send statistics each second; the loop's lateness is measured without scrapes, and then
// with one each second. The daemon has the first CPU for itself, as far as this is ours to say.
//   scrape_load PROGRAMS [GUESTS [SECONDS]]
// Prints one line of JSON. Exit status 1 when not all guests connected.
#include "tests/bench/linked_guests.h"
#include "tests/bench/load.h"

namespace balloon::test {
namespace {

/// Between scrapes: they meet the daemon at moments spread over its period of a second.
constexpr milliseconds kBetween(1037);

/// How late decisions began so far.
struct Lateness {
  double seconds = 0, decisions = 0;
};

Lateness lateness_of(const std::string& page) {
  return {.seconds = value_of(page, "balloon_control_loop_lateness_seconds_sum"),
          .decisions = value_of(page, "balloon_control_loop_lateness_seconds_count")};
}

double mean_ms(const Lateness& from, const Lateness& to) {
  return to.decisions > from.decisions ? 1e3 * (to.seconds - from.seconds) / (to.decisions - from.decisions)
                                       : 0;
}

int run(const std::string& programs, int guests, int time) {
  const DaemonPlace daemon("scrape_load");
  Children children;
  stay_on(0);
  daemon.start_daemon(children, programs);
  if (!daemon.answers()) return 1;
  stay_on(1);
  start_guests(children, daemon.socket(), guests);
  eventually([&] { return linked_guests(daemon) == guests; }, seconds(120));
  const double there = linked_guests(daemon);
  std::this_thread::sleep_for(seconds(5));

  const Lateness begin = lateness_of(daemon.page());
  std::this_thread::sleep_for(seconds(time));
  const Lateness quiet = lateness_of(daemon.page());
  std::vector<double> took;
  std::size_t size = 0;
  for (int i = 0; i < time; ++i) {
    const auto before = Clock::now();
    size = daemon.page().size();
    took.push_back(std::chrono::duration<double, std::milli>(Clock::now() - before).count());
    std::this_thread::sleep_until(before + kBetween);
  }
  const Lateness scraped = lateness_of(daemon.page());
  std::ranges::sort(took);
  fmt::print(
      "{{\"guests\":{},\"bytes\":{},\"scrape_ms\":{{\"min\":{:.1f},\"median\":{:.1f},\"max\":{:.1f}}},"
      "\"mean_lateness_ms\":{{\"without\":{:.2f},\"with_scrapes\":{:.2f}}}}}\n",
      there, size, took.front(), took[took.size() / 2], took.back(), mean_ms(begin, quiet),
      mean_ms(quiet, scraped));
  return there == guests ? 0 : 1;
}

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "scrape_load PROGRAMS [GUESTS [SECONDS]]\n");
    return 2;
  }
  const auto number = [&](int at, int otherwise) {
    return std::max(1, static_cast<int>(balloon::test::number_of(count, arguments, at, otherwise)));
  };
  return balloon::test::run(arguments[1], number(2, 1000), number(3, 30));
}

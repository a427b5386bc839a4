// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/top/top.h"

#include <curses.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <thread>

#include "balloond/ctl/top/screen.h"
#include "base/mutex.h"

namespace balloon::ctl::top {
namespace {

/// How long a key may wait for its answer, and a state for being drawn.
constexpr int kLookMillis = 100;
/// Between attempts to reach a daemon that has gone away.
constexpr std::chrono::milliseconds kRedial{500};
constexpr int kEscape = 27;
constexpr int kControlC = 3;
constexpr int kPage = 10;

Model model_of(const Choice& choice) {
  Model model;
  model.sort = sort_of(choice.sort).value_or(Sort::name);
  model.filter = choice.filter;
  return model;
}

/// Follows the daemon's states from a thread of its own, so that keys never wait for it.
class Feed {
 public:
  explicit Feed(Client& client) : client_(client), thread_([this] { run(); }) {}
  ~Feed() {
    ending_ = true;
    client_.end_watch();
    thread_.join();
  }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  /// The newest state that has not been taken.
  std::optional<v1::WatchGuestsResponse> take() {
    const MutexLock lock(mutex_);
    return std::exchange(state_, std::nullopt);
  }
  /// Why no states come; empty while they do.
  std::optional<CallError> trouble() {
    const MutexLock lock(mutex_);
    return trouble_;
  }
  /// Until there is a first state, or a reason why there is none.
  std::optional<CallError> begin() {
    UniqueLock lock(mutex_);
    changed_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return state_ || trouble_; });
    return state_ ? std::nullopt : trouble_;
  }

 private:
  void run() {
    while (!ending_) {
      const auto ended = client_.watch([this](v1::WatchGuestsResponse& state) {
        const MutexLock lock(mutex_);
        state_ = std::move(state);
        trouble_.reset();
        changed_.notify_all();
        return !ending_;
      });
      if (ending_) return;
      {
        const MutexLock lock(mutex_);
        trouble_ = ended ? CallError{Exit::unreachable, "the daemon ended the watch"} : ended.error();
        changed_.notify_all();
      }
      std::this_thread::sleep_for(kRedial);
    }
  }

  Client& client_;
  Mutex mutex_;
  std::condition_variable changed_;
  std::optional<v1::WatchGuestsResponse> state_ GUARDED_BY(mutex_);
  std::optional<CallError> trouble_ GUARDED_BY(mutex_);
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

/// The terminal while it is ours; as it was when this goes.
class Screen {
 public:
  static std::unique_ptr<Screen> open(bool colour) {
    SCREEN* const screen = ::newterm(nullptr, stdout, stdin);
    if (screen == nullptr) return nullptr;
    return std::unique_ptr<Screen>(new Screen(screen, colour));
  }
  ~Screen() {
    ::endwin();
    ::delscreen(screen_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  Size size() const { return {.columns = static_cast<unsigned>(COLS), .rows = static_cast<unsigned>(LINES)}; }

  void show(const std::vector<Line>& lines) {
    ::erase();
    int row = 0;
    for (const Line& line : lines) {
      ::move(row++, 0);
      for (const Span& span : line) {
        const attr_t attributes = attributes_of(span.tone);
        ::attron(attributes);
        ::addnstr(span.text.data(), static_cast<int>(span.text.size()));
        ::attroff(attributes);
      }
    }
    ::refresh();
  }

 private:
  Screen(SCREEN* screen, bool colour) : screen_(screen), colour_(colour && ::has_colors()) {
    ::raw();  // ^C is a key: the terminal is left as it was
    ::noecho();
    ::curs_set(0);
    ::keypad(stdscr, true);
    ::set_escdelay(25);
    ::timeout(kLookMillis);
    if (!colour_) return;
    ::start_color();
    ::use_default_colors();
    for (const auto& [pair, foreground] :
         {std::pair<short, short>{1, COLOR_GREEN}, {2, COLOR_CYAN}, {3, COLOR_YELLOW}, {4, COLOR_RED}})
      ::init_pair(pair, foreground, -1);
  }

  attr_t attributes_of(Tone tone) const {
    const auto colour = [this](short pair) { return colour_ ? COLOR_PAIR(pair) : attr_t{A_NORMAL}; };
    switch (tone) {
      case Tone::plain:
      case Tone::faint:
        return A_NORMAL;
      case Tone::heading:
        return A_BOLD;
      case Tone::good:
        return colour(1);
      case Tone::note:
        return colour(2);
      case Tone::warning:
        return colour(3);
      case Tone::bad:
        return colour(4) | A_BOLD;
      case Tone::selected:
        return A_REVERSE;
    }
    return A_NORMAL;
  }

  SCREEN* screen_;
  bool colour_;
};

/// What keys do.
class Keys {
 public:
  explicit Keys(Model& model) : model_(model) {}

  /// False: the user ends it.
  bool press(int key) {
    if (key == kControlC) return false;
    if (typing_) {
      type(key);
      return true;
    }
    switch (key) {
      case 'q':
      case 'Q':
        return false;
      case KEY_UP:
      case 'k':
        model_.select(-1);
        break;
      case KEY_DOWN:
      case 'j':
        model_.select(1);
        break;
      case KEY_PPAGE:
        model_.select(-kPage);
        break;
      case KEY_NPAGE:
        model_.select(kPage);
        break;
      case '\n':
      case '\r':
      case KEY_ENTER:
        model_.detail = !model_.detail;
        break;
      case 's':
        model_.sort = static_cast<Sort>((static_cast<int>(model_.sort) + 1) % kSorts);
        break;
      case 'r':
        model_.reverse = !model_.reverse;
        break;
      case '/':
        typing_ = true;
        break;
      case kEscape:
        model_.filter.clear();
        model_.detail = false;
        break;
      default:
        break;
    }
    return true;
  }

  std::string prompt() const { return typing_ ? "filter: " + model_.filter + "_" : ""; }

 private:
  void type(int key) {
    if (key == '\n' || key == '\r' || key == KEY_ENTER) {
      typing_ = false;
    } else if (key == kEscape) {
      typing_ = false;
      model_.filter.clear();
    } else if (key == KEY_BACKSPACE || key == 127 || key == '\b') {
      if (!model_.filter.empty()) model_.filter.pop_back();
    } else if (key >= ' ' && key < 127) {
      model_.filter += static_cast<char>(key);
    }
  }

  Model& model_;
  bool typing_ = false;
};

}  // namespace

Answer<std::string> once(Client& client, const Choice& choice, const Terminal& terminal) {
  Model model = model_of(choice);
  const auto ended = client.watch([&](v1::WatchGuestsResponse& state) {
    model.take(std::move(state));
    return false;
  });
  if (!ended) return std::unexpected(ended.error());
  std::string text;
  for (const Line& line : draw(model, {.columns = terminal.columns == 0 ? 80 : terminal.columns, .rows = 0}))
    text += text_of(line) + '\n';
  return text;
}

Answer<void> follow(Client& client, const Choice& choice, const Terminal& terminal) {
  Model model = model_of(choice);
  Keys keys(model);
  Feed feed(client);
  if (auto trouble = feed.begin()) return std::unexpected(std::move(*trouble));
  const auto screen = Screen::open(terminal.colour);
  if (screen == nullptr) {
    return std::unexpected(
        CallError{Exit::failure, "this terminal cannot show a whole screen: set TERM, or take --once"});
  }
  for (bool going_on = true; going_on;) {
    if (auto state = feed.take()) model.take(std::move(*state));
    const auto trouble = feed.trouble();
    const std::string prompt = keys.prompt();
    screen->show(draw(model, screen->size(), prompt.empty() && trouble ? trouble->message : prompt));
    const int key = ::getch();
    if (key != ERR) going_on = keys.press(key);
    // A terminal that is gone gives no more keys, at once.
    if (key == ERR && ::isatty(STDIN_FILENO) == 0) going_on = false;
  }
  return {};
}

}  // namespace balloon::ctl::top

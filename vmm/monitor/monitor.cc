// SPDX-License-Identifier: Apache-2.0
#include "vmm/monitor/monitor.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"
#include "base/unix_listener.h"

namespace balloon::vmm {
namespace {

/// The monitor's clients can end the guest and write files as the VMM: only the VMM's own user may connect.
constexpr mode_t kSocketMode = 0600;
/// How often a slow client's unsent bytes are tried again.
constexpr std::chrono::milliseconds kFlushInterval{20};
/// Read at once; others get their turn in between.
constexpr std::size_t kReadSize = (16 * kKiB).count();
/// Events kept for the loop: one turn of it takes far fewer.
constexpr std::size_t kMaxEvents = 256;

}  // namespace

Result<std::unique_ptr<Monitor>> Monitor::start(const std::string& path, MonitorGuest& guest) {
  auto monitor = std::unique_ptr<Monitor>(new Monitor(path, guest));
  if (const auto opened = monitor->open(); !opened) return fail("monitor", opened.error());
  return monitor;
}

Result<void> Monitor::open() {
  auto listener = listen_unix(path_, kSocketMode);
  if (!listener) return std::unexpected(listener.error());
  listener_ = std::move(*listener);
  auto loop = EventLoop::create("monitor");
  if (!loop) return std::unexpected(loop.error());
  loop_ = std::move(*loop);
  auto events = loop_->watch_event([this] { on_events(); });
  if (!events) return std::unexpected(events.error());
  events_ready_ = std::move(*events);
  auto flush_timer = loop_->timer([this] { on_flush_timer(); });
  if (!flush_timer) return std::unexpected(flush_timer.error());
  flush_timer_ = std::move(*flush_timer);
  auto balloon_timer = loop_->timer([this] { on_balloon_timer(); });
  if (!balloon_timer) return std::unexpected(balloon_timer.error());
  balloon_timer_ = std::move(*balloon_timer);
  BALLOON_TRY(loop_->watch(listener_.get(), [this] { on_connect(); }));
  state_.guest.listen([this](const MonitorEvent& event) { post(event); });
  return {};
}

Monitor::~Monitor() {
  state_.guest.listen({});
  if (loop_) {
    // What was said last ("SHUTDOWN") still goes out, as far as clients take it at once.
    loop_->stop();
    commands_.reset();
    on_events();
  }
  flush_timer_.reset();
  balloon_timer_.reset();
  if (listener_) ::unlink(path_.c_str());
}

void Monitor::post(const MonitorEvent& event) {
  {
    const MutexLock lock(events_mutex_);
    if (event.kind == MonitorEvent::Kind::balloon_change) {
      // The newest value takes the place of one not yet sent, for which the loop comes already: a balloon
      // steps a thousand times a second.
      if (std::exchange(balloon_change_, event)) return;
    } else if (events_.size() < kMaxEvents) {
      events_.push_back(event);
    }
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(events_ready_.get(), &one, sizeof one);
}

void Monitor::on_events() {
  std::deque<Answer> answers;
  {
    const MutexLock lock(events_mutex_);
    answers.swap(answers_);
  }
  queue_events();  // those that a command caused come before its answer, as in QEMU
  for (const Answer& answer : answers) deliver(answer);
  flush_all();
}

void Monitor::queue_events() {
  std::deque<MonitorEvent> events;
  {
    const MutexLock lock(events_mutex_);
    events.swap(events_);
  }
  // A client that hears of a size and then of the guest's end expects this order.
  queue_balloon_change();
  for (const MonitorEvent& event : events) broadcast(event);
}

void Monitor::on_balloon_timer() {
  queue_balloon_change();
  flush_all();
}

void Monitor::queue_balloon_change() {
  std::optional<MonitorEvent> change;
  {
    const MutexLock lock(events_mutex_);
    if (!balloon_change_) return balloon_timer_->set({});
    const auto since = std::chrono::steady_clock::now() - last_balloon_event_;
    if (since < kBalloonEventInterval) return balloon_timer_->set(kBalloonEventInterval - since);
    change = std::exchange(balloon_change_, std::nullopt);
  }
  last_balloon_event_ = std::chrono::steady_clock::now();
  broadcast(*change);
}

void Monitor::broadcast(const MonitorEvent& event) {
  const std::string text = qmp_event(event);
  for (const auto& [fd, client] : clients_) {
    if (client->session.ready()) send(*client, text);
  }
}

void Monitor::on_connect() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  if (clients_.size() == kMaxClients && !end_a_silent_one()) {
    const std::string text = qmp_error({kGenericError, "the monitor has as many clients as it takes"});
    ::send(fd.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  const int raw = fd.get();
  if (const auto watched = loop_->watch(raw, [this, raw] { on_readable(raw); }); !watched) {
    log::warning("monitor: {}", watched.error().message);
    return;
  }
  auto& client = *clients_.emplace(raw, std::make_shared<Client>(std::move(fd), state_)).first->second;
  send(client, QmpSession::greeting());
  if (!flush(client)) drop(raw);
}

bool Monitor::end_a_silent_one() {
  const auto silent_since = [](const auto& each) {
    return each.second->session.ready() ? std::chrono::steady_clock::time_point::max() : each.second->since;
  };
  const auto oldest = std::ranges::min_element(clients_, {}, silent_since);
  if (oldest->second->session.ready()) return false;
  drop(oldest->first);
  return true;
}

void Monitor::on_readable(int fd) {
  const std::shared_ptr<Client> shared = clients_.at(fd);
  Client& client = *shared;
  if (client.busy) {  // what it says now is read once its command is done
    client.unwatched = true;
    return loop_->unwatch(fd);
  }
  std::array<char, kReadSize> buffer;
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return drop(fd);
  if (client.closing) return;  // what follows a broken request is not looked at
  const auto fed =
      client.frames.feed({buffer.data(), static_cast<std::size_t>(count)}, [&](std::string_view request) {
        if (client.unsent.size() <= kMaxUnsent) take(shared, request);
      });
  if (!fed) {
    send(client, qmp_error({kGenericError, "JSON parse error: " + fed.error().message}));
    client.closing = true;
  }
  flush_all();
}

void Monitor::take(const std::shared_ptr<Client>& client, std::string_view request) {
  if (client->busy) return client->requests.emplace_back(request), void();
  if (client->session.is_slow(request)) {
    client->busy = true;
    return commands_->run([this, client, text = std::string(request)] {
      Answer answer{client, client->session.handle(text)};
      {
        const MutexLock lock(events_mutex_);
        answers_.push_back(std::move(answer));
      }
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(events_ready_.get(), &one, sizeof one);
    });
  }
  const std::string answer = client->session.handle(request);
  queue_events();  // as in on_events()
  send(*client, answer);
}

void Monitor::deliver(const Answer& answer) {
  const auto client = answer.client.lock();
  // A client that is gone meanwhile has no place among the clients any more.
  if (!client || !client->fd) return;
  client->busy = false;
  send(*client, answer.text);
  while (!client->busy && !client->requests.empty()) {
    const std::string request = std::move(client->requests.front());
    client->requests.pop_front();
    take(client, request);
  }
  if (client->busy || !std::exchange(client->unwatched, false)) return;
  const int fd = client->fd.get();
  if (const auto watched = loop_->watch(fd, [this, fd] { on_readable(fd); }); !watched)
    log::warning("monitor: {}", watched.error().message);
}

void Monitor::send(Client& client, std::string_view text) { client.unsent += text; }

bool Monitor::flush(Client& client) {
  while (!client.unsent.empty()) {
    const ssize_t sent =
        ::send(client.fd.get(), client.unsent.data(), client.unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    client.unsent.erase(0, static_cast<std::size_t>(sent));
  }
  if (client.unsent.empty()) return !client.closing;
  if (client.unsent.size() > kMaxUnsent) {
    log::warning("monitor: a client does not read what it is sent; hanging up");
    return false;
  }
  flush_timer_->set(kFlushInterval);
  return true;
}

void Monitor::on_flush_timer() {
  flush_timer_->set({});
  flush_all();
}

void Monitor::flush_all() {
  std::vector<int> gone;
  for (const auto& [fd, client] : clients_) {
    if (!client->unsent.empty() && !flush(*client)) gone.push_back(fd);
  }
  for (const int fd : gone) drop(fd);
}

void Monitor::drop(int fd) {
  const auto client = clients_.find(fd);
  if (!client->second->unwatched) loop_->unwatch(fd);
  client->second->fd.reset();  // a command of its own may keep the rest
  clients_.erase(client);
}

}  // namespace balloon::vmm

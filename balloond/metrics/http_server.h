// SPDX-License-Identifier: Apache-2.0
// A small HTTP server of one page, and of probes beside it. One thread serves all connections and waits for
// none: whatever others leave half-sent, or do not read, the next one is answered.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

class HttpServer {
 public:
  using Page = std::function<std::string()>;
  /// "/healthz": 200 and "ok", or 503 and what is wrong.
  struct Probe {
    std::string path;
    std::function<std::string()> trouble;  ///< empty: none
  };

  /// Serves `path` at `listen`: an address and port ("127.0.0.1:9477", "[::1]:9477") or "unix:PATH". `page`
  /// and the probes are called by the server's thread; what the page said is good for kPageFresh.
  static Result<std::unique_ptr<HttpServer>> start(const std::string& listen, std::string path,
                                                   std::string content_type, Page page,
                                                   std::vector<Probe> probes = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Of more at once, one ends: of those that are answered the oldest once they hold more than half of the
  /// places, else the oldest that has yet to ask. So newcomers that never ask cut nobody's answer short, and
  /// readers that never read leave room for newcomers.
  static constexpr std::size_t kConnectionsMax = 64;
  /// Requests with more than this before their empty line are none of ours.
  static constexpr std::size_t kRequestMax = 8192;
  /// From the connection's begin to its end.
  static constexpr std::chrono::seconds kConnectionMax{10};
  /// However often is asked, the page is made ten times a second at most.
  static constexpr std::chrono::milliseconds kPageFresh{100};

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Connection {
    UniqueFd socket;
    Time since;
    std::string request;
    std::shared_ptr<const std::string> body;  ///< once the request is whole, unless there is nothing to say
    std::string head;
    std::size_t sent = 0;  ///< of head and body
    bool answering = false;
  };

  HttpServer(std::string path, std::string content_type, Page page, std::vector<Probe> probes,
             UniqueFd socket, UniqueFd wakeup);
  void run();
  void accept();
  /// False when nobody waits.
  bool accept_one();
  void end_one();
  /// False when it is over.
  bool serve(Connection& connection);
  bool read(Connection& connection);
  bool write(Connection& connection);
  void answer(Connection& connection);
  std::shared_ptr<const std::string> page();

  const std::string path_;
  const std::string content_type_;
  const Page make_page_;
  const std::vector<Probe> probes_;
  const UniqueFd socket_;
  const UniqueFd wakeup_;
  std::list<Connection> connections_;  ///< oldest first
  std::shared_ptr<const std::string> page_;
  Time page_made_{};
  std::thread thread_;
};

}  // namespace balloon::daemon

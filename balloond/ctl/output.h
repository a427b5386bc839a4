// SPDX-License-Identifier: Apache-2.0
// Answers and errors in the form that was asked for.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "balloond/ctl/client.h"
#include "balloond/ctl/table.h"

namespace balloon::ctl {

enum class Format { table, wide, json, yaml };

class Output {
 public:
  Output(Format format, Look look) : format_(format), look_(look) {}

  /// Prints `json`, or where text is wanted `text`.
  void answer(const nlohmann::ordered_json& json, const std::function<std::string()>& text);
  void print(const std::string& text);
  void complain(const CallError& error);

  bool for_programs() const { return format_ == Format::json || format_ == Format::yaml; }
  const Look& look() const { return look_; }
  /// What could not be printed for people ends with this.
  bool failed() const { return failed_; }

 private:
  Format format_;
  Look look_;
  bool failed_ = false;
};

/// "usage", "not_found": the exit codes' names in JSON.
const char* name_of(Exit code);

/// {"error": {"code": 3, "kind": "not_found", "message": "..."}}, on one line.
std::string error_json(const CallError& error);

}  // namespace balloon::ctl

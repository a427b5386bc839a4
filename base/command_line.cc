// SPDX-License-Identifier: Apache-2.0
#include "base/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <sstream>
#include <vector>

#include "base/standard_output.h"
#include "base/suggest.h"

namespace balloon::command_line {
namespace {

/// "balloonctl policy"
std::string path_of(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : path_of(*app.get_parent()) + ' ' + app.get_name();
}

const CLI::App* find_command(const CLI::App& app, const std::string& word) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->check_name(word)) return command;
  }
  return nullptr;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

/// How many words without a dash it takes.
std::size_t places_of(const CLI::App& app) {
  std::size_t places = 0;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) places += static_cast<std::size_t>(option->get_items_expected_max());
  }
  return places;
}

bool is_number(const std::string& word) {
  return word.size() > 1 && std::isdigit(static_cast<unsigned char>(word[1])) != 0;
}

std::string unknown_flag(const CLI::App& app, const std::string& flag) {
  const auto meant = suggest(flag, flags_of(app));
  return fmt::format("unknown option '{}'{} (see {} --help)", flag,
                     meant ? fmt::format("; did you mean '{}'?", *meant) : "", path_of(app));
}

std::string unknown_command(const CLI::App& app, const std::string& word, std::span<const Foreign> foreign) {
  const std::string what = fmt::format("unknown command '{}'", word);
  const auto known = std::ranges::find(foreign, word, &Foreign::word);
  if (known != foreign.end() && app.get_parent() == nullptr)
    return fmt::format("{}; here it is {}", what, known->ours);
  const auto commands = commands_of(app);
  if (const auto meant = suggest(word, commands)) return fmt::format("{}; did you mean '{}'?", what, *meant);
  return fmt::format("{}; {} has {}", what, path_of(app), fmt::join(commands, ", "));
}

/// What is wrong with the first word that nothing takes. The library would name the words that are missing
/// instead, and these last.
std::optional<std::string> complaint_of_unknown(const CLI::App& root, int argc, const char* const* argv,
                                                std::span<const Foreign> foreign) {
  const CLI::App* app = &root;
  std::size_t places = places_of(*app);
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") return std::nullopt;
    if (word.size() > 1 && word[0] == '-' && !is_number(word)) {
      const bool is_long = word[1] == '-';
      const std::size_t equals = word.find('=');
      const std::string name = is_long ? word.substr(0, equals) : word.substr(0, 2);
      const CLI::Option* const option = app->get_option_no_throw(name);
      if (option == nullptr) return unknown_flag(*app, name);
      const bool has_value = is_long ? equals != std::string::npos : word.size() > 2;
      if (option->get_items_expected_max() > 0 && !has_value) ++i;
      continue;
    }
    if (const CLI::App* const command = find_command(*app, word)) {
      app = command;
      places = places_of(*app);
    } else if (places > 0) {
      --places;
    } else if (!commands_of(*app).empty()) {
      return unknown_command(*app, word, foreign);
    } else {
      return fmt::format("'{}' is one word too many for {} (see {} --help)", word, path_of(*app),
                         path_of(*app));
    }
  }
  return std::nullopt;
}

/// The innermost command that was given, whose help is meant.
const CLI::App& innermost(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app : innermost(*parsed.front());
}

}  // namespace

std::optional<Stop> parse(CLI::App& app, int argc, const char* const* argv,
                          std::span<const Foreign> foreign) {
  if (auto complaint = complaint_of_unknown(app, argc, argv, foreign))
    return Stop{.good = false, .text = std::move(*complaint)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      std::ostringstream text;
      app.exit(error, text, text);
      return Stop{.good = true, .text = text.str()};
    }
    const CLI::App& command = innermost(app);
    const std::string names = fmt::format("{}", fmt::join(commands_of(command), ", "));
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !names.empty()) {
      return Stop{.good = false,
                  .text = fmt::format("a command is missing: {} (see {} --help)", names, path_of(command))};
    }
    return Stop{.good = false, .text = fmt::format("{} (see {} --help)", error.what(), path_of(command))};
  }
  return std::nullopt;
}

int say(const Stop& stop, std::string_view program) {
  if (!stop.good) {
    fmt::print(stderr, "{}: {}\n", program, stop.text);
    return kExitUsage;
  }
  const auto printed = print_output(stop.text);
  if (printed) return 0;
  fmt::print(stderr, "{}: {}\n", program, printed.error().message);
  return kExitFailure;
}

int finish(int status, std::string_view program) {
  const auto printed = finish_output();
  if (printed) return status;
  fmt::print(stderr, "{}: {}\n", program, printed.error().message);
  return kExitFailure;
}

}  // namespace balloon::command_line

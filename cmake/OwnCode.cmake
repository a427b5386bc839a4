# SPDX-License-Identifier: Apache-2.0
# own_code: what every target of this project is compiled with (generated code is not: it is not ours to mend).
add_library(own_code INTERFACE)
target_include_directories(own_code INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(own_code INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Werror
  # GCC 12 reports false positives of these in the standard library's strings and containers.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict -Wno-maybe-uninitialized>
  # Everywhere, as some libraries' targets ask for it, and the precompiled headers suit one way only.
  -pthread
  $<$<CONFIG:Release>:-O2>)
target_link_libraries(own_code INTERFACE fmt::fmt)
target_compile_definitions(own_code INTERFACE BALLOON_VERSION="${PROJECT_VERSION}")
if(BALLOON_SANITIZE)
  # Not optimized, as most of the time goes to compiling; what simulates, decides or compares megabytes for minutes says so
  # (COMPUTES) and is, a little.
  # Debug information has lines only, enough for a report.
  target_compile_options(own_code INTERFACE -fsanitize=${BALLOON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1
    -O$<BOOL:$<TARGET_PROPERTY:COMPUTES>>)
  target_link_options(own_code INTERFACE -fsanitize=${BALLOON_SANITIZE})
  if(BALLOON_SANITIZE MATCHES "thread")
    # protobuf's headers give a map another layout where this is defined; Debian's library has the plain one.
    # libstdc++ is to know all the same: else it counts references in a way that looks like a race.
    target_compile_options(own_code INTERFACE -U__SANITIZE_THREAD__ -D_GLIBCXX_TSAN=1)
  endif()
  if(BALLOON_SANITIZE MATCHES "undefined")
    # Its vptr check probes memory through a pipe, and so reports falsely in tests that run out of file descriptors.
    target_compile_options(own_code INTERFACE -fno-sanitize=vptr)
  endif()
endif()

# Precompiled: what nearly every file includes, read once instead of hundreds of times: a small file takes half as long. Each file still
# includes what it uses (configure with -D CMAKE_DISABLE_PRECOMPILE_HEADERS=ON to see). One set for programs, one for tests.
set(common_headers <algorithm> <array> <atomic> <charconv> <chrono> <cstdint> <cstring> <deque> <expected> <filesystem> <functional> <map>
    <memory> <mutex> <optional> <span> <string> <string_view> <thread> <utility> <vector> <fmt/chrono.h> <fmt/format.h>)
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/precompiled.cc CONTENT "")
add_library(precompiled OBJECT ${PROJECT_BINARY_DIR}/precompiled.cc)
target_link_libraries(precompiled PRIVATE own_code)
target_precompile_headers(precompiled PRIVATE ${common_headers})
if(BALLOON_TESTS)
  add_library(precompiled_tests OBJECT ${PROJECT_BINARY_DIR}/precompiled.cc)
  target_link_libraries(precompiled_tests PRIVATE own_code GTest::gmock)
  target_precompile_headers(precompiled_tests PRIVATE ${common_headers} <gmock/gmock.h> <gtest/gtest.h>)
endif()

# precompile(TARGET SET COMPUTES): the target uses that set of precompiled headers, which suits one level of optimization only.
function(precompile target set computes)
  set_target_properties(${target} PROPERTIES COMPUTES ${computes})
  if(NOT (computes AND BALLOON_SANITIZE))
    target_precompile_headers(${target} REUSE_FROM ${set})
  endif()
endfunction()

# balloon_library(NAME SOURCES... [LINK targets...] [COMPUTES]): a static library of our own code.
function(balloon_library name)
  cmake_parse_arguments(arg "COMPUTES" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC own_code ${arg_LINK})
  precompile(${name} precompiled ${arg_COMPUTES})
endfunction()

# balloon_program(NAME SOURCES... [LINK targets...]): a program in build/bin.
function(balloon_program name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE own_code ${arg_LINK})
  target_precompile_headers(${name} REUSE_FROM precompiled)
  add_dependencies(host_tests ${name})
endfunction()

# grpc_proto_library(NAME STEM): a library of one of the .proto files that come with gRPC (package grpc-proto), STEM without the
# suffix. By protoc itself: protobuf_generate() misplaces what it makes of files outside the current directory.
function(grpc_proto_library name stem)
  set(root /usr/share/grpc-proto)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${stem})
  add_custom_command(
    OUTPUT ${out}.pb.cc ${out}.pb.h ${out}.grpc.pb.cc ${out}.grpc.pb.h
    COMMAND protobuf::protoc -I ${root} --cpp_out ${CMAKE_CURRENT_BINARY_DIR} --grpc_out ${CMAKE_CURRENT_BINARY_DIR}
            --plugin protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin> ${stem}.proto
    DEPENDS ${root}/${stem}.proto
    VERBATIM)
  add_library(${name} STATIC ${out}.pb.cc ${out}.grpc.pb.cc)
  target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf gRPC::grpc++)
endfunction()

# unit_tests: builds all tests labelled unit. host_tests: builds the others, which need KVM or the programs, and all programs.
add_custom_target(unit_tests)
add_custom_target(host_tests)

# balloon_test(NAME SOURCES... [LINK targets...] [LABELS labels...] [COMPUTES]): one GoogleTest program, one CTest entry a case.
function(balloon_test name)
  cmake_parse_arguments(arg "COMPUTES" "" "LINK;LABELS" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE own_code ${arg_LINK} GTest::gmock GTest::gtest_main)
  precompile(${name} precompiled_tests ${arg_COMPUTES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  if("unit" IN_LIST arg_LABELS)
    add_dependencies(unit_tests ${name})
  else()
    add_dependencies(host_tests ${name})
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 1200 LABELS "${arg_LABELS}")
endfunction()
include(GoogleTest)

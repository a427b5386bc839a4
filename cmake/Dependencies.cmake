# SPDX-License-Identifier: Apache-2.0
# Everything comes from Debian 12; scripts/install-deps.sh installs it.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)  # before gRPC, whose config would look for it in a way that fails
find_package(gRPC CONFIG REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(fmt CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(pugixml CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(libsystemd REQUIRED IMPORTED_TARGET libsystemd)
option(BALLOON_LIBVIRT "Build the backend for libvirt, a library that balloond loads where it is configured" ON)
if(BALLOON_LIBVIRT)
  pkg_check_modules(libvirt REQUIRED libvirt>=7.2)
endif()
# Only its library: the definitions that it asks for are g++'s own, and the precompiled headers suit none.
pkg_check_modules(ncursesw REQUIRED ncursesw)
pkg_check_modules(smartcols REQUIRED IMPORTED_TARGET smartcols)
if(NOT TARGET yaml-cpp::yaml-cpp)  # the name since yaml-cpp 0.8
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
if(BALLOON_TESTS)
  find_package(GTest CONFIG REQUIRED)
  find_package(benchmark CONFIG REQUIRED)
endif()

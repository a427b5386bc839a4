# SPDX-License-Identifier: Apache-2.0
# static_grpc: gRPC without TLS, protobuf and all that they need, as archives. Debian's CMake files for gRPC know its shared libraries
# only. With those a VMM loads 60 libraries, and takes five times as long and three times the page faults until its main(): once for
# each guest. So the VMM links these; nothing else does, and no program may link both.
pkg_check_modules(GRPC_UNSECURE REQUIRED grpc++_unsecure grpc_unsecure)
set(archives grpc++_unsecure grpc_unsecure gpr upb address_sorting cares re2 z protobuf)
foreach(name IN LISTS GRPC_UNSECURE_STATIC_LIBRARIES)
  if(name MATCHES "^absl_")
    list(APPEND archives ${name})
  endif()
endforeach()
list(REMOVE_DUPLICATES archives)
set(paths)
foreach(name IN LISTS archives)
  find_library(ARCHIVE_${name} lib${name}.a REQUIRED)
  mark_as_advanced(ARCHIVE_${name})
  list(APPEND paths ${ARCHIVE_${name}})
endforeach()
list(JOIN paths "," paths)
add_library(static_grpc INTERFACE)
target_link_libraries(static_grpc INTERFACE "$<LINK_GROUP:RESCAN,${paths}>" Threads::Threads)

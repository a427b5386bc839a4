# SPDX-License-Identifier: Apache-2.0
# The Debian packages. Dependencies on libraries are found by dpkg-shlibdeps.
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL ${packages})
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_SET_DESTDIR ON)  # the only way by which CPack takes files of /etc and /lib along
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # else the project's own would be the first line of each package's
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_PACKAGE_CONTACT "balloond maintainers <maintainers@balloond.example>")
set(CPACK_PACKAGE_VENDOR "balloond maintainers")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

# package_of(NAME DEPENDS RECOMMENDS SUGGESTS SUMMARY TEXT [CONTROL...]): one component's own fields and maintainer scripts.
macro(package_of name depends recommends suggests summary text)
  string(TOUPPER ${name} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${depends}")
  set(CPACK_DEBIAN_${upper}_PACKAGE_RECOMMENDS "${recommends}")
  set(CPACK_DEBIAN_${upper}_PACKAGE_SUGGESTS "${suggests}")
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${summary}\n${text}")
  file(GLOB control CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/debian/${name}/*)
  set(CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA ${control})
endmacro()

# Who makes users and directories as sysusers.d and tmpfiles.d say: systemd, or its stand-alone tools.
set(users_and_directories "init-system-helpers (>= 1.54), systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles")

package_of(balloond "${users_and_directories}" "balloonctl" "balloon-vmm, balloond-libvirt, qemu-system-x86, prometheus"
  "memory overcommit for KVM guests by continuous ballooning"
  "balloond lets one KVM host run more guest memory than it has RAM. It watches\nwhat each guest uses and what the host has free, and moves virtio balloons so\nthat memory is where it is needed. It manages guests of balloon-vmm and\nQEMU, with balloond-libvirt those of libvirt too; is configured by YAML\npolicies, speaks gRPC, and exports metrics.")
# Of the same version as the daemon, which refuses another one.
package_of(balloond-libvirt "balloond (= ${PROJECT_VERSION})" "" "libvirt-daemon-system"
  "memory overcommit for KVM guests - guests of libvirt"
  "With this package balloond manages the running domains of a libvirtd beside\nits other guests, once backends.libvirt in its configuration names that\nlibvirtd.")
package_of(balloon-vmm "${users_and_directories}" "balloond" "balloonctl"
  "lightweight virtual machine monitor for KVM"
  "balloon-vmm runs one Linux guest in one process, with virtio devices: balloon,\nblock, network, console and random numbers. It boots distribution kernels\ndirectly, and reports the guest's memory to balloond, which moves its balloon.")
package_of(balloonctl "" "" "balloond"
  "shows and sets the memory of a host's guests"
  "balloonctl asks balloond for its guests and says why each has the size it has.\nIt pins sizes, reserves memory for guests to be, checks policy files, and says\nwhat a host lacks.")
package_of(balloon-sim "" "" "balloond"
  "simulator of memory control laws for virtual machines"
  "balloon-sim runs balloond's engine, and those of other controllers, against a\nmodel of a host and its guests, and scores them. It also decides again what a\nballoond recorded, by the same or another policy.")

include(CPack)

// SPDX-License-Identifier: Apache-2.0
// Numbers that the guest's drivers know by heart: ours are those of Linux' own headers.
#include <gtest/gtest.h>
#define VIRTIO_RING_NO_LEGACY  // its legacy part is C only
#include <linux/if_tun.h>
#include <linux/pci_regs.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
// C only: one of its fields is named `class`.
#define class of_class
#include <linux/virtio_net.h>
#undef class

#include "vmm/devices/balloon/balloon.h"
#include "vmm/devices/block/block.h"
#include "vmm/devices/console/console.h"
#include "vmm/devices/net/header.h"
#include "vmm/devices/net/offloads.h"
#include "vmm/pci/config_space.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/virtio_pci.h"
#include "vmm/virtio/virtio_mmio.h"

namespace balloon::vmm {
namespace {

struct Bit {
  std::uint64_t ours;
  unsigned linuxs;
};
void expect_the_same(std::initializer_list<Bit> bits) {
  for (const Bit& bit : bits) EXPECT_EQ(bit.ours, 1ULL << bit.linuxs) << "bit " << bit.linuxs;
}

TEST(VirtioNumbers, FeaturesOfEveryDevice) {
  expect_the_same({{kFeatureAnyLayout, VIRTIO_F_ANY_LAYOUT},
                   {kFeatureIndirectDesc, VIRTIO_RING_F_INDIRECT_DESC},
                   {kFeatureEventIdx, VIRTIO_RING_F_EVENT_IDX},
                   {kFeatureVersion1, VIRTIO_F_VERSION_1},
                   {kFeatureRingPacked, VIRTIO_F_RING_PACKED},
                   {kFeatureRingReset, VIRTIO_F_RING_RESET}});
}

TEST(VirtioNumbers, FeaturesOfTheBalloon) {
  expect_the_same({{Balloon::kFeatureMustTellHost, VIRTIO_BALLOON_F_MUST_TELL_HOST},
                   {Balloon::kFeatureStats, VIRTIO_BALLOON_F_STATS_VQ},
                   {Balloon::kFeatureDeflateOnOom, VIRTIO_BALLOON_F_DEFLATE_ON_OOM},
                   {Balloon::kFeatureHinting, VIRTIO_BALLOON_F_FREE_PAGE_HINT},
                   {Balloon::kFeaturePagePoison, VIRTIO_BALLOON_F_PAGE_POISON},
                   {Balloon::kFeatureReporting, VIRTIO_BALLOON_F_REPORTING}});
}

TEST(VirtioNumbers, FeaturesOfADisk) {
  expect_the_same({{Block::kFeatureSizeMax, VIRTIO_BLK_F_SIZE_MAX},
                   {Block::kFeatureSegMax, VIRTIO_BLK_F_SEG_MAX},
                   {Block::kFeatureReadOnly, VIRTIO_BLK_F_RO},
                   {Block::kFeatureBlkSize, VIRTIO_BLK_F_BLK_SIZE},
                   {Block::kFeatureFlush, VIRTIO_BLK_F_FLUSH},
                   {Block::kFeatureTopology, VIRTIO_BLK_F_TOPOLOGY},
                   {Block::kFeatureConfigWce, VIRTIO_BLK_F_CONFIG_WCE},
                   {Block::kFeatureMultiQueue, VIRTIO_BLK_F_MQ},
                   {Block::kFeatureDiscard, VIRTIO_BLK_F_DISCARD},
                   {Block::kFeatureWriteZeroes, VIRTIO_BLK_F_WRITE_ZEROES}});
  EXPECT_EQ(BlockSegment::kUnmap, std::uint32_t{VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP});
  EXPECT_EQ(Block::kSerialMax, std::size_t{VIRTIO_BLK_ID_BYTES});
  EXPECT_EQ(kSectorSize, 512U);
}

TEST(VirtioNumbers, FeaturesOfANetworkDevice) {
  using namespace net_feature;
  expect_the_same({{kCsum, VIRTIO_NET_F_CSUM},
                   {kGuestCsum, VIRTIO_NET_F_GUEST_CSUM},
                   {kCtrlGuestOffloads, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS},
                   {kMtu, VIRTIO_NET_F_MTU},
                   {kMac, VIRTIO_NET_F_MAC},
                   {kGuestTso4, VIRTIO_NET_F_GUEST_TSO4},
                   {kGuestTso6, VIRTIO_NET_F_GUEST_TSO6},
                   {kGuestEcn, VIRTIO_NET_F_GUEST_ECN},
                   {kGuestUfo, VIRTIO_NET_F_GUEST_UFO},
                   {kHostTso4, VIRTIO_NET_F_HOST_TSO4},
                   {kHostTso6, VIRTIO_NET_F_HOST_TSO6},
                   {kHostEcn, VIRTIO_NET_F_HOST_ECN},
                   {kHostUfo, VIRTIO_NET_F_HOST_UFO},
                   {kMrgRxbuf, VIRTIO_NET_F_MRG_RXBUF},
                   {kStatus, VIRTIO_NET_F_STATUS},
                   {kCtrlVq, VIRTIO_NET_F_CTRL_VQ},
                   {kCtrlRx, VIRTIO_NET_F_CTRL_RX},
                   {kGuestAnnounce, VIRTIO_NET_F_GUEST_ANNOUNCE},
                   {kMq, VIRTIO_NET_F_MQ},
                   {kCtrlMacAddr, VIRTIO_NET_F_CTRL_MAC_ADDR},
                   // VIRTIO_NET_F_GUEST_USO4, ..._GUEST_USO6, ..._HOST_USO of Linux 6.2
                   {kGuestUso4, 54},
                   {kGuestUso6, 55},
                   {kHostUso, 56}});
}

TEST(VirtioNumbers, WhatTheHeaderOfAFrameSays) {
  EXPECT_EQ(NetHeader::kNeedsCsum, VIRTIO_NET_HDR_F_NEEDS_CSUM);
  EXPECT_EQ(NetHeader::kGsoNone, VIRTIO_NET_HDR_GSO_NONE);
  EXPECT_EQ(NetHeader::kGsoTcp4, VIRTIO_NET_HDR_GSO_TCPV4);
  EXPECT_EQ(NetHeader::kGsoUdp, VIRTIO_NET_HDR_GSO_UDP);
  EXPECT_EQ(NetHeader::kGsoTcp6, VIRTIO_NET_HDR_GSO_TCPV6);
  EXPECT_EQ(NetHeader::kGsoUdpSegments, 5) << "VIRTIO_NET_HDR_GSO_UDP_L4 of Linux 6.2";
  EXPECT_EQ(NetHeader::kGsoEcn, VIRTIO_NET_HDR_GSO_ECN);
}

TEST(VirtioNumbers, OffloadsOfATap) {
  EXPECT_EQ(tun_offload::kCsum, unsigned{TUN_F_CSUM});
  EXPECT_EQ(tun_offload::kTso4, unsigned{TUN_F_TSO4});
  EXPECT_EQ(tun_offload::kTso6, unsigned{TUN_F_TSO6});
  EXPECT_EQ(tun_offload::kEcn, unsigned{TUN_F_TSO_ECN});
  EXPECT_EQ(tun_offload::kTso, unsigned{TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN});
  EXPECT_EQ(tun_offload::kUfo, unsigned{TUN_F_UFO});
  EXPECT_EQ(tun_offload::kUso4, 0x20U) << "TUN_F_USO4 of Linux 6.2";
  EXPECT_EQ(tun_offload::kUso6, 0x40U) << "TUN_F_USO6 of Linux 6.2";
  EXPECT_EQ(tun_offload::kUso, 0x60U);
}

TEST(VirtioNumbers, TheEmergencyWriteOfAConsole) {
  expect_the_same({{Console::kFeatureEmergencyWrite, VIRTIO_CONSOLE_F_EMERG_WRITE}});
}

TEST(VirtioNumbers, DescriptorsOfARing) {
  EXPECT_EQ(kDescriptorNext, VRING_DESC_F_NEXT);
  EXPECT_EQ(kDescriptorWrite, VRING_DESC_F_WRITE);
  EXPECT_EQ(kDescriptorIndirect, VRING_DESC_F_INDIRECT);
  EXPECT_EQ(kDescriptorSize, sizeof(vring_desc));
  EXPECT_EQ(kDescriptorsAlign, unsigned{VRING_DESC_ALIGN_SIZE});
  EXPECT_EQ(kMaxQueueSize, 32768) << "2.7: the largest power of two in 16 bits";
}

TEST(VirtioNumbers, TheStatusOfADeviceAndItsInterrupts) {
  using namespace virtio_transport;
  EXPECT_EQ(kAcknowledge, VIRTIO_CONFIG_S_ACKNOWLEDGE);
  EXPECT_EQ(kDriver, VIRTIO_CONFIG_S_DRIVER);
  EXPECT_EQ(kDriverOk, VIRTIO_CONFIG_S_DRIVER_OK);
  EXPECT_EQ(kFeaturesOk, VIRTIO_CONFIG_S_FEATURES_OK);
  EXPECT_EQ(kNeedsReset, VIRTIO_CONFIG_S_NEEDS_RESET);
  EXPECT_EQ(kFailed, VIRTIO_CONFIG_S_FAILED);
  EXPECT_EQ(kIsrQueue, VIRTIO_MMIO_INT_VRING);
  EXPECT_EQ(kIsrConfig, VIRTIO_MMIO_INT_CONFIG);
  EXPECT_EQ(kIsrConfig, VIRTIO_PCI_ISR_CONFIG);
}

TEST(VirtioNumbers, PlacesInTheWindowOfAMemoryMappedDevice) {
  EXPECT_EQ(virtio_mmio::kNotify, unsigned{VIRTIO_MMIO_QUEUE_NOTIFY});
  EXPECT_EQ(virtio_mmio::kConfig, unsigned{VIRTIO_MMIO_CONFIG});
  EXPECT_EQ(virtio_mmio::kWindow, 0x1000U) << "a page, as the command line and the ACPI tables say";
}

TEST(VirtioNumbers, PlacesInTheLegacyInterface) {
  EXPECT_EQ(virtio_pci::kLegacyHeader, unsigned{VIRTIO_PCI_CONFIG_OFF(false)});
  EXPECT_EQ(virtio_pci::kLegacyHeaderMsix, unsigned{VIRTIO_PCI_CONFIG_OFF(true)});
  EXPECT_EQ(virtio_pci::kLegacyNotify, unsigned{VIRTIO_PCI_QUEUE_NOTIFY});
  EXPECT_EQ(virtio_pci::kLegacyNotifySize, 2U);
  EXPECT_EQ(virtio_pci::kNoVector, VIRTIO_MSI_NO_VECTOR);
}

TEST(VirtioNumbers, AKickIsAWriteOf16BitsWithAnyValueUnlessItsDeviceSaysOtherwise) {
  EXPECT_EQ(Doorbell{}.width, 2);
  EXPECT_EQ(Doorbell{}.value, -1) << "what KVM's side takes for any value";
}

TEST(PciNumbers, RegistersOfTheConfigurationSpaceAndOfMsix) {
  EXPECT_EQ(PciConfigSpace::kCommand, unsigned{PCI_COMMAND});
  EXPECT_EQ(PciConfigSpace::kStatus, unsigned{PCI_STATUS});
  EXPECT_EQ(PciConfigSpace::kCommandIo, PCI_COMMAND_IO);
  EXPECT_EQ(PciConfigSpace::kCommandMemory, PCI_COMMAND_MEMORY);
  EXPECT_EQ(PciConfigSpace::kCommandNoPin, PCI_COMMAND_INTX_DISABLE);
  EXPECT_EQ(PciConfigSpace::kStatusPin, PCI_STATUS_INTERRUPT);
  EXPECT_EQ(Msix::kCapabilityId, PCI_CAP_ID_MSIX);
  EXPECT_EQ(Msix::kControlEnable, PCI_MSIX_FLAGS_ENABLE);
  EXPECT_EQ(Msix::kControlFunctionMask, PCI_MSIX_FLAGS_MASKALL);
  EXPECT_EQ(Msix::kEntrySize, unsigned{PCI_MSIX_ENTRY_SIZE});
}

}  // namespace
}  // namespace balloon::vmm

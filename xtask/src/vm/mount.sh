#!/bin/busybox sh
# /init of the initramfs: finds the disk and hands over to its /sbin/boot, as an initramfs does.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mkdir -p /dev /proc /sys /disk
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
modprobe -a virtio_pci virtio_blk ext4
while [ ! -b /dev/vda ]; do busybox usleep 50000; done
busybox mount -t ext4 -o rw /dev/vda /disk || exec busybox poweroff -f
busybox cp -r /scenario /disk/
for folder in dev proc sys; do busybox mount --move /$folder /disk/$folder; done
exec busybox switch_root /disk /sbin/boot

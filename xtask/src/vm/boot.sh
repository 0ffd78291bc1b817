#!/bin/sh
# PID 1 of the guest. It stands in for systemd: it runs systemd's own programs, and the firewall
# after them, in the order of their units (systemd-sysctl.service comes after
# systemd-modules-load.service, nftables.service after both). Then come the steps of this boot.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_COLOR=0
# As systemd sets it for services; the kernel's own is 4,096.
ulimit -n 524288
/bin/busybox mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
mkdir -p /run/netns /run/lock
hostname small-guest

boot=$(($(cat /boot-count 2>/dev/null || echo 0) + 1))
echo $boot > /boot-count
stty -F /dev/ttyS1 raw -echo
# The report stays open: a close waits only so long for what the device has not sent, and drops the
# rest, which a busy host's emulation is slow to take.
exec 3> /dev/ttyS1

# step NAME COMMAND…: runs it and reports what it said and how it ended.
step() {
    name=$1
    shift
    echo "boot $boot: $name" > /dev/console
    "$@" > /run/out 2> /run/err < /dev/null 3>&-
    code=$?
    {
        echo "@@begin $boot $name"
        cat /run/out
        echo "@@errors"
        cat /run/err
        echo "@@end $code"
    } >&3
}
doctor() {
    name=$1
    shift
    step "$name" ctkeeper doctor --json --no-note "$@"
}
values() {
    step "values-$1" cat /proc/sys/net/netfilter/nf_conntrack_max \
        /proc/sys/net/netfilter/nf_conntrack_buckets
}
firewall() {
    step firewall nft -f /etc/nftables.conf
}

step modules-load /lib/systemd/systemd-modules-load
step sysctl /lib/systemd/systemd-sysctl
ip link set lo up
[ -e /etc/firewall-enabled ] && firewall
. /scenario/boot-$boot.sh

echo "@@over $boot" >&3
sync
# Changing the settings waits until everything is sent.
stty -F /dev/ttyS1 -echo
mount -o remount,ro /
[ -e /scenario/boot-$((boot + 1)).sh ] && reboot -f
poweroff -f

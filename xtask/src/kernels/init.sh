#!/bin/busybox sh
# Process 1 of a guest: mounts what every host has mounted, and reports on the serial port that the kernel's command line names.
# Messages go to the other, the console.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in inet_diag tcp_diag mptcp_diag; do
  if [ -e /modules/$module.ko ]; then insmod /modules/$module.ko; fi
done
sh /report.sh /bin/tcpwatch /bin/suite >"/dev/$report_port"
poweroff -f

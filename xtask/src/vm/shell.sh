# The boot of `cargo xtask vm shell`: a console for a human.
[ -n "$terminal_rows" ] && stty rows "$terminal_rows" cols "$terminal_columns"
export HOME=/root PS1="[$(uname -r) \\w]# "
cd /root
cat <<'WORDS'

A throwaway machine: Ctrl-A X leaves, so does `exit`. Connection tracking is not loaded yet.

  ctkeeper                          judge this machine
  nft -f /etc/nftables.conf         load a firewall that tracks connections
  echo 1000 > /proc/sys/net/netfilter/nf_conntrack_max
  guest-load datagrams 2000 500     two thousand new connections, 500 a second

WORDS
setsid cttyhack bash --norc

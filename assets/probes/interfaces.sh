# $1 the folder of interfaces (/sys/class/net), $2 the table of routes (/proc/net/route).
line() { v='?'; [ -r "$1" ] && IFS= read -r v 2>/dev/null <"$1"; printf '%s' "$v"; }
for i in "$1"/*; do
  [ -e "$i/mtu" ] && say interface "${i##*/}" "$(line "$i/mtu")" "$(line "$i/operstate")" "$(line "$i/speed")"
done
[ -r "$2" ] && while read -r i d rest; do
  [ "$d" = 00000000 ] && say default "$i"
done <"$2"
if have ip; then
  ip -o addr show 2>/dev/null | while read -r n i family a rest; do
    case $family in inet|inet6) say address "${i%%@*}" "${a%%/*}" ;; esac
  done
elif have python3; then
  python3 -I -S -c '
import fcntl, os, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for name in sorted(os.listdir(sys.argv[1])):
    try:
        a = fcntl.ioctl(s.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))[20:24]
        print("address\t%s\t%s" % (name, socket.inet_ntoa(a)))
    except OSError: pass
' "$1"
else
  say absent address ip
fi
exit 0

# $1 the folder (/dev/shm): its size, KiB.
if have df; then
  df -P -k "$1" 2>/dev/null | tail -n 1 | while read -r fs all used free rest; do say shm "$all" "$used" "$free" "$fs"; done
elif have python3; then
  python3 -I -S -c '
import os, sys
s = os.statvfs(sys.argv[1])
k = s.f_frsize / 1024
print("shm\t%d\t%d\t%d\tstatvfs" % (s.f_blocks * k, (s.f_blocks - s.f_bfree) * k, s.f_bavail * k))
' "$1"
else
  say absent shm df
fi

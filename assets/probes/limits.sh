# $1 the folder of processes (/proc), $2 that of the control group (/sys/fs/cgroup): limits and memory.
proc=$1; group=$2
if [ -r "$proc/1/limits" ]; then
  while IFS= read -r l; do
    case $l in
      'Max locked memory'*|'Max open files'*|'Max stack size'*)
        n=$(printf '%s' "$l" | cut -c1-25 | sed 's/ *$//')
        set -- $(printf '%s' "$l" | cut -c26-)
        say limit "$n" "${1-}" "${2-}" ;;
    esac
  done <"$proc/1/limits"
else
  say limit 'Max locked memory' "$(ulimit -l 2>/dev/null || echo '?')" own
fi
if [ -r "$proc/1/status" ]; then
  c=$(sed -n 's/^CapEff:[[:space:]]*//p' <"$proc/1/status")
  [ -n "$c" ] && say cap "$c"
fi
one() { if [ -r "$2" ]; then read -r v <"$2"; say memory "$1" "$v"; fi; }
if [ -r "$group/memory.max" ]; then
  one max "$group/memory.max"
  one current "$group/memory.current"
  [ -r "$group/memory.stat" ] && grep -E '^(anon|shmem) ' <"$group/memory.stat" | while read -r k v; do say memory "$k" "$v"; done
  [ -r "$group/memory.events" ] && grep '^oom_kill ' <"$group/memory.events" | while read -r k v; do say memory "$k" "$v"; done
  [ -r "$group/memory.pressure" ] && sed -n 's/^full avg10=\([0-9.]*\).*/\1/p' <"$group/memory.pressure" | while read -r v; do say memory pressure "$v"; done
elif [ -r "$group/memory/memory.limit_in_bytes" ]; then
  one max "$group/memory/memory.limit_in_bytes"
  one current "$group/memory/memory.usage_in_bytes"
  grep -E '^total_(rss|shmem) ' <"$group/memory/memory.stat" 2>/dev/null | while read -r k v; do
    case $k in total_rss) say memory anon "$v" ;; *) say memory shmem "$v" ;; esac
  done
fi
exit 0

# $1 the folder of devices (/sys/class/infiniband), $2 that of device files (/dev/infiniband).
sys=$1; dev=$2
line() { v='?'; [ -r "$1" ] && IFS= read -r v <"$1"; printf '%s' "$v"; }
for f in "$dev"/uverbs* "$dev"/rdma_cm; do [ -e "$f" ] && say file "${f##*/}"; done
for d in "$sys"/*; do
  [ -d "$d" ] || continue
  n=${d##*/}
  u=; for v in "$d"/device/infiniband_verbs/uverbs*; do [ -e "$v" ] && u=${v##*/}; done
  say device "$n" "$u"
  for p in "$d"/ports/*; do
    [ -d "$p" ] || continue
    k=${p##*/}
    say port "$n" "$k" "$(line "$p/state")" "$(line "$p/phys_state")" "$(line "$p/rate")" "$(line "$p/link_layer")"
    c=0
    for g in "$p"/gids/*; do
      i=${g##*/}
      a=$(line "$g")
      case $a in 0000:0000:0000:0000:0000:0000:0000:0000|fe80:0000:0000:0000:0000:0000:0000:0000|'?') continue ;; esac
      c=$((c + 1)); [ $c -gt 32 ] && break
      say gid "$n" "$k" "$i" "$a" "$(line "$p/gid_attrs/types/$i" 2>/dev/null)" "$(line "$p/gid_attrs/ndevs/$i" 2>/dev/null)"
    done
  done
  for m in "$d"/device/net/*; do
    [ -d "$m" ] && say net "$n" "${m##*/}" "$(line "$m/mtu")"
  done
done
exit 0

# $1 a name to resolve or nothing, $2 the port, then addresses: are they reached? Refused is reached.
name=$1; port=$2; shift 2
if have python3; then
  say tool python3
  exec python3 -I -S -c '
import socket, sys, threading, time
name, port, peers = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
words = lambda e: " ".join(str(e).split())[:120]
lines = {}
def resolve():
    try:
        found = {a[4][0] for a in socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)}
        lines[name] = "dns\t%s\t%s" % (name, " ".join(sorted(found)))
    except OSError as e:
        lines[name] = "nodns\t%s\t%s" % (name, words(e))
def reach(peer):
    begun = time.time()
    try:
        socket.create_connection((peer, port), 3).close()
        what, why = "open", ""
    except ConnectionRefusedError:
        what, why = "refused", ""
    except (socket.timeout, TimeoutError):
        what, why = "timeout", ""
    except OSError as e:
        what, why = ("no-route" if e.errno in (101, 113) else "error"), words(e)
    lines[peer] = "tcp\t%s\t%d\t%s\t%.1f\t%s" % (peer, port, what, (time.time() - begun) * 1000, why)
jobs = [threading.Thread(target=reach, args=(p,), daemon=True) for p in peers]
if name:
    lines[name] = "nodns\t%s\tno answer within 6 s" % name
    jobs.append(threading.Thread(target=resolve, daemon=True))
for j in jobs: j.start()
end = time.time() + 6
for j in jobs: j.join(max(0, end - time.time()))
for l in ([name] if name else []) + peers:
    print(lines.get(l, "tcp\t%s\t%d\ttimeout\t\t" % (l, port)))
sys.stdout.flush()
import os; os._exit(0)
' "$name" "$port" "$@"
fi
if [ -n "$name" ]; then
  if have getent; then
    if a=$(within 6 getent ahosts "$name"); then
      say dns "$name" "$(printf '%s\n' "$a" | cut -d' ' -f1 | sort -u | tr '\n' ' ')"
    else
      say nodns "$name" "not found"
    fi
  else
    say absent dns getent
  fi
fi
if have bash && have timeout; then
  say tool bash
  for p in "$@"; do
    e=$(timeout 3 bash -c ': <>"/dev/tcp/$1/$2"' _ "$p" "$port" 2>&1); r=$?
    case $r/$e in
      0/*) say tcp "$p" "$port" open '' '' ;;
      124/*) say tcp "$p" "$port" timeout '' '' ;;
      *refused*) say tcp "$p" "$port" refused '' '' ;;
      *'o route'*|*unreachable*) say tcp "$p" "$port" no-route '' '' ;;
      *) say tcp "$p" "$port" error '' "$(printf '%s' "$e" | tail -n 1 | tail -c 120)" ;;
    esac
  done
elif have nc; then
  say tool nc
  for p in "$@"; do
    e=$(within 5 nc -v -z -w 3 "$p" "$port" 2>&1); r=$?
    case $r/$e in
      0/*) say tcp "$p" "$port" open '' '' ;;
      *refused*) say tcp "$p" "$port" refused '' '' ;;
      *imed*out*|124/*) say tcp "$p" "$port" timeout '' '' ;;
      *) say tcp "$p" "$port" error '' "$(printf '%s' "$e" | tail -n 1 | tail -c 120)" ;;
    esac
  done
else
  say tool none
fi

# ncclscope's sampler: prints what GPUs and container do, until whoever started it is gone. Reads only. One measures
# per container; who comes later prints what the first left beside its lock, and takes over when nothing new comes.
# $1 seconds between two looks at the container  $2 milliseconds between two rounds of nvidia-smi
# $3 fields every driver knows  $4 fields of recent ones, @ for the word that changed  $5 folder of the model or nothing
# $6 cgroup's root  $7 proc  $8 folders that may hold the lock  $9 whose lock it is: folders may be shared by a host
every=$1 ms=$2 core=$3 more=$4 model=$5 cg=$6 proc=$7
me=$$ boss=$PPID leads= gpu= idle=0 hs= gs= dir= o=
say() { printf '%s\n' "$1"; }
# The lock: a folder of our own, and in it a file that only one can create.
for p in $8; do
  dir=$p/.ncclscope-$9
  mkdir -m 700 "$dir" 2>/dev/null
  [ -d "$dir" ] && [ ! -L "$dir" ] && [ -O "$dir" ] && [ -w "$dir" ] && break
  dir=
done
owned() {
  [ "$dir" ] || return 0
  o=; [ -r "$dir/owner" ] && read -r o <"$dir/owner"
  [ "$o" = "$me" ]
}
# Leaves lines for those who come later; the last one proves that they are whole.
leave() { [ -z "$dir" ] || printf '%s\nend %s\n' "$3" "$2" >"$dir/$1"; }
# Prints what was left, if it is whole and new; fresh is its number.
fetch() {
  t= fresh=
  [ -r "$dir/$1" ] || return 1
  while IFS= read -r l; do
    case $l in
    "end "*) fresh=${l#end };;
    *) t="$t$l
";;
    esac
  done <"$dir/$1"
  [ "$fresh" ] && [ "$fresh" != "$2" ] && printf %s "$t"
}
# Passes nvidia-smi's lines on, and leaves each round of them.
relay() {
  pid= first= block= n=0
  trap 'kill $pid; exit' TERM
  while IFS= read -r l; do
    case $l in
    "pid "*) pid=${l#pid }; continue;;
    "rc "*) l="trouble why=nvidia-smi ended with ${l#rc }";;
    esac
    say "$l"
    kill -0 $me || { kill $pid; exit; }
    i=${l%%,*}
    if [ "$i" = "$first" ]; then n=$((n+1)); leave gpu "$me.$n" "$block"; block=; fi
    first=${first:-$i}
    block="${block:+$block
}$l"
  done
} 2>/dev/null
gpus() {
  now= wait=1 smi= begun=
  trap 'kill $now 2>/dev/null; exit' TERM
  for p in nvidia-smi /usr/bin/nvidia-smi /usr/local/nvidia/bin/nvidia-smi; do
    command -v $p >/dev/null 2>&1 && { smi=$p; break; }
  done
  [ "$smi" ] || { say "trouble why=no nvidia-smi in this container: NVIDIA_DRIVER_CAPABILITIES needs utility"; exit; }
  f=--format=csv,noheader,nounits
  while :; do
    begun=$(date +%s)
    # One field that the driver does not know makes a whole query fail.
    for q in "$core,${more%@*}event${more#*@},name" "$core,${more%@*}throttle${more#*@},name" "$core,name"; do
      $smi --query-gpu="$q" $f >/dev/null 2>&1 && break
    done
    { $smi --query-gpu="$q" $f --loop-ms=$ms 2>&1 & say "pid $!"; wait $!; say "rc $?"; } | relay &
    now=$!; wait $now
    # It was well for a minute: the next wait is short again.
    [ $(($(date +%s)-begun)) -lt 60 ] || wait=1
    sleep $wait >/dev/null 2>&1 & now=$!; wait $now
    [ $wait -lt 32 ] && wait=$((wait*2))
  done
}
get() { v=; [ -r "$cg/$1" ] && read -r v <"$cg/$1"; }
host() {
  ver= mem= max= anon= file= shm= swap= cpu= ns= blk= oom=
  if [ -f "$cg/cgroup.controllers" ]; then
    ver=2
    get memory.current; mem=$v; get memory.max; max=$v; get memory.swap.current; swap=$v
    while read -r k v; do case $k in anon) anon=$v;; file) file=$v;; shmem) shm=$v; break;; esac; done <"$cg/memory.stat"
    read -r k cpu <"$cg/cpu.stat"
    while read -r k v; do [ "$k" = oom_kill ] && oom=$v; done <"$cg/memory.events"
    while read -r k l; do for v in $l; do case $v in rbytes=*) blk=$((blk+${v#rbytes=}));; esac; done; done <"$cg/io.stat"
  else
    get memory/memory.usage_in_bytes; mem=$v; ver=${v:+1}; get memory/memory.limit_in_bytes; max=$v; get cpuacct/cpuacct.usage; ns=$v
    while read -r k v; do case $k in cache) file=$v;; rss) anon=$v;; shmem) shm=$v;; swap) swap=$v; break;; esac; done <"$cg/memory/memory.stat"
    while read -r k v; do [ "$k" = oom_kill ] && oom=$v; done <"$cg/memory/memory.oom_control"
    while read -r d k v; do [ "$k" = Read ] && blk=$((blk+v)); done <"$cg/blkio/blkio.throttle.io_service_bytes"
  fi
  # A process that ends takes its share along.
  sto=0 calls=0 n=0
  for f in "$proc"/[0-9]*/io; do
    [ $n -lt 256 ] || break
    n=$((n+1))
    while read -r k v; do case $k in rchar:) calls=$((calls+v));; read_bytes:) sto=$((sto+v)); break;; esac; done <"$f"
  done
  av= sw= sf=
  while read -r k v l; do case $k in MemAvailable:) av=$v;; SwapTotal:) sw=$v;; SwapFree:) sf=$v; break;; esac; done <"$proc/meminfo"
  line="cgroup version=$ver memory=$mem max=$max anon=$anon file=$file shmem=$shm swap=$swap cpu=$cpu cpu_ns=$ns block=$blk storage=$sto calls=$calls oom=$oom available_kb=$av swap_kb=$sw swap_free_kb=$sf"
} 2>/dev/null
# The size of the model, as its index says; a file system that does not answer must not hold us.
weigh() {
  [ "$model" ] && command -v timeout >/dev/null || return
  v=$(timeout -s KILL 10 head -c 4096 "$model/model.safetensors.index.json" | tr -d ' \n' | sed -n 's/.*"total_size":\([0-9][0-9]*\).*/\1/p')
  [ "$v" ] || v=$(timeout -s KILL 10 stat -Lc %s "$model/model.safetensors")
  [ "$v" ] && say "model bytes=$v"
}
lead() {
  mkdir -m 700 "$dir" 2>/dev/null
  [ -z "$dir" ] || (set -C; say $me >"$dir/owner") 2>/dev/null || return
  leads=1
  gpus & gpu=$!
}
finish() {
  trap '' TERM
  kill $gpu $nap
  [ "$leads" ] && [ "$dir" ] && owned && rm -rf "$dir"
  exit 0
} 2>/dev/null
nap=
trap finish TERM INT HUP PIPE
weigh 2>/dev/null &
lead
beat=0
while kill -0 $boss 2>/dev/null; do
  beat=$((beat+1))
  if [ "$leads" ]; then
    if owned; then host; say "$line"; leave host "$me.$beat" "$line"
    else leads=; kill $gpu 2>/dev/null; gpu=
    fi
  else
    idle=$((idle+1))
    fetch host "$hs" && idle=0 hs=$fresh
    fetch gpu "$gs" && gs=$fresh
    # Its owner is gone, or as good as gone.
    [ $idle -lt 6 ] && [ -e "$dir/owner" ] || { idle=0; rm -f "$dir/owner"; lead; }
  fi
  sleep $every & nap=$!; wait $nap
done
finish

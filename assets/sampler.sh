# ncclscope's sampler: prints what GPUs and container do while somebody writes a line to its standard input now
# and then. Ends with its input, or when no line came for a lease. Reads only; at most one measures per container:
# who comes later prints what the first one left beside its lock, and takes over when nothing new comes.
# $1 lease, seconds   $2 milliseconds between readings   $3 $4 $5 queries for nvidia-smi, richest first
# $6 folder of the model, may be empty   $7 cgroup's root   $8 proc   $9 folders for the lock
lease=$1 ms=$2 full=$3 old=$4 core=$5 model=$6 cg=$7 proc=$8 places=$9
me=$$ leads='' gpu='' idle=0 seen_host='' seen_gpu=''

say() { printf '%s\n' "$1"; }

# The lock: a folder of our own, and in it a file that only one can create.
dir=''
for place in $places; do
    if [ -d "$place" ] && [ -w "$place" ]; then
        dir=$place/.ncclscope-sampler
        mkdir -m 700 "$dir" 2>/dev/null
        if [ -d "$dir" ] && [ ! -L "$dir" ] && [ -O "$dir" ] && [ -w "$dir" ]; then break; fi
        dir=''
    fi
done

claim() {
    [ -z "$dir" ] && return 0
    (set -C; say "$me" >"$dir/owner") 2>/dev/null
}

owned() {
    [ -z "$dir" ] && return 0
    holder=''
    [ -r "$dir/owner" ] && read -r holder <"$dir/owner"
    [ "$holder" = "$me" ]
}

# Leaves lines for those who come later; the last one proves that they are whole.
leave() {
    [ -n "$dir" ] && printf '%s\nend %s\n' "$3" "$2" >"$dir/$1"
}

# Prints what the one who measures left, if it is whole and new: fresh is its number.
fetch() {
    lines='' fresh=''
    [ -r "$dir/$1" ] || return 1
    while IFS= read -r line; do
        case $line in
        'end '*) fresh=${line#end } ;;
        *) lines="$lines$line
" ;;
        esac
    done <"$dir/$1"
    [ -n "$fresh" ] && [ "$fresh" != "$2" ] && printf '%s' "$lines"
}

# Passes nvidia-smi's lines on, and leaves each round of them.
relay() {
    pid='' first='' block='' round=0
    trap '[ -n "$pid" ] && kill "$pid" 2>/dev/null; exit 0' TERM
    while IFS= read -r line; do
        case $line in
        'pid '*) pid=${line#pid }; continue ;;
        'rc '*) say "trouble why=nvidia-smi ended with ${line#rc }"; continue ;;
        esac
        say "$line"
        kill -0 "$me" 2>/dev/null || { kill "$pid"; exit 0; }
        index=${line%%,*}
        if [ "$index" = "$first" ]; then
            round=$((round + 1))
            leave gpu "$me.$round" "$block"
            block=''
        fi
        [ -z "$first" ] && first=$index
        block="${block:+$block
}$line"
    done
}

gpus() {
    now='' wait=1
    trap '[ -n "$now" ] && kill "$now" 2>/dev/null; exit 0' TERM
    smi=nvidia-smi
    if ! command -v "$smi" >/dev/null 2>&1; then
        smi=''
        for path in /usr/bin/nvidia-smi /usr/local/nvidia/bin/nvidia-smi; do
            [ -x "$path" ] && smi=$path
        done
    fi
    if [ -z "$smi" ]; then
        say 'trouble why=no nvidia-smi in this container (the runtime injects it where NVIDIA_DRIVER_CAPABILITIES has utility)'
        return
    fi
    while :; do
        # One field that the driver does not know makes a whole query fail.
        for query in "$full" "$old" "$core"; do
            "$smi" --query-gpu="$query" --format=csv,noheader,nounits >/dev/null 2>&1 && break
        done
        {
            "$smi" --query-gpu="$query" --format=csv,noheader,nounits --loop-ms="$ms" </dev/null 2>&1 &
            say "pid $!"
            wait $!
            say "rc $?"
        } | relay &
        now=$!
        wait "$now"
        sleep "$wait" >/dev/null 2>&1 &
        now=$!
        wait "$now"
        [ "$wait" -lt 32 ] && wait=$((wait * 2))
    done
}

get() {
    got=''
    [ -r "$1" ] && read -r got <"$1"
}

# Sums over the processes that may be looked at; a process that ends takes its share along.
reads() {
    storage=0 calls=0 count=0
    for f in "$proc"/[0-9]*/io; do
        [ "$count" -ge 256 ] && break
        count=$((count + 1))
        while read -r k v; do
            case $k in
            rchar:) calls=$((calls + v)) ;;
            read_bytes:) storage=$((storage + v)); break ;;
            esac
        done <"$f"
    done
} 2>/dev/null

host() {
    version='' memory='' max='' anon='' file='' shmem='' swap='' cpu='' cpu_ns='' block='' oom=''
    if [ -f "$cg/cgroup.controllers" ]; then
        version=2
        get "$cg/memory.current"; memory=$got
        get "$cg/memory.max"; max=$got
        get "$cg/memory.swap.current"; swap=$got
        [ -r "$cg/memory.stat" ] && while read -r k v; do
            case $k in
            anon) anon=$v ;;
            file) file=$v ;;
            shmem) shmem=$v; break ;;
            esac
        done <"$cg/memory.stat"
        [ -r "$cg/cpu.stat" ] && read -r k cpu <"$cg/cpu.stat"
        [ -r "$cg/memory.events" ] && while read -r k v; do
            [ "$k" = oom_kill ] && oom=$v
        done <"$cg/memory.events"
        if [ -r "$cg/io.stat" ]; then
            block=0
            while read -r device stats; do
                for pair in $stats; do
                    case $pair in rbytes=*) block=$((block + ${pair#rbytes=})) ;; esac
                done
            done <"$cg/io.stat"
        fi
    elif [ -r "$cg/memory/memory.usage_in_bytes" ]; then
        version=1
        get "$cg/memory/memory.usage_in_bytes"; memory=$got
        get "$cg/memory/memory.limit_in_bytes"; max=$got
        [ -r "$cg/memory/memory.stat" ] && while read -r k v; do
            case $k in
            cache) file=$v ;;
            rss) anon=$v ;;
            shmem) shmem=$v ;;
            swap) swap=$v; break ;;
            esac
        done <"$cg/memory/memory.stat"
        get "$cg/cpuacct/cpuacct.usage"; cpu_ns=$got
        [ -r "$cg/memory/memory.oom_control" ] && while read -r k v; do
            [ "$k" = oom_kill ] && oom=$v
        done <"$cg/memory/memory.oom_control"
        if [ -r "$cg/blkio/blkio.throttle.io_service_bytes" ]; then
            block=0
            while read -r device k v; do
                [ "$k" = Read ] && block=$((block + v))
            done <"$cg/blkio/blkio.throttle.io_service_bytes"
        fi
    fi
    reads
    available='' swap_all='' swap_free=''
    [ -r "$proc/meminfo" ] && while read -r k v unit; do
        case $k in
        MemAvailable:) available=$v ;;
        SwapTotal:) swap_all=$v ;;
        SwapFree:) swap_free=$v; break ;;
        esac
    done <"$proc/meminfo"
    line="cgroup version=$version memory=$memory max=$max anon=$anon file=$file shmem=$shmem swap=$swap cpu=$cpu cpu_ns=$cpu_ns block=$block storage=$storage calls=$calls oom=$oom available_kb=$available swap_kb=$swap_all swap_free_kb=$swap_free"
}

# The size of the model as its index says; a file system that does not answer must not hold us.
weigh() {
    [ -n "$model" ] && command -v timeout >/dev/null 2>&1 || return
    index=$model/model.safetensors.index.json
    bytes=$(timeout -s KILL 10 head -c 4096 "$index" 2>/dev/null | tr -d ' \n' | sed -n 's/.*"total_size":\([0-9][0-9]*\).*/\1/p')
    [ -n "$bytes" ] || bytes=$(timeout -s KILL 10 stat -Lc %s "$model/model.safetensors" 2>/dev/null)
    [ -n "$bytes" ] && say "model bytes=$bytes"
}

lead() {
    claim || return 1
    leads=1 idle=0
    gpus &
    gpu=$!
}

follow() {
    leads=''
    [ -n "$gpu" ] && kill "$gpu" 2>/dev/null
    gpu=''
}

# Counts the lease down; every line on standard input winds it up again.
watch() {
    left=$lease
    trap 'left=$lease' USR1
    while [ "$left" -gt 0 ]; do
        sleep 5
        left=$((left - 5))
        kill -0 "$me" 2>/dev/null || exit 0
    done
    kill "$me"
}

finish() {
    trap '' TERM
    [ -n "$gpu" ] && kill "$gpu" 2>/dev/null
    kill "$dog" 2>/dev/null
    [ -n "$leads" ] && [ -n "$dir" ] && owned && rm -f "$dir/owner" "$dir/gpu" "$dir/host" && rmdir "$dir" 2>/dev/null
    exit 0
}

# Until its own trap stands, a signal must not end it.
trap '' USR1
watch </dev/null >/dev/null 2>&1 &
dog=$!
trap finish TERM INT HUP PIPE
weigh </dev/null 2>/dev/null &
lead || say 'second viewer'
beat=0
while read -r _; do
    kill -USR1 "$dog" 2>/dev/null || break
    beat=$((beat + 1))
    if [ -n "$leads" ]; then
        if owned; then
            host
            say "$line"
            leave host "$me.$beat" "$line"
        else
            follow
        fi
    else
        idle=$((idle + 1))
        fetch host "$seen_host" && idle=0 seen_host=$fresh
        fetch gpu "$seen_gpu" && seen_gpu=$fresh
        if [ "$idle" -ge 6 ]; then
            # Its owner is gone, or as good as gone.
            rm -f "$dir/owner"
            lead
        fi
    fi
done
finish

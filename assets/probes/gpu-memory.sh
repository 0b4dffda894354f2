# Memory of the GPUs and who holds it. From inside a container other containers' processes stay hidden.
q=index,uuid,pci.bus_id,memory.used,memory.total,utilization.gpu
tool gpu nvidia-smi --query-gpu=$q --format=csv,noheader,nounits || exit 0
q=gpu_uuid,pid,used_memory,process_name
tool app nvidia-smi --query-compute-apps=$q --format=csv,noheader,nounits
for p in /proc/[0-9]*; do
  [ -r "$p/cmdline" ] || continue
  c=$({ tr '\0' ' ' <"$p/cmdline" | head -c 80; } 2>/dev/null)
  case $c in *ncclscope*) continue ;; esac
  case $c in *VLLM*|*vllm*|*ray*|*python*) say own "${p#/proc/}" "$c" ;; esac
done
exit 0

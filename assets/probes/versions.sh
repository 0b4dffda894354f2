# $1 the folder of processes (/proc): versions of what is installed, and of the NCCL that is loaded.
if have python3; then
  within 15 python3 -c '
from importlib import metadata
for name in ("vllm", "torch", "ray", "transformers", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"):
    try: print("package\t%s\t%s" % (name, metadata.version(name)))
    except Exception: pass
' 2>/dev/null || say failed package 1 'python3 could not list packages'
else
  say absent package python3
fi
libs=$(for m in "$1"/[0-9]*/maps; do
  [ -r "$m" ] && { sed -n 's#^[^/]*\(/.*libnccl\.so[^ ]*\).*#\1#p' <"$m"; } 2>/dev/null
done | sort -u | head -n 8)
printf '%s\n' "$libs" | while IFS= read -r l; do
  [ -n "$l" ] || continue
  v=; [ -r "$l" ] && v=$(within 10 grep -a -o -m 1 'NCCL version [0-9.]*+cuda[0-9.]*' <"$l" | head -n 1)
  say library "$l" "${v#NCCL version }"
done
[ -n "${VLLM_NCCL_SO_PATH-}" ] && say chosen "$VLLM_NCCL_SO_PATH"
if [ -r "$1/driver/nvidia/version" ]; then head -n 1 <"$1/driver/nvidia/version" | each module; fi
if have nvidia-smi; then tool driver nvidia-smi --query-gpu=driver_version --format=csv,noheader; fi
exit 0

# $1 the folder of processes (/proc). Names of the allow-list with their values; of a name that smells of a
# secret only that it is set. Nothing else leaves the container.
proc=$1; shown=; seen=0
list() {
  # A value may hold line ends: they become spaces before anything is matched.
  tr '\n\0' ' \n' <"$1" | while IFS= read -r kv; do
    k=${kv%%=*}; v=${kv#*=}
    case $k in
      *[!A-Za-z0-9_]*|'') continue ;;
      NCCL_*|GLOO_*|VLLM_*|CUDA_*|NVIDIA_*|HF_*|HUGGING*|TRANSFORMERS_*|TORCH_*|TORCHINDUCTOR_*|PYTORCH_*|RAY_*|UCX_*|UCC_*|LWS_*|OMP_NUM_THREADS) ;;
      MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE|LOCAL_RANK|NODE_RANK|PET_*|JOB_COMPLETION_INDEX|POD_IP|HOST_IP|DO_NOT_TRACK|LD_LIBRARY_PATH|LD_PRELOAD|HOME|TMPDIR) ;;
      *) continue ;;
    esac
    case $k in
      *KEY*|*TOKEN*|*SECRET*|*PASS*|*AUTH*|*CREDENTIAL*|*[Kk]ey*|*[Tt]oken*|*[Ss]ecret*|*[Pp]ass*|*[Aa]uth*) say secret "$k" ;;
      *)
        case $v in *://*@*) v=$(printf '%s' "$v" | sed 's#://[^/@]*@#://***@#g') ;; esac
        say var "$k" "$v" ;;
    esac
  done
}
for p in "$proc"/[0-9]*; do
  [ -r "$p/cmdline" ] || continue
  c=$({ tr '\0' ' ' <"$p/cmdline" | head -c 120; } 2>/dev/null)
  case $c in *vllm*|*VLLM*|*ray::*|*raylet*|*torchrun*) ;; *) continue ;; esac
  case $c in *ncclscope*) continue ;; esac
  [ -r "$p/environ" ] || { say denied "${p##*/}"; continue; }
  say process "${p##*/}" "${c%% *}"
  list "$p/environ"
  seen=1
  break
done
if [ $seen = 0 ]; then
  if [ -r "$proc/1/environ" ]; then
    say process 1 'the first process'
    list "$proc/1/environ"
  else
    say denied 1
  fi
fi

# GPUs that this container sees, and what their memory reports of errors.
if ! tool smi nvidia-smi -L; then
  for d in /dev/nvidia[0-9]*; do
    [ -e "$d" ] && say device "$d"
  done
fi
say visible "${CUDA_VISIBLE_DEVICES-}" "${NVIDIA_VISIBLE_DEVICES-}"
if have nvidia-smi; then
  q=index,pci.bus_id,ecc.errors.uncorrected.volatile.total
  tool ecc nvidia-smi --query-gpu=$q --format=csv,noheader,nounits
  q=gpu_bus_id,remapped_rows.uncorrectable,remapped_rows.pending,remapped_rows.failure
  tool remap nvidia-smi --query-remapped-rows=$q --format=csv,noheader,nounits
fi
exit 0

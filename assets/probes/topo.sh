# How the GPUs are connected, and whether bridges detour their traffic.
tool topo nvidia-smi topo -m
if have lspci; then
  a=$(within 10 lspci -vvv 2>/dev/null | grep 'ACSCtl:')
  if [ -n "$a" ]; then
    say acs "$(printf '%s\n' "$a" | grep -c 'ReqRedir+\|CmpltRedir+\|SrcValid+')" "$(printf '%s\n' "$a" | wc -l | tr -d ' ')"
  else
    say failed acs 1 'no ACSCtl line: lspci shows it to root on the node alone'
  fi
else
  say absent acs lspci
fi
if have nvidia-smi; then tool nvlink nvidia-smi nvlink --status; fi
exit 0

# ncclscope: begins every probe. Reads, and writes nothing but its answer: lines of fields parted by tabs.
LC_ALL=C; export LC_ALL
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/sbin:/sbin:/usr/local/nvidia/bin:/usr/local/cuda/bin; export PATH
have() { command -v "$1" >/dev/null 2>&1; }
# Bounds a command by seconds, where the image can.
within() {
  _s=$1; shift
  if have timeout; then timeout "$_s" "$@"; else "$@"; fi
}
# One line of the answer. What would break the line or its fields becomes a question mark.
say() {
  _l=; _t=
  for _f in "$@"; do
    case $_f in *[[:cntrl:]]*) _f=$(printf '%s' "$_f" | tr '[:cntrl:]' '?') ;; esac
    _l=$_l$_t$_f; _t='	'
  done
  printf '%s\n' "$_l"
}
# Lines of a tool, each behind a word.
each() {
  while IFS= read -r _line || [ -n "$_line" ]; do say "$1" "$_line"; done
}
# Runs a tool for at most 10 s: its lines behind the word, or `failed`, the word, and its first words.
tool() {
  _w=$1; shift
  if ! have "$1"; then say absent "$_w" "$1"; return 1; fi
  _o=$(within 10 "$@" 2>&1); _r=$?
  if [ $_r -eq 0 ]; then
    printf '%s\n' "$_o" | each "$_w"
  else
    say failed "$_w" "$_r" "$(printf '%s' "$_o" | head -n 3 | head -c 300)"
  fi
  return $_r
}

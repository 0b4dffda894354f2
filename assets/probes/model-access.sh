# $1 the model or nothing: who are we, may we read it, may we write where vLLM writes?
say id "$(id -u)" "$(id -g)" "$(id -G)" "$(id -un 2>/dev/null || echo '?')"
mode() { stat -L -c '%u %g %a' "$1" 2>/dev/null || echo '? ? ?'; }
may() {
  _m=
  [ -r "$1" ] && _m=r
  [ -w "$1" ] && _m=${_m}w
  [ -x "$1" ] && _m=${_m}x
  printf '%s' "${_m:--}"
}
model=$1
case $model in
  /*)
    p=$model
    while :; do
      if [ -e "$p" ]; then say at "$(mode "$p")" "$(may "$p")" "$p"; else say absent "$p"; fi
      [ "$p" = / ] && break
      p=$(dirname "$p")
    done
    if [ -d "$model" ]; then
      n=0
      for f in "$model"/*; do
        if [ -e "$f" ] && [ ! -r "$f" ]; then
          n=$((n + 1))
          [ $n -le 20 ] && say denied "$(mode "$f")" "${f##*/}"
        fi
      done
    fi ;;
esac
cache() {
  if [ -n "$2" ]; then
    p=$2
    # What does not exist is made by vLLM in the nearest folder that does.
    while [ ! -e "$p" ] && [ "$p" != / ] && [ "$p" != . ]; do p=$(dirname "$p"); done
    if [ -w "$p" ]; then say cache "$1" yes "$2"; else say cache "$1" no "$2"; fi
  else
    say cache "$1" unset ''
  fi
}
cache HOME "${HOME:-}"
cache HF_HOME "${HF_HOME:-${HOME:+$HOME/.cache/huggingface}}"
cache VLLM_CACHE_ROOT "${VLLM_CACHE_ROOT:-${HOME:+$HOME/.cache/vllm}}"
cache TMPDIR "${TMPDIR:-/tmp}"
cache /dev/shm /dev/shm

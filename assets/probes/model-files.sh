# $1 the model: a folder, a file, or a name in the hub's cache. What is there, and does it fit its index?
model=$1
# What of config.json tells how much the weights weigh; nothing else of it leaves the pod.
cut="hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size \
tie_word_embeddings hidden_act hidden_activation torch_dtype dtype num_local_experts n_routed_experts num_experts \
moe_intermediate_size n_shared_experts shared_expert_intermediate_size first_k_dense_replace q_lora_rank kv_lora_rank \
qk_nope_head_dim qk_rope_head_dim v_head_dim quant_method bits"
if have python3; then
  exec python3 -I -S -c '
import json, os, re, struct, sys
model = sys.argv[1]
def say(*fields):
    line = "\t".join(re.sub("[\x00-\x1f\x7f]", "?", str(f)) for f in fields)
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
cut = set(sys.argv[2].split())
def words(e): return (e.strerror or str(e)) if isinstance(e, OSError) else str(e)[:120]
where = model
if not os.path.isabs(model) and not os.path.exists(model):
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("HOME") or "/", ".cache/huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    repo = os.path.join(hub, "models--" + model.replace("/", "--"))
    snaps = os.path.join(repo, "snapshots")
    try:
        newest = sorted(os.listdir(snaps), key=lambda n: os.stat(os.path.join(snaps, n)).st_mtime)
        where = os.path.join(snaps, newest[-1]) if newest else snaps
    except OSError as e:
        say("absent", repo, words(e)); sys.exit(0)
    try:
        for n in sorted(os.listdir(os.path.join(repo, "blobs")))[:2000]:
            if n.endswith(".incomplete"): say("incomplete", n)
    except OSError: pass
say("at", where)
if os.path.isfile(where):
    say("file", os.path.getsize(where), os.path.basename(where)); sys.exit(0)
try:
    names = sorted(os.listdir(where))
except OSError as e:
    say("absent" if isinstance(e, FileNotFoundError) else "denied", where, words(e)); sys.exit(0)
if len(names) > 4000: say("more", len(names) - 4000)
indexes = []
for n in names[:4000]:
    path = os.path.join(where, n)
    try:
        if os.path.isdir(path): continue
        size = os.stat(path).st_size
    except OSError as e:
        say("broken" if os.path.islink(path) else "denied", n, words(e)); continue
    say("file", size, n)
    if n.endswith(".incomplete"): say("incomplete", n)
    if n.endswith(".index.json"): indexes.append(path)
    try:
        with open(path, "rb") as f:
            head = f.read(64)
            if size < 1024 and head.startswith(b"version https://git-lfs"): say("pointer", n)
            if n.endswith(".safetensors") and size >= 8:
                long = struct.unpack("<Q", head[:8])[0]
                end = ""
                if long <= 100_000_000 and long + 8 <= size:
                    f.seek(8)
                    try:
                        table = json.loads(f.read(long))
                        end = max([v["data_offsets"][1] for k, v in table.items() if k != "__metadata__"] or [0])
                    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                        end = "bad"
                say("head", n, long, end)
            elif n.endswith(".json") and size < 20_000_000 and not n.endswith(".index.json"):
                f.seek(0)
                try: whole = json.loads(f.read())
                except ValueError as e: say("badjson", n, words(e)); continue
                if n == "config.json" and isinstance(whole, dict):
                    for part in (whole, whole.get("text_config"), whole.get("quantization_config")):
                        for k in sorted(cut & set(part if isinstance(part, dict) else ())): say("config", k, part[k])
    except OSError as e:
        say("denied", n, words(e))
for path in indexes:
    try:
        with open(path, "rb") as f: index = json.load(f)
        for s in sorted(map(str, set(index["weight_map"].values()))): say("shard", s)
        total = (index.get("metadata") or {}).get("total_size")
        if isinstance(total, (int, float)): say("total", int(total))
    except OSError as e: say("denied", os.path.basename(path), words(e))
    except (ValueError, KeyError, TypeError, AttributeError) as e: say("badjson", os.path.basename(path), words(e))
' "$model" "$cut"
fi
if [ ! -e "$model" ]; then
  case $model in
    /*) ;;
    *)
      home=${HF_HOME:-${HOME:-}/.cache/huggingface}
      repo=${HF_HUB_CACHE:-$home/hub}/models--$(printf '%s' "$model" | sed 's#/#--#g')
      for s in "$repo"/snapshots/*; do [ -d "$s" ] && model=$s; done
      for s in "$repo"/blobs/*.incomplete; do [ -e "$s" ] && say incomplete "${s##*/}"; done
      [ -d "$model" ] || model=$repo
      ;;
  esac
fi
if [ ! -e "$model" ]; then say absent "$model" 'No such file or directory'; exit 0; fi
say at "$model"
size() { stat -L -c %s "$1" 2>/dev/null || wc -c <"$1" 2>/dev/null || echo 0; }
if [ -f "$model" ]; then say file "$(size "$model")" "${model##*/}"; exit 0; fi
if [ ! -r "$model" ] || [ ! -x "$model" ]; then say denied "$model" 'Permission denied'; exit 0; fi
for f in "$model"/* "$model"/.[!.]*; do
  n=${f##*/}
  if [ -h "$f" ] && [ ! -e "$f" ]; then say broken "$n" 'No such file or directory'; continue; fi
  [ -f "$f" ] || continue
  s=$(size "$f")
  say file "$s" "$n"
  case $n in *.incomplete) say incomplete "$n" ;; esac
  if [ ! -r "$f" ]; then say denied "$n" 'Permission denied'; continue; fi
  if [ "$s" -lt 1024 ] && head -c 23 <"$f" | grep -q '^version https://git-lfs'; then say pointer "$n"; fi
  case $n in
    *.safetensors)
      if have od && [ "$s" -ge 8 ]; then
        say head "$n" "$(head -c 8 <"$f" | od -A n -t u8 | tr -d ' \n')" ''
      fi ;;
    *.index.json)
      grep -o '"[^"/]*\.\(safetensors\|bin\)"' <"$f" | sort -u | tr -d '"' | each shard
      total=$(head -c 4096 <"$f" | tr -d ' \n' | sed -n 's/.*"total_size":\([0-9][0-9]*\).*/\1/p')
      [ -z "$total" ] || say total "$total" ;;
    config.json)
      for k in $cut; do
        v=$(grep -o "\"$k\" *: *[^],}]*" <"$f" | head -n 1 | sed 's/^[^:]*: *//' | tr -d '" ')
        [ -z "$v" ] || say config "$k" "$v"
      done ;;
  esac
done

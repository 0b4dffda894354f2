# $1 the file that `vllm serve --config` names. Of its top level what tells how the job is cut, where its ranks
# meet and what memory they take; nothing else of it leaves the container.
file=$1
if [ ! -e "$file" ]; then say absent "$file"; exit 0; fi
if [ ! -f "$file" ] || [ ! -r "$file" ]; then say denied "$file"; exit 0; fi
size=$(($(head -c 262145 "$file" 2>/dev/null | wc -c)))
say at "$file" "$size"
if [ "$size" -gt 262144 ]; then say long; exit 0; fi
odd=0; begun=
while IFS= read -r line || [ -n "$line" ]; do
  line=${line%"$(printf '\r')"}
  case $line in
    # What is deeper belongs to a key above it.
    ''|[[:blank:]]*|'#'*|-|'- '*) continue ;;
    '---'|'--- '*) if [ -n "$begun" ]; then odd=$((odd + 1)); fi; begun=1; continue ;;
  esac
  begun=1
  key=${line%%:*}; rest=${line#*:}
  case $line in *:*) ;; *) key= ;; esac
  case $rest in ''|[[:blank:]]*) ;; *) key= ;; esac
  key=${key%"${key##*[![:blank:]]}"}
  case $key in '"'*'"') key=${key#?}; key=${key%?} ;; "'"*"'") key=${key#?}; key=${key%?} ;; esac
  case $key in
    ''|*[!A-Za-z0-9_.-]*) odd=$((odd + 1)) ;;
    model|model[-_]tag|served[-_]model[-_]name|dtype|quantization|load[-_]format|port|headless|nnodes) say line "$line" ;;
    tensor[-_]parallel[-_]size|pipeline[-_]parallel[-_]size|data[-_]parallel[-_]size) say line "$line" ;;
    decode[-_]context[-_]parallel[-_]size|prefill[-_]context[-_]parallel[-_]size) say line "$line" ;;
    data[-_]parallel[-_]size[-_]local|data[-_]parallel[-_]rank|data[-_]parallel[-_]start[-_]rank) say line "$line" ;;
    data[-_]parallel[-_]address|data[-_]parallel[-_]rpc[-_]port|data[-_]parallel[-_]backend) say line "$line" ;;
    enable[-_]expert[-_]parallel|enable[-_]eplb|all2all[-_]backend|distributed[-_]executor[-_]backend) say line "$line" ;;
    node[-_]rank|master[-_]addr|master[-_]port|api[-_]server[-_]count) say line "$line" ;;
    disable[-_]custom[-_]all[-_]reduce|enforce[-_]eager) say line "$line" ;;
    gpu[-_]memory[-_]utilization|kv[-_]cache[-_]dtype|kv[-_]cache[-_]memory[-_]bytes|cpu[-_]offload[-_]gb) say line "$line" ;;
    max[-_]model[-_]len|max[-_]num[-_]seqs|max[-_]num[-_]batched[-_]tokens) say line "$line" ;;
  esac
done <"$file"
if [ "$odd" -gt 0 ]; then say odd "$odd"; fi
say end

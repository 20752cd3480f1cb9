# Does what reader.pl does, with its requests and answers, for nodes without perl: bash and dd, with
# stat, cat, mktemp, od and find. All watched regions are sent each time, changed or not. The memory
# of a process is opened anew for each reading; that it is still the same program is looked at after.
# A program that is started costs 1 ms: a snap starts one dd for each region, and nothing besides
# while no process is new. So regions go out while they are read, before it is known whether they
# hold: a line `maybe PID LENGTH` announces LENGTH bytes and one more, `=` when they do.
export LC_ALL=C # lengths are bytes
proc=${1:-/proc}
limit=$((64 << 20)) soon=10000
own='' newest='' again=1 scanned=0 forks=0
declare -A address length key exe host born loose stack_of
shopt -s nullglob
for path in /dev/shm/kindcov-*; do # of a reader that was killed
  pid=${path#*-}
  [[ -e /proc/${pid%%.*} ]] || rm -rf -- "$path"
done
work=$(mktemp -d -p /dev/shm "kindcov-$$.XXXXXX" 2> /dev/null || mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT

frame() { # number of bytes, highest bit, text: the beginning of an answer
  local n=$(($1 | $2)) head
  printf -v head '\\x%02x' $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255))
  printf "$head%s" "$3"
}

answer() { # text, bytes in files, files
  frame $((${#1} + $2)) 0 "$1"
  shift 2
  (($# == 0)) || cat -- "$@"
}

refuse() {
  frame ${#1} $((1 << 31)) "$1"
}

container() { # pid; sets id
  local text=''
  id=''
  IFS= read -r -d '' text 2> /dev/null < "$proc/$1/cgroup"
  [[ -z $own ]] || text=${text//"$own"/}
  [[ $text =~ .*(^|[^0-9a-f])([0-9a-f]{64})([^0-9a-f]|$) ]] && id=${BASH_REMATCH[2]}
}

facts() { # pid; sets parent, started, stack
  local text='' fields
  IFS= read -r -d '' text 2> /dev/null < "$proc/$1/stat"
  [[ $text == *') '* ]] || return
  fields=(${text##*) }) # a letter and numbers; 10 times as fast as `read <<<`
  parent=${fields[1]} started=${fields[19]} stack=${fields[25]}
}

# pid, numbers; whether these are among its facts, in this order: in a quarter of the time of `facts`.
# A process names itself in 15 characters, so it cannot feign the start of its stack.
has() {
  local text=''
  mapfile -n 1 text 2> /dev/null < "$proc/$1/stat"
  [[ $text == *" $2 "*${3+" $3 "}* ]]
}

describe() { # pid; after container, facts and with its identity in file: sets line
  local text='' inner
  IFS= read -r -d '' text 2> /dev/null < "$proc/$1/status"
  [[ $text =~ NSpid:[^$'\n']*[[:space:]]([0-9]+)$'\n' ]] || return
  line="new $1 $started $stack ${BASH_REMATCH[1]} ${id:--} $file"$'\n'
}

identify() { # pid; sets line
  file=$(stat -L -c '%d %i %s %Y' "$proc/$1/exe" 2> /dev/null) || return
  container "$1"
  facts "$1" && describe "$1"
}

forget() {
  unset "address[$1]" "length[$1]" "key[$1]" "exe[$1]" "stack_of[$1]"
  loose[$1]=1
}

# Adds to lines; see reader.pl.
scan() {
  local uptime last new pids=() pid now=$EPOCHSECONDS file id parent started stack line young path paths found
  local own_stack
  local -A file_of here
  IFS=. read -r uptime _ 2> /dev/null < "$proc/uptime"
  read -r -a last 2> /dev/null < "$proc/loadavg"
  last=${last[4]}
  new=1
  [[ -z $last || $last != $((newest + forks)) ]] || new= # but for ours
  if [[ -n $again || -n $new || $now != "$scanned" ]]; then
    again=$new
    for path in "$proc"/[0-9]*; do
      pid=${path##*/}
      here[$pid]=1
      [[ -n ${born[$pid]} && $now == "$scanned" ]] || pids+=("$pid")
    done
    for pid in "${!born[@]}"; do
      [[ -n ${here[$pid]} ]] ||
        unset "exe[$pid]" "host[$pid]" "born[$pid]" "loose[$pid]" "stack_of[$pid]"
    done
  fi
  if [[ $now == "$scanned" ]]; then # else all are among them
    for pid in "${!loose[@]}"; do
      [[ -z ${address[$pid]} ]] || continue
      [[ -z ${stack_of[$pid]} ]] || ! has "$pid" "${stack_of[$pid]}" || continue
      facts "$pid" || continue
      stack_of[$pid]=$stack
      pids+=("$pid")
    done
  fi
  newest=$last forks=0 scanned=$now
  paths=()
  for pid in "${pids[@]}"; do
    [[ -n ${address[$pid]} ]] || paths+=("$proc/$pid/exe")
  done
  ((${#paths[@]})) || return 0
  forks=1
  mapfile -t found < <(exec stat -L -c '%n %d %i %s %Y' "${paths[@]}" 2> /dev/null)
  for path in "${found[@]}"; do
    pid=${path#"$proc"/}
    file_of[${pid%%/*}]=${path#* }
  done
  for path in "${paths[@]}"; do
    pid=${path#"$proc"/} pid=${pid%/exe} file=${file_of[$pid]}
    [[ ${exe[$pid]-none} != "$file" || -n ${loose[$pid]} ]] || continue
    if [[ -z ${born[$pid]} ]]; then
      born[$pid]=$now
      ! facts "$pid" || [[ -z $uptime ]] || born[$pid]=$((now - uptime + started / 100))
    fi
    young=$((now - born[$pid] <= 10))
    if [[ -n ${exe[$pid]+known} && ${exe[$pid]} == "$file" ]]; then
      if ! ((young)); then
        unset "loose[$pid]"
        continue
      fi
      [[ -n ${host[$pid]} ]] || continue
    fi
    id=''
    [[ -z $file ]] || container "$pid"
    if [[ -z $id ]]; then
      exe[$pid]=$file host[$pid]=1
      ! ((young)) || loose[$pid]=1
      continue
    fi
    loose[$pid]=1
    unset "host[$pid]" "exe[$pid]"
    facts "$pid" || continue
    describe "$pid" || continue
    own_stack=$stack
    if ((now - born[$pid] <= 1)) && [[ ${file_of[$parent]:-${exe[$parent]}} == "$file" ]] &&
      facts "$parent" && [[ $stack == "$own_stack" ]]; then
      continue # between vfork and exec
    fi
    lines+=$line
    exe[$pid]=$file
  done
}

peek() { # pid, address, length, file: the bytes, all or none
  dd if="$proc/$1/mem" of="$4" bs="$3" count=1 skip="$2" iflag=skip_bytes,fullblock \
    status=none 2> /dev/null && [[ -s $4 ]]
}

is_same() { # pid; whether it still runs the program that is watched
  [[ -n ${key[$1]} ]] && has "$1" "${key[$1]% *}" "${key[$1]#* }"
}

snap() { # microseconds before it
  local lines='' maybe=() total=0 pid said sent holds pause
  if (($1)); then
    printf -v pause '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000))
    read -r -t "$pause" -u "$never"
  fi
  for pid in "${!address[@]}"; do
    if is_same "$pid"; then
      lines+="maybe $pid ${length[$pid]}"$'\n'
      maybe+=("$pid")
      total=$((total + length[$pid] + 1))
    else
      lines+="gone $pid"$'\n'
      forget "$pid"
    fi
  done
  (($1 && $1 <= soon && scanned)) || scan
  answer "$lines"$'\n' "$total"
  for pid in "${maybe[@]}"; do
    dd if="$proc/$pid/mem" bs="${length[$pid]}" count=1 skip="${address[$pid]}" \
      iflag=skip_bytes,fullblock 2> "$work/said"
    forks=$((forks + 1))
    sent=0 holds='!'
    mapfile -t said < "$work/said" # the last line: 126024 bytes (126 kB, 123 KiB) copied, ...
    [[ ! ${said[*]: -1} =~ ^([0-9]+)\ bytes ]] || sent=${BASH_REMATCH[1]}
    if ((sent == length[$pid])) && is_same "$pid"; then holds='='; else key[$pid]=; fi # gone next time
    printf '%*s%s' $((length[$pid] - sent)) '' "$holds"
  done
}

watch() { # pid, address, length, address of the known bytes, these in hex
  local line file id parent started stack before found
  (($3 <= limit)) || { refuse 'too long'; return; }
  facts "$1" && before="$started $stack" && peek "$1" "$4" $((${#5} / 2)) "$work/check" ||
    { refuse gone; return; }
  found=$(od -An -v -tx1 "$work/check")
  [[ ${found//[[:space:]]/} == "$5" ]] || { refuse differs; return; }
  peek "$1" "$2" "$3" "$work/$1" && identify "$1" && [[ "$started $stack" == "$before" ]] ||
    { refuse gone; return; }
  address[$1]=$2 length[$1]=$3 key[$1]="$started $stack"
  answer "${line}data $1 $3"$'\n\n' "$3" "$work/$1"
}

fetch() { # offset, length, path
  local flags=skip_bytes,count_bytes,fullblock,nonblock size
  (($2 <= limit)) || { refuse 'too long'; return; }
  [[ $3 == "$proc"/* ]] || flags+=,nofollow
  [[ -f $3 && ($3 == "$proc"/* || ! -L $3) ]] || { refuse "$3: not a file"; return; }
  # What is read before an error, as at the end of a mapping, counts.
  dd if="$3" of="$work/file" bs=64K skip="$1" count="$2" iflag="$flags" status=none 2> /dev/null
  size=$(stat -c %s "$work/file" 2> /dev/null) || { refuse "$3: cannot be read"; return; }
  answer '' "$size" "$work/file"
  rm -f -- "$work/file"
}

list() {
  local found=''
  [[ ! -d $2 ]] ||
    found=$(find "$2/" -maxdepth 1 -type f -name "$1*" ! -name $'*\n*' -printf '%s %f\n' 2> /dev/null | head -n 20000)
  answer "${found:+$found$'\n'}" 0
}

# The node's own id, where the cgroup namespace is the host's. Its first process is not in a pod, as
# this may be.
container 1
own=$id
number='([0-9]{1,15})'
exec {never}<> <(:) # nothing ever comes; a sleep would be one more program
while IFS= read -r request; do
  if [[ $request =~ ^snap\ $number$ ]]; then
    snap "${BASH_REMATCH[1]}"
  elif [[ $request =~ ^watch\ $number\ $number\ $number\ $number\ (([0-9a-f]{2}){1,64})$ ]]; then
    watch "${BASH_REMATCH[@]:1:5}"
  elif [[ $request =~ ^identify\ $number$ ]]; then
    if identify "${BASH_REMATCH[1]}"; then answer "$line"$'\n' 0; else refuse gone; fi
  elif [[ $request =~ ^unwatch\ $number$ ]]; then
    [[ -z ${address[${BASH_REMATCH[1]}]} ]] || forget "${BASH_REMATCH[1]}"
    answer '' 0
  elif [[ $request =~ ^read\ $number\ $number\ (/.+)$ ]]; then
    fetch "${BASH_REMATCH[@]:1:3}"
  elif [[ $request =~ ^list\ ([a-z.]*)\ (/.+)$ ]]; then
    list "${BASH_REMATCH[@]:1:2}"
  else
    refuse 'not a request'
  fi
done

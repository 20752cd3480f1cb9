#!/bin/bash
# Gives every container its own directory for coverage data. Run by runc on the node for each new
# container, inside its mount namespace before it starts (OCI hook "createContainer").
# A hook that fails keeps the container from starting: whatever happens, exit 0.
base=/var/lib/kindcov
inside=/kindcov

bind_data() { # bind the data directory over a directory of the container, if nothing else is there
  local target
  target=$(realpath -m -- "$root$1") || return
  [[ $target == "$root"/* ]] || return # a symbolic link of the image that leads elsewhere
  mkdir -p -- "$target" || return
  ls -A -- "$target" | grep -qvE '^(tmp\.)?cov(meta|counters)\.' && return
  mount --bind -- "$dir/data" "$target"
}

main() {
  local state config id bundle root dir own
  state=$(cat)
  [[ $state == *'"io.kubernetes.cri.container-type":"container"'* ]] || return # a pod's sandbox
  [[ $state =~ \"id\":\"([0-9a-f]{64})\" ]] || return
  id=${BASH_REMATCH[1]}
  [[ $state =~ \"bundle\":\"([^\"]+)\" ]] || return
  bundle=${BASH_REMATCH[1]}
  root=$(realpath -- "$bundle/rootfs") || return
  dir=$base/containers/$id
  mkdir -p -- "$dir/data" && chmod 1777 -- "$dir/data" || return
  own=$(grep -oE '"GOCOVERDIR=/[^"\\]+"' "$bundle/config.json" | tail -n 1)
  own=${own#'"GOCOVERDIR='} own=${own%'"'}
  printf '%s' "$state" > "$dir/state.json"
  bind_data "${own:-$inside}"
}

mkdir -p -- "$base/containers" && chmod 0700 "$base"
main 2>> "$base/hook.log"
exit 0

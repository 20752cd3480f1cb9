#!/bin/bash
# Stands in runc's place on the node while coverage is on: gives each container that is created a
# directory of its own for coverage data, and GOCOVERDIR, by its config.json; then it becomes runc.
# Whatever goes wrong here, runc must run: the container starts as if nothing had been.
real=${BASH_SOURCE[0]}.before-kindcov
base=/var/lib/kindcov
inside=/kindcov

bundle_of_create() { # the value of --bundle of a `runc create`, among the flags that containerd gives
  local command='' bundle=''
  while (($#)); do
    case $1 in
      create) command=create ;;
      --bundle) bundle=$2 ;;
    esac
    shift
  done
  [[ $command == create ]] && printf '%s' "$bundle"
}

foreign_files() { # whether a directory on the node holds anything but coverage data
  ls -A -- "$1" 2>/dev/null | grep -qvE '^(tmp\.)?cov(meta|counters)\.'
}

wanted() { # whether the container of a config.json is to get one: all are, unless there is a list
  local found its=() namespace image container pod
  [[ -e $base/wanted ]] || return 0
  found=$(jq -r '.annotations | [.["io.kubernetes.cri." + ("sandbox-namespace", "image-name",
    "container-name", "sandbox-name")]] | .[]' "$1")
  mapfile -t its <<< "$found"
  while read -r namespace image container pod; do
    [[ ${its[0]} == "$namespace" ]] || continue
    [[ ${its[1]} != "$image" ]] || return 0
    [[ ${its[2]} != "$container" || ${its[3]}- != "$pod"-* ]] || return 0
  done < "$base/wanted"
  return 1
}

give_directory() {
  local bundle=$1 config=$1/config.json id dir own source target=$inside
  id=${bundle##*/}
  [[ $id =~ ^[0-9a-f]{64}$ ]] || return
  # Not for a pod's sandbox.
  jq -e '.annotations["io.kubernetes.cri.container-type"] == "container"' "$config" >/dev/null || return
  wanted "$config" || return
  own=$(jq -r '[.process.env[]? | select(startswith("GOCOVERDIR=/"))] | last // "" | .[11:]' "$config")
  if [[ -n $own && $own != "$inside" ]]; then
    # The workload's own choice stays, with our directory under it, unless other files live there.
    source=$(jq -r --arg own "$own" '[.mounts[]? | select(.destination == $own) | .source] | last // ""' "$config")
    foreign_files "${source:-$bundle/rootfs$own}" && return
    target=$own
  fi
  dir=$base/containers/$id
  mkdir -p -- "$dir/data" && chmod 1777 -- "$dir/data" || return
  jq '{annotations}' "$config" > "$dir/state.json" || { rm -rf -- "$dir"; return; } # a full disk
  jq --arg source "$dir/data" --arg target "$target" '
    .process.env = [.process.env[]? | select(startswith("GOCOVERDIR=") | not)] + ["GOCOVERDIR=" + $target]
    | .mounts += [{destination: $target, type: "bind", source: $source, options: ["rbind", "rprivate", "rw"]}]
  ' "$config" > "$config.kindcov" && mv -f -- "$config.kindcov" "$config"
}

bundle=$(bundle_of_create "$@")
if [[ -n $bundle ]]; then
  give_directory "$bundle" >> "$base/inject.log" 2>&1
fi
exec "$real" "$@"

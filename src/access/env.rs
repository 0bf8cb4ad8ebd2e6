//! `env`, to be sourced by a shell.

/// POSIX sh, tried under dash, busybox and bash. It holds nothing of the cluster: what it exports are paths.
///
/// POSIX gives a sourced file no way to know its own path. bash and zsh tell it; other shells keep the file open while
/// they read it, which /proc shows.
pub const SCRIPT: &str = r##"# Source me: . nodes/env
# Sets NODES_DIR (this directory), ANSIBLE_INVENTORY, and KUBECONFIG where a kubeconfig was collected.

_nodes_is() { [ -f "$1/nodes.json" ] && [ -f "$1/ssh_config" ] && [ -f "$1/env" ]; }

_nodes_here=
if [ -n "${BASH_SOURCE:-}" ]; then
  _nodes_here=$(dirname -- "$BASH_SOURCE")
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_nodes_here=${${(%):-%x}:A:h}'
else
  # The shell's own process number; $$ would be the parent's in a subshell.
  _nodes_pid=$(exec sh -c 'echo "$PPID"')
  for _nodes_fd in "/proc/$_nodes_pid/fd"/*; do
    _nodes_file=$(readlink "$_nodes_fd" 2>/dev/null) || continue
    case $_nodes_file in
    */env) if _nodes_is "${_nodes_file%/env}"; then _nodes_here=${_nodes_file%/env}; fi ;;
    esac
  done
fi
if [ -z "$_nodes_here" ] || ! _nodes_is "$_nodes_here"; then
  if [ -n "${NODES_DIR:-}" ] && _nodes_is "$NODES_DIR"; then
    _nodes_here=$NODES_DIR
  elif _nodes_is .; then
    _nodes_here=.
  elif _nodes_is nodes; then
    _nodes_here=nodes
  else
    _nodes_here=
    echo "nodes: cannot tell where this env lies: set NODES_DIR to its directory, then source it again" >&2
  fi
fi

if [ -n "$_nodes_here" ]; then
  NODES_DIR=$(CDPATH='' cd -P -- "$_nodes_here" && pwd -P)
  ANSIBLE_INVENTORY=$NODES_DIR/inventory.yml
  export NODES_DIR ANSIBLE_INVENTORY
  if [ -f "$NODES_DIR/kubeconfig" ]; then
    KUBECONFIG=$NODES_DIR/kubeconfig
    export KUBECONFIG
  fi
  # Artifacts can lose their modes on the way between workers, and ssh takes no key that others may read.
  case $(ls -ldn -- "$NODES_DIR/id_ed25519") in
  -???------*) ;;
  *) chmod 600 "$NODES_DIR/id_ed25519" 2>/dev/null || : ;;
  esac
fi
unset -f _nodes_is
unset _nodes_pid _nodes_fd _nodes_file
if [ -n "$_nodes_here" ]; then
  unset _nodes_here
else
  unset _nodes_here
  false
fi
"##;
